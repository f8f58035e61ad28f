package tests

import (
	"slices"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// With CAP_NET_ADMIN and CAP_SYS_ADMIN alone, and killed if it started any
// process or program, flatnet does all its work through all doors, whatever is
// configured but a delegate and names.
func TestConfined(t *testing.T) {
	less := []string{tool(t, "confine"), "-caps", "-noexec"}
	b := newBox(t)
	b.NetNS("c1")
	add := call("ADD", "c1")
	add.Conf = withKeys(dual, `"macspoofchk":true,"portIsolation":true,"forwardAccept":true,"runtimeConfig":{
		"portMappings":[`+mapping(8080, 80, "")+`,`+mapping(8053, 53, `,"protocol":"udp"`)+`],"bandwidth":{"ingressRate":1000000,"egressRate":1000000}}`)
	result := b.Call(program, add, less...)
	if result.Exit != 0 {
		t.Fatalf("ADD: exit %d: %s", result.Exit, result.Stdout)
	}
	check, del := add, add
	check.Command, check.Conf = "CHECK", lab.WithPrev(add.Conf, result)
	del.Command = "DEL"
	b.Run("nft", "flush", "ruleset")
	b.Run(slices.Concat(less, []string{program, "reload"})...)
	for _, c := range []lab.Call{check, {Command: "STATUS", Conf: newer(add.Conf)}, gc(lab.Conf, "c1"), del, {Command: "VERSION", Conf: lab.Conf}} {
		if r := b.Call(program, c, less...); r.Exit != 0 {
			t.Errorf("%s: exit %d: %s", c.Command, r.Exit, r.Stdout)
		}
	}
	for _, args := range [][]string{{"info"}, {"setup", "/run/netns/c1"}, {"list"}, {"teardown", "/run/netns/c1"}} {
		cmd := b.Cmd(slices.Concat(less, []string{program}, args)...)
		cmd.Stdin = strings.NewReader(podmanSays)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
	b.clean()
}

// podmanSays is what Podman 5 tells its plugin of c1, without names.
const podmanSays = `{"container_id":"c1","container_name":"c1",
	"port_mappings":[{"container_port":80,"host_ip":"","host_port":8080,"protocol":"tcp","range":1}],
	"network":{"name":"flatnet","id":"f1a7","driver":"flatnet","network_interface":"flatnet-br0","dns_enabled":false,"internal":false,"ipv6_enabled":false,
		"ipam_options":{"driver":"flatnet"},"subnets":[{"subnet":"10.87.1.0/24","gateway":"10.87.1.1"}]},
	"network_options":{"interface_name":"eth0","aliases":["c1"]}}`

// What the test above relies on: the filter kills who starts a process, which
// is what a delegated IPAM plugin is.
func TestConfinedMayNotDelegate(t *testing.T) {
	confine := tool(t, "confine")
	b := newBox(t)
	b.NetNS("c1")
	add := call("ADD", "c1")
	add.Conf = conf(`"ipam":{"type":"host-local","subnet":"10.87.1.0/24"}`)
	if r := b.Call(program, add, confine, "-caps"); r.Exit != 0 {
		t.Errorf("without the filter: exit %d: %s", r.Exit, r.Stdout)
	}
	b.do(lab.Call{Command: "DEL", ID: "c1", NetNS: add.NetNS, IfName: "eth0", Conf: add.Conf})
	if r := b.Call(program, add, confine, "-noexec"); r.Exit == 0 || r.Exit == 1 {
		t.Errorf("delegated in spite of the filter: exit %d: %s", r.Exit, r.Stdout)
	}
	for _, script := range []string{"/bin/true; exit 0", "exec /bin/true", "(exit 0); exit 0"} {
		if out, err := b.Try(confine, "-noexec", "sh", "-c", script); err == nil {
			t.Errorf("sh -c %q was not killed: %s", script, out)
		}
	}
	caps := b.Run(confine, "-caps", "grep", "-E", "^Cap(Prm|Eff|Bnd)|^NoNewPrivs", "/proc/self/status")
	if strings.Count(caps, "0000000000201000") != 3 || !strings.Contains(caps, "NoNewPrivs:\t1") {
		t.Errorf("capabilities are %s", caps)
	}
}

// Everything is validated before anything is touched: VERSION, and a call whose
// input is refused, make no socket and no directory, and remove nothing.
func TestRefusedCallsTouchNothing(t *testing.T) {
	b := newBox(t)
	for name, c := range map[string]lab.Call{
		"VERSION":            {Command: "VERSION", Conf: lab.Conf},
		"bad ID":             {Command: "ADD", ID: "../x", NetNS: "/run/netns/c1", IfName: "eth0", Conf: lab.Conf},
		"bad configuration":  {Command: "ADD", ID: "c1", NetNS: "/run/netns/c1", IfName: "eth0", Conf: conf(`"mtu":"x"`)},
		"bad JSON":           {Command: "ADD", ID: "c1", NetNS: "/run/netns/c1", IfName: "eth0", Conf: "{"},
		"missing variable":   {Command: "ADD", ID: "c1", IfName: "eth0", Conf: lab.Conf},
		"more than a config": {Command: "ADD", ID: "c1", NetNS: "/run/netns/c1", IfName: "eth0", Conf: lab.Conf + "{}"},
	} {
		b.Call(program, c, "strace", "-f", "-qq", "-o", "/run/trace", "-e", "trace=socket,mkdir,mkdirat,setns,unlinkat,renameat,flock")
		if trace := b.trace(); strings.Contains(trace, "(") {
			t.Errorf("%s: %s", name, trace)
		}
	}
}
