package tests

import (
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// What the host's routing tables and interface list have of kinds that flatnet
// has no use for is in nobody's way, and what their meaning is for an ADD is found.
func TestForeignRoutesAndLinks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, prepare string }{
		{"kinds of links", "ip link add vx0 type vxlan id 7 local 192.0.2.1 dstport 4789; ip link add if0 type ifb; ip link add gre9 type gre local 192.0.2.1 remote 192.0.2.2 || :; ip link set vx0 up; ip addr add 198.18.0.1 peer 198.18.0.2/31 dev vx0"},
		{"types of routes", "ip route add blackhole 10.87.1.64/26; ip route add unreachable 10.0.0.0/8; ip route add prohibit 203.0.113.0/24; ip route add throw 198.18.0.0/15 table 7; ip route add local 198.51.100.7 dev lo; ip -6 route add unreachable fd00::/8"},
		{"encapsulation", "ip route add 203.0.113.0/24 encap bpf xmit headroom 8 via 192.0.2.2 2>/dev/null || :; ip -6 route add fd99::/64 encap seg6 mode encap segs 2001:db8::9 dev up0; ip route add 203.0.113.128/25 via inet6 2001:db8::2 dev up0"},
		{"a default route by a nexthop object alone", "sysctl -qw net.ipv4.nexthop_compat_mode=0; ip nexthop add id 7 via 192.0.2.2 dev up0; ip route replace default nhid 7; ip nexthop add id 8 via 2001:db8::2 dev up0; ip -6 route replace default nhid 8"},
		{"a group of nexthop objects", "sysctl -qw net.ipv4.nexthop_compat_mode=0; ip nexthop add id 7 via 192.0.2.2 dev up0; ip nexthop add id 8 via 192.0.2.3 dev up0; ip nexthop add id 9 group 7/8; ip route replace default nhid 9; ip route add 203.0.113.0/24 nhid 9"},
		{"IPv6's default route alone", "ip route del default"},
		{"an unreachable default route", "ip route add unreachable default metric 4278198272; ip -6 route add unreachable default metric 4278198272"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			b.Sh(c.prepare)
			status := call("STATUS", "")
			status.Conf = newer(dual)
			b.do(status)
			c1 := b.attach("c1", func(c *lab.Call) { c.Conf = publish(dual, mapping(8080, 80, "")) })
			if mtu := links(t, c1.Place)["eth0"].MTU; mtu != lab.UplinkMTU {
				t.Errorf("MTU is %d", mtu)
			}
			b.do(c1.then("CHECK"))
			b.reload()
			if out := b.Run(program, "list"); !strings.Contains(out, "c1") {
				t.Errorf("list says %q", out)
			}
			b.do(c1.then("DEL"))
		})
	}
	// Without any route to the outside, the default route that leads nowhere has no
	// interface whose MTU would mean anything.
	t.Run("no way out", func(t *testing.T) {
		b := newBox(t)
		b.Sh("ip route replace unreachable default; ip -6 route del default; ip -6 route add unreachable default")
		c1 := b.attach("c1")
		if mtu := links(t, c1.Place)["eth0"].MTU; mtu != 1500 {
			t.Errorf("MTU is %d", mtu)
		}
	})
}
