package tests

import (
	"slices"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// newer is a configuration in the version that brought STATUS and GC.
func newer(conf string) string { return strings.Replace(conf, "1.0.0", "1.1.0", 1) }

// One row for each cause for which STATUS says no; the error names it.
func TestSTATUS(t *testing.T) {
	const small = `"ipam":{"subnet":"10.87.1.0/24","rangeStart":"10.87.1.10","rangeEnd":"10.87.1.10"}`
	const there = "there" // a container is attached
	for _, c := range []struct {
		name, attached, spoil, keys string
		code                        int // 0: it must say yes
		texts                       []string
	}{
		{"a fresh host", "", ":", `"x":1`, 0, nil},
		{"a container that is attached", there, ":", `"x":1`, 0, nil},

		// Leases outlive a reboot, and runtimes may make no ADD until STATUS says yes.
		{"a reboot", there, "ip link del fn-c1; ip link del flatnet-br0; nft flush ruleset; echo 0 >/proc/sys/net/ipv4/ip_forward", `"x":1`, 0, nil},
		{"an ADD that has no more than its lease", there, "ip link del fn-c1; nft flush ruleset", `"x":1`, 0, nil},

		{"pool exhausted", there, ":", small, 50, []string{"10.87.1.10", "free"}},
		{"lease directory read-only", "", "mkdir -p /var/lib/flatnet/ipam; mount --bind -o ro /var/lib/flatnet/ipam /var/lib/flatnet/ipam; mount -o remount,ro,bind /var/lib/flatnet/ipam",
			`"x":1`, 50, []string{"/var/lib/flatnet/ipam", "read-only"}},
		{"lease directory a file", "", ": >/run/leases", `"ipam":{"dataDir":"/run/leases"}`, 50, []string{"/run/leases"}},
		{"no space for leases", "", "mount -t tmpfs -o size=4k t /var/lib/flatnet; mkdir /var/lib/flatnet/ipam; head -c 9000 /dev/zero >/var/lib/flatnet/x || :", `"x":1`, 50, []string{"no space"}},
		{"subnet is another interface's", "", "ip addr add 10.87.1.200/24 dev up0", `"x":1`, 50, []string{"10.87.1.0/24", "10.87.1.200", "up0"}},
		{"subnet is routed elsewhere", "", "ip route add 10.87.1.128/25 dev up0", `"x":1`, 50, []string{"10.87.1.128/25", "up0"}},
		{"bridge has another address", "", "ip link add flatnet-br0 type bridge; ip addr add 10.9.0.1/24 dev flatnet-br0", `"x":1`, 50, []string{"10.9.0.1", bridgeName}},
		{"bridge is none", "", "ip link add flatnet-br0 type veth peer name x", `"x":1`, 50, []string{bridgeName, "veth"}},

		{"bridge gone", there, "ip link del flatnet-br0", `"x":1`, 51, []string{bridgeName}},
		{"bridge down", there, "ip link set flatnet-br0 down", `"x":1`, 51, []string{bridgeName, "down"}},
		{"gateway address gone", there, "ip addr flush dev flatnet-br0", `"x":1`, 51, []string{gateway}},
		{"forwarding off", there, "echo 0 >/proc/sys/net/ipv4/ip_forward", `"x":1`, 51, []string{"ip_forward"}},
		{"rules flushed", there, "nft flush ruleset", `"x":1`, 51, []string{"10.87.1.0/24"}},
		{"rules changed", there, "nft flush table ip flatnet", `"x":1`, 51, []string{"10.87.1.0/24"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			status := lab.Call{Command: "STATUS", Conf: newer(conf(c.keys))}
			if c.attached != "" {
				b.attach("c1", func(call *lab.Call) { call.Conf = status.Conf })
			}
			b.Sh(c.spoil)
			before := b.state()
			if c.code == 0 {
				b.do(status)
			} else {
				b.refused(status, c.code, c.texts...)
			}
			b.same(before)
		})
	}
}

// A kernel without nf_tables is played by strace, which lets the netfilter
// sockets fail as that kernel does.
func TestSTATUSWithoutNFTables(t *testing.T) {
	b := newBox(t)
	status := lab.Call{Command: "STATUS", Conf: newer(lab.Conf)}
	var r lab.Reply
	for range 5 { // strace counts by thread, and the Go runtime may change threads
		r = b.Call(program, status, "strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=socket:error=EPROTONOSUPPORT:when=2+")
		if r.Code == 50 && strings.Contains(r.Msg, "CONFIG_NF_TABLES") {
			return
		}
	}
	t.Errorf("STATUS says %s", r.Stdout)
}

// VERSION needs no configuration, no privilege and no state.
func TestVERSIONByNobody(t *testing.T) {
	b := newBox(t)
	b.Run("cp", program, "/run/flatnet")
	for _, stdin := range []string{"", `{"cniVersion":"1.0.0"}`, "nonsense"} {
		cmd := b.Cmd("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "env", "-i", "CNI_COMMAND=VERSION", "/run/flatnet")
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.Output()
		if err != nil || !strings.Contains(string(out), `"supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]`) {
			t.Errorf("%q: %s: %v", stdin, out, err)
		}
	}
	if files := b.Sh("find /var/lib/flatnet -mindepth 1"); files != "" {
		t.Errorf("files are made: %s", files)
	}
}

// The results of 0.1.0 and 0.2.0, and of a configuration without a version,
// which means 0.1.0.
func TestOldResults(t *testing.T) {
	b := newBox(t)
	for id, c := range map[string]struct{ in, out string }{
		"v1": {`"cniVersion":"0.1.0",`, "0.1.0"}, "v2": {`"cniVersion":"0.2.0",`, "0.2.0"}, "v0": {"", "0.1.0"},
	} {
		c1 := b.attach(id, func(call *lab.Call) {
			call.Conf = strings.Replace(conf(`"ipam":{"ranges":[[{"subnet":"10.87.1.0/24"}],[{"subnet":"fd87:1::/64"}]]}`), `"cniVersion":"1.0.0",`, c.in, 1)
		})
		var r struct {
			CNIVersion string
			IP4, IP6   struct {
				IP, Gateway string
				Routes      []struct{ Dst, GW string }
			}
		}
		fromJSON(t, c1.result.Stdout, &r)
		own := links(t, c1.Place)["eth0"].global()
		if r.CNIVersion != c.out || !slices.Equal(own, []string{r.IP4.IP, r.IP6.IP}) || r.IP4.Gateway != gateway || r.IP6.Routes[0].GW != "fd87:1::1" {
			t.Errorf("%s: %s, the kernel has %v", id, c1.result.Stdout, own)
		}
		b.do(c1.then("DEL"))
	}
	b.clean()
}
