package tests

import (
	"net"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// tunnel gives the host a way to another one's containers, as narrow as an encapsulation
// makes it, in both families.
func (b box) tunnel(mtu string) lab.Place {
	b.t.Helper()
	far := b.NetNS("far")
	b.IP("link add tunnel mtu " + mtu + ` type veth peer name eth0 mtu 1500 netns far
		addr add 10.100.0.3/32 dev tunnel
		addr add fe80::3/64 dev tunnel nodad
		link set tunnel up
		route add 10.100.2.0/24 dev tunnel
		route add fd10:2::/64 dev tunnel`)
	far.IP(`addr add 10.100.2.5/24 dev eth0
		addr add fd10:2::5/64 dev eth0 nodad
		link set eth0 up
		route add 10.100.3.0/24 via 10.100.0.3 dev eth0 onlink
		route add fd10:3::/64 via fe80::3 dev eth0`)
	return far
}

// The MTU fits the way to other hosts, which ADD finds by the routes.
func TestPathMTU(t *testing.T) {
	t.Parallel()
	const id, seen = `"hostId":3`, "1300"
	for _, c := range []struct {
		name, host, keys string
		want             int
		warning          []string
	}{
		{"the route's device", "ip route add 10.100.2.0/24 dev tunnel", id, 1300, nil},
		{"of IPv6", "ip -6 route add fd10:2::/64 dev tunnel", id + `,"noMasq":["fd10::/16"]`, 1300, nil},
		{"a wider route", "ip route add 10.96.0.0/12 dev tunnel", id, 1300, nil},
		{"a route's own", "ip route add 10.100.2.0/24 dev tunnel mtu 1280", id, 1280, nil},
		{"a peer's", ":", `"peers":[{"subnet":"10.87.2.0/24","dev":"tunnel"}],"noMasq":["192.168.0.0/16"]`, 1300, nil},
		{"another bridge of this host", "ip link add docker0 mtu 1000 type bridge; ip addr add 10.100.55.1/24 dev docker0; ip link set docker0 up", id, lab.UplinkMTU, nil},
		{"too narrow for IPv6", "ip route add 10.100.2.0/24 dev tunnel mtu 1000", id + `,"ipam":{"ranges":[[{"subnet":"fd10:3::/64"}]]}`, 1280,
			[]string{"1280", "1000", "tunnel"}},
		{"no tunnel", "ip route add 10.101.0.0/16 dev tunnel", id, lab.UplinkMTU, nil},
		{"no default route", "ip route del default; ip -6 route del default; ip route add 10.100.2.0/24 dev tunnel", id, 1300, nil},
		{"a wide tunnel", "ip link set tunnel mtu 9000; ip route add 10.100.2.0/24 dev tunnel", id, lab.UplinkMTU, nil},
		{"too large", "ip route add 10.100.2.0/24 dev tunnel", id + `,"mtu":1350`, 1350, []string{"mtu 1350", "1300", "tunnel", "10.100.2.0/24"}},
		{"small enough", "ip route add 10.100.2.0/24 dev tunnel", id + `,"mtu":1290`, 1290, nil},
		{"flannel's", ":", `"subnetFile":"` + flannelFile + `"`, 1280, nil},
		{"too large for flannel", ":", `"subnetFile":"` + flannelFile + `","mtu":1350`, 1350, []string{"mtu 1350", "1280", "FLANNEL_MTU"}},
		{"narrower than flannel says", "ip link set tunnel mtu 1270; ip route add 10.244.2.0/24 dev tunnel", `"subnetFile":"` + flannelFile + `"`, 1270, nil},
		{"wider than flannel says", "ip route add 10.244.2.0/24 dev tunnel", `"subnetFile":"` + flannelFile + `"`, 1280, nil},
		{"an outside narrower than flannel says", "ip link set up0 mtu 1275", `"subnetFile":"` + flannelFile + `"`, 1275, nil},
		{"too large for flannel's device", "ip link set tunnel mtu 1270; ip route add 10.244.2.0/24 dev tunnel", `"subnetFile":"` + flannelFile + `","mtu":1290`, 1290,
			[]string{"mtu 1290", "1270", "tunnel"}},
		{"a table that no rule names", "ip route add 10.100.2.0/24 dev tunnel table 100", id, lab.UplinkMTU, nil},
		{"a table that a rule names", "ip route add 10.100.2.0/24 dev tunnel table 100; ip rule add lookup 100", id, 1300, nil},
		{"for these containers", "ip route add 10.100.2.0/24 dev tunnel table 100; ip rule add from 10.100.3.0/24 lookup 100", id, 1300, nil},
		{"for others", "ip route add 10.100.2.0/24 dev tunnel table 100; ip rule add from 10.100.4.0/24 lookup 100", id, lab.UplinkMTU, nil},
		{"for marked packets", "ip route add 10.100.2.0/24 dev tunnel table 100; ip rule add fwmark 1 lookup 100", id, lab.UplinkMTU, nil},
		{"for all but marked packets", "ip route add 10.100.2.0/24 dev tunnel table 100; ip rule add not fwmark 1 lookup 100", id, 1300, nil},
		{"behind the main table", "ip route add 10.100.2.0/24 dev tunnel table 100; ip rule add lookup 100 pref 33000", id, lab.UplinkMTU, nil},
		{"behind all but the default route", "ip route add 10.100.2.0/24 dev tunnel table 100; ip rule add lookup main suppress_prefixlength 0 pref 90; ip rule add lookup 100 pref 91",
			id, 1300, nil},
		{"before the main table", "ip route add 10.100.2.0/24 dev tunnel; ip route add 10.100.0.0/16 dev up0 table 100; ip rule add lookup 100", id, lab.UplinkMTU, nil},
		{"a part before the main table", "ip route add 10.100.2.0/24 dev tunnel; ip route add 10.100.2.0/25 dev up0 table 100; ip rule add lookup 100", id, 1300, nil},
		{"of this host alone", "ip route add 10.87.2.0/24 dev tunnel", `"x":1`, lab.UplinkMTU, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			b.Sh("ip link add tunnel mtu " + seen + " type veth peer peer; ip link set tunnel up; ip link set peer up; mkdir /run/flannel; " + c.host)
			b.Write(flannelFile, "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_MTU=1280\nFLANNEL_IPMASQ=false\n")
			ctr := b.attach("c1", func(call *lab.Call) { call.Conf = conf(c.keys) })
			if got := links(t, ctr.Place)["eth0"].MTU; got != c.want {
				t.Errorf("MTU %d, want %d; %s", got, c.want, b.Sh("ip route; ip -6 route"))
			}
			if c.warning == nil && ctr.result.Stderr != "" {
				t.Errorf("warning %q", ctr.result.Stderr)
			}
			for _, text := range c.warning {
				if !strings.Contains(ctr.result.Stderr, text) {
					t.Errorf("warning %q does not name %q", ctr.result.Stderr, text)
				}
			}
		})
	}
}

// TCP fits a tunnel that is narrower than the container's interface, in both directions,
// where nothing says that packets are too big. The receiver counts what it was offered.
func TestMSS(t *testing.T) {
	b := newBox(t)
	far := b.tunnel("1300")
	far.Sh("nft 'add table inet t; add chain inet t in { type filter hook input priority 0; }; " +
		"add rule inet t in tcp flags & (syn | ack) == syn tcp option maxseg size 1260 ip version 4 counter; " +
		"add rule inet t in tcp flags & (syn | ack) == syn tcp option maxseg size 1240 ip6 version 6 counter'")
	c := b.attach("c1", func(c *lab.Call) {
		c.Conf = conf(`"hostId":3,"mtu":1400,"ipam":{"ranges":[[{"subnet":"fd10:3::/64"}]]}`)
	})
	b.Sh("nft 'add table inet deaf; add chain inet deaf out { type filter hook output priority 0; }; " +
		"add rule inet deaf out icmp type destination-unreachable drop; add rule inet deaf out icmpv6 type packet-too-big drop'")
	for _, way := range []struct {
		from, to lab.Place
		addr     string
	}{
		{c.Place, far, "10.100.2.5"}, {c.Place, far, "fd10:2::5"},
		{far, c.Place, "10.100.3.10"}, {far, c.Place, "fd10:3::2"},
	} {
		addr := net.JoinHostPort(way.addr, "5001")
		way.to.Drain(addr)
		if _, err := way.from.Transfer(addr, 1<<20); err != nil {
			t.Errorf("to %s: %v", addr, err)
		}
	}
	if rules := far.Run("nft", "list", "ruleset"); strings.Contains(rules, "counter packets 0 ") { // a SYN may be sent twice
		t.Errorf("the SYNs had other segment sizes:\n%s", rules)
	}
	// As any rules, these are missed and restored, and survive nft's own writing and reading.
	status := lab.Call{Command: "STATUS", Conf: newer(c.add.Conf)}
	b.do(status)
	b.Sh("nft list table ip flatnet >/run/saved; nft list table ip6 flatnet >>/run/saved; nft delete table ip flatnet; nft delete table ip6 flatnet; nft -f /run/saved")
	b.do(status)
	b.Sh("nft flush chain ip flatnet mss-flatnet-br0")
	b.refused(status, 51, "mss-flatnet-br0", "reload")
	b.Run(program, "reload")
	b.do(status)
	b.do(c.then("CHECK"))
	b.do(c.then("DEL"))
	if rules := b.Run("nft", "list", "ruleset"); strings.Contains(rules, "mss") {
		t.Errorf("DEL left rules:\n%s", rules)
	}
}
