package tests

import (
	"strings"
	"testing"
)

// A subnet or destination with host bits is read without them, by both doors,
// which say so once on stderr.
func TestSubnetWithHostBits(t *testing.T) {
	t.Parallel()
	const said = `"10.99.5.7/24" has host bits set; it is read as 10.99.5.0/24`
	t.Run("CNI", func(t *testing.T) {
		b := newBox(t)
		b.NetNS("c1")
		add := call("ADD", "c1")
		add.Conf = `{"cniVersion":"1.0.0","name":"five","type":"flatnet","bridge":"br-five","noMasq":["10.99.0.1/16"],
			"ipam":{"ranges":[[{"subnet":"10.99.5.7/24"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"198.51.100.9/24"}]}}`
		r := b.Call(program, add, "sh", "-c", `exec "$0" 2>/run/stderr`)
		if r.Addr() != "10.99.5.2" || !strings.Contains(r.Stdout, `"198.51.100.0/24"`) {
			t.Errorf("got %s", r.Stdout)
		}
		stderr := b.Read("/run/stderr")
		for _, text := range []string{"ipam.ranges[0][0].subnet: " + said, `noMasq[0]: "10.99.0.1/16"`, `ipam.routes[1].dst: "198.51.100.9/24"`} {
			if strings.Count(stderr, text) != 1 {
				t.Errorf("stderr %q does not have %q once", stderr, text)
			}
		}
		if err := b.Ping("10.99.5.2"); err != nil {
			t.Error(err)
		}
		for _, command := range []string{"CHECK", "DEL"} {
			c := container{add: add, result: r}
			r := b.Call(program, c.then(command), "sh", "-c", `exec "$0" 2>/run/stderr`)
			if stderr := b.Read("/run/stderr"); r.Exit != 0 || stderr != "" {
				t.Errorf("%s: %s, says %q", command, r.Stdout, stderr)
			}
		}
	})
	t.Run("netavark", func(t *testing.T) {
		b := newBox(t)
		b.NetNS("c1")
		const network = `"name":"five","driver":"flatnet","network_interface":"br-five","subnets":[{"subnet":"10.99.5.7/24"}]`
		for _, c := range []struct{ command, stdin, stdout string }{
			{"create", "{" + network + "}", `"subnet":"10.99.5.0/24"`},
			{"setup /run/netns/c1", `{"container_id":"c1","network":{` + network + `},"network_options":{"interface_name":"eth0"}}`, `"10.99.5.2/24"`},
		} {
			cmd := b.Cmd("sh", "-c", `exec "$0" `+c.command+" 2>/run/stderr", program)
			cmd.Stdin = strings.NewReader(c.stdin)
			out, err := cmd.Output()
			if err != nil || !strings.Contains(string(out), c.stdout) {
				t.Errorf("%s: %s, %v", c.command, out, err)
			}
			if stderr := b.Read("/run/stderr"); strings.Count(stderr, said) != 1 {
				t.Errorf("%s says %q", c.command, stderr)
			}
		}
	})
}
