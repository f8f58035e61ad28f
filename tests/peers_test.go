package tests

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// The outside plays another host: it has containers' addresses and the way back.
const (
	peer4, peer6         = "10.87.2.5", "fd87:0:0:2::5"
	subnetPeer, toPeer   = "10.87.2.0/24", "10.87.2.0/24 via 192.0.2.2 dev up0 proto 87"
	subnetPeer6, toPeer6 = "fd87:0:0:2::/64", "fd87:0:0:2::/64 via 2001:db8::2 dev up0 proto 87"

	peersOutside = `"noMasq":[],"peers":[{"subnet":"10.87.2.0/24","via":"192.0.2.2"},{"subnet":"fd87:0:0:2::/64","via":"2001:db8::2"}]`
)

// otherHost lets the outside be a host with containers.
func otherHost(b box) {
	b.t.Helper()
	b.Outside.IP(`addr add 10.87.2.5/32 dev lo
		addr add fd87:0:0:2::5/128 dev lo nodad
		route add 10.87.1.0/24 via 192.0.2.1 src 10.87.2.5
		route add fd87:0:0:1::/64 via 2001:db8::1 src fd87:0:0:2::5`)
	for _, addr := range []string{peer4, peer6, lab.OutsideAddr, outsideAddr6} {
		b.Outside.Serve(net.JoinHostPort(addr, "80"))
	}
}

// with is a configuration with further keys.
func with(config, keys string) func(*lab.Call) {
	return func(c *lab.Call) { c.Conf = strings.TrimSuffix(config, "}") + "," + keys + "}" }
}

// sees checks the addresses by which servers see a place.
func (b box) sees(from lab.Place, want map[string]string) {
	b.t.Helper()
	for to, want := range want {
		if got, err := from.Ask(net.JoinHostPort(to, "80")); err != nil || got != want {
			b.t.Errorf("%s sees %q, not %s (%v)", to, got, want, err)
		}
	}
}

// peerRoutes are the host's routes of flatnet's own.
func (b box) peerRoutes() string {
	b.t.Helper()
	return b.Run("ip", "-4", "route", "show", "proto", "87") + b.Run("ip", "-6", "route", "show", "proto", "87")
}

// routed fails unless these are the routes, each as ip begins its line.
func (b box) routed(routes ...string) {
	b.t.Helper()
	got := strings.TrimSpace(b.peerRoutes())
	var lines []string
	if got != "" {
		lines = strings.Split(got, "\n")
	}
	same := slices.EqualFunc(lines, routes, func(line, want string) bool {
		return strings.HasPrefix(line, strings.TrimSuffix(want, " proto 87"))
	})
	if !same {
		b.t.Errorf("routes to peers are\n%s\nand should be\n%s", got, strings.Join(routes, "\n"))
	}
}

// Containers of two hosts see each other's own addresses, the outside sees the host's, and
// the routes live as long as the network's containers.
func TestPeers(t *testing.T) {
	b := newBox(t)
	otherHost(b)
	c1 := b.attach("c1", with(dual, peersOutside))
	c2 := b.attach("c2", with(dual, peersOutside))
	b.routed(toPeer, toPeer6)
	own := map[string]string{peer4: c1.addr, peer6: c1.addr6(), lab.OutsideAddr: lab.HostAddr, outsideAddr6: hostAddr6}
	b.sees(c1.Place, own)
	for _, addr := range []string{c1.addr, c1.addr6()} {
		c1.Serve(net.JoinHostPort(addr, "80"))
	}
	b.sees(b.Outside, map[string]string{c1.addr: peer4, c1.addr6(): peer6})
	b.do(c1.then("CHECK"))

	b.Sh("ip route del 10.87.2.0/24; ip -6 route del fd87:0:0:2::/64")
	b.refused(c1.then("CHECK"), 104, "route 10.87.2.0/24 via 192.0.2.2 is missing", "flatnet reload")
	status := lab.Call{Command: "STATUS", Conf: newer(c1.add.Conf)}
	b.refused(status, 51, "route fd87:0:0:2::/64 via 2001:db8::2 is missing")
	if out := b.Run(program, "reload"); !strings.Contains(out, "mended: route 10.87.2.0/24 via 192.0.2.2 was missing") {
		t.Errorf("reload says %q", out)
	}
	b.routed(toPeer, toPeer6)
	b.do(status)
	b.Sh("ip route del 10.87.2.0/24")
	c3 := b.attach("c3", with(dual, peersOutside))
	b.routed(toPeer, toPeer6)
	b.sees(c1.Place, own)

	b.do(c1.then("DEL"))
	b.do(c2.then("DEL"))
	b.routed(toPeer, toPeer6)
	b.do(c3.then("DEL"))
	b.routed()
	b.clean()
}

// A route that two networks need goes with the last of them.
func TestPeersOfTwoNetworks(t *testing.T) {
	b := newBox(t)
	b.attach("c1", with(dual, peersOutside))
	b.attach("c2", with(dualOther, `"peers":[{"subnet":"10.87.2.0/24","dev":"up0","via":"192.0.2.2"}]`))
	b.routed(toPeer, toPeer6)
	b.do(call("DEL", "c1"))
	b.routed(toPeer)
	del := call("DEL", "c2")
	with(dualOther, `"peers":[]`)(&del)
	b.do(del) // by what was recorded
	b.routed()
}

// Somebody else's route to a peer stays as it is, with and without containers.
func TestPeersLeaveOthersRoutes(t *testing.T) {
	for _, c := range []struct{ name, route, shown string }{
		{"another gateway", "10.87.2.0/24 via 192.0.2.9 proto static", "10.87.2.0/24 via 192.0.2.9 dev up0 proto static"},
		{"with a metric", "10.87.2.0/24 via 192.0.2.9 metric 500", "10.87.2.0/24 via 192.0.2.9 dev up0 proto boot"},
		{"on the link", "10.87.2.0/24 dev up0 proto 188", "10.87.2.0/24 dev up0 proto 188"},
		{"that goes nowhere", "unreachable 10.87.2.0/24", "unreachable 10.87.2.0/24"},
		{"that goes nowhere, with a metric", "blackhole 10.87.2.0/24 metric 100", "blackhole 10.87.2.0/24"},
		{"IPv6 that goes nowhere", "blackhole fd87:0:0:2::/64 metric 100", "blackhole fd87:0:0:2::/64"},
		{"flatnet's number", "10.87.2.0/24 via 192.0.2.9 proto 87", "10.87.2.0/24 via 192.0.2.9 dev up0 proto flatnet's, 87"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			b.Sh("ip route add " + c.route)
			show := []string{"ip", "route", "show", "10.87.2.0/24"}
			if strings.Contains(c.route, "fd87") {
				show = []string{"ip", "-6", "route", "show", "type", "blackhole"}
			}
			before := b.Run(show...)
			b.NetNS("c1")
			add := call("ADD", "c1")
			with(dual, peersOutside)(&add)
			b.refused(add, 0, c.shown)
			add.Command = "DEL"
			b.do(add)
			if after := b.Run(show...); after != before {
				t.Errorf("routes were\n%s\nand are\n%s", before, after)
			}
			if out := b.peerRoutes(); strings.Contains(out, "2001:db8::2") {
				t.Errorf("a route is left: %s", out)
			}
			b.clean()
		})
	}
}

// A route that leads where the peer says is nobody's to make or to delete again.
func TestPeersUseTheRouteThatIsThere(t *testing.T) {
	b := newBox(t)
	otherHost(b)
	b.Sh("ip route add 10.87.2.0/24 via 192.0.2.2 metric 7 proto static")
	c1 := b.attach("c1", with(dual, peersOutside))
	b.routed(toPeer6)
	b.sees(c1.Place, map[string]string{peer4: c1.addr})
	b.do(c1.then("CHECK"))
	b.do(c1.then("DEL"))
	b.routed()
	if out := b.Run("ip", "route", "show", "10.87.2.0/24"); !strings.Contains(out, "metric 7") {
		t.Errorf("the route is %q", out)
	}
}

// A tunnel that is not there yet keeps no container from being attached.
func TestPeersThatAreNotThereYet(t *testing.T) {
	b := newBox(t)
	keys := `"peers":[{"subnet":"10.87.2.0/24","dev":"tun7"},{"subnet":"10.87.3.0/24","via":"198.51.100.9"},{"subnet":"10.87.4.0/24","via":"192.0.2.2"}]`
	c1 := b.attach("c1", with(lab.Conf, keys))
	for _, text := range []string{"10.87.2.0/24 dev tun7 can't be reached: there is no interface tun7", "10.87.3.0/24 via 198.51.100.9", "flatnet reload"} {
		if !strings.Contains(c1.result.Stderr, text) {
			t.Errorf("ADD says %q, not %q", c1.result.Stderr, text)
		}
	}
	b.routed("10.87.4.0/24 via 192.0.2.2")
	b.refused(c1.then("CHECK"), 104, "route 10.87.2.0/24 dev tun7 is missing")
	if out, err := b.Try(program, "reload"); err == nil || !strings.Contains(err.Error(), "tun7") {
		t.Errorf("reload says %q (%v)", out, err)
	}
	b.Sh(`ip tuntap add tun7 mode tun; ip link set tun7 up; ip addr add 198.51.100.1/24 dev tun7`)
	b.Run(program, "reload")
	b.routed("10.87.2.0/24 dev tun7", "10.87.3.0/24 via 198.51.100.9", "10.87.4.0/24 via 192.0.2.2")
	b.do(c1.then("CHECK"))
	b.Sh("ip link set tun7 name tun8")
	b.do(c1.then("DEL"))
	b.routed()
}

// The routes are those of the configuration that the network's last ADD had.
func TestPeersChange(t *testing.T) {
	b := newBox(t)
	b.attach("c1", with(dual, peersOutside))
	c2 := b.attach("c2", with(dual, `"peers":[{"subnet":"10.87.2.0/24","via":"192.0.2.3"},{"subnet":"10.87.3.0/24","via":"192.0.2.2"}]`))
	b.routed("10.87.2.0/24 via 192.0.2.3", "10.87.3.0/24 via 192.0.2.2")
	b.Run(program, "reload")
	b.routed("10.87.2.0/24 via 192.0.2.3", "10.87.3.0/24 via 192.0.2.2")
	c3 := b.attach("c3", func(c *lab.Call) { c.Conf = dual })
	b.routed()
	for _, c := range []container{c2, c3} {
		b.do(c.then("DEL"))
	}
	b.do(call("DEL", "c1"))
	b.clean()
}

// A failed ADD leaves the routes of living containers, and what is recorded, as they were.
func TestPeersOfAFailedADD(t *testing.T) {
	b := newBox(t)
	c1 := b.attach("c1", with(dual, `"peers":[{"subnet":"10.87.2.0/24","via":"192.0.2.2"},{"subnet":"10.87.3.0/24","via":"192.0.2.2"}]`))
	routes := []string{"10.87.2.0/24 via 192.0.2.2", "10.87.3.0/24 via 192.0.2.2"}
	b.Sh("ip route add 10.87.8.0/24 via 192.0.2.9")
	b.NetNS("c2")
	for _, c := range []struct {
		keys, text string
		code       int
	}{
		{`"noMasq":["198.18.0.0/15"],"peers":[{"subnet":"10.87.2.0/24","via":"192.0.2.3"},{"subnet":"10.87.8.0/24","via":"192.0.2.2"}]`, "another route, 10.87.8.0/24 via 192.0.2.9", 101},
		{`"peers":[{"subnet":"10.87.2.0/24","via":"192.0.2.2"},{"subnet":"10.87.0.0/22","via":"192.0.2.2"}]`, "overlaps", 7},
	} {
		before := b.Run(program, "reload")
		add := call("ADD", "c2")
		with(dual, c.keys)(&add)
		b.refused(add, c.code, c.text)
		b.routed(routes...)
		b.do(c1.then("CHECK"))
		if after := b.Run(program, "reload"); before != after || !strings.Contains(after, "nothing was missing") {
			t.Errorf("reload mends %q and %q", before, after)
		}
		b.routed(routes...)
	}
	// Another network with another way to the same subnet needs no route of this one.
	other := call("ADD", "c2")
	with(dualOther, `"peers":[{"subnet":"10.87.2.0/24","via":"192.0.2.9"}]`)(&other)
	b.refused(other, 101, "another route, 10.87.2.0/24 via 192.0.2.2")
	b.routed(routes...)
	b.do(c1.then("DEL"))
	b.routed()
	b.do(other)
	b.routed("10.87.2.0/24 via 192.0.2.9")
	other.Command = "DEL"
	b.do(other)
	b.routed()
}

// An ADD that fails late, when it has recorded other peers and rules, puts back what the
// running containers had.
func TestPeersOfAnADDThatFailsLate(t *testing.T) {
	b := newBox(t)
	otherHost(b)
	b.Sh(`nft 'table inet theirs { chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; }; }'`)
	const before = `"noMasq":[],"forwardAccept":true,"peers":[{"subnet":"10.87.2.0/24","via":"192.0.2.2"},{"subnet":"10.87.3.0/24","via":"192.0.2.2"}]`
	c1 := b.attach("c1", with(publish(dual, mapping(8080, 80, "")), before))
	routes := []string{"10.87.2.0/24 via 192.0.2.2", "10.87.3.0/24 via 192.0.2.2"}
	shown := func() string {
		return b.Sh("cat /run/flatnet/*/flatnet/bridge | tr -d ' '; nft list ruleset | sed 's/counter packets.*bytes [0-9]*//'")
	}
	was := shown()
	b.NetNS("c2")
	c1.IP("addr add fd87:0:0:1::3/64 dev eth0 nodad")
	for _, c := range []struct{ name, keys string }{
		{"after its rules", `"inbound":"published","forwardAccept":true,"enabledad":true,"peers":[{"subnet":"10.87.4.0/24","via":"192.0.2.2"}]`},
		{"other peers", `"noMasq":["198.18.0.0/15"],"forwardAccept":true,"peers":[{"subnet":"10.87.2.0/24","via":"192.0.2.3"},{"subnet":"10.87.4.0/24","via":"192.0.2.2"}]`},
		{"none, and other rules", `"inbound":"published"`},
		{"further, fewer, no rule", `"noMasq":[],"peers":[{"subnet":"10.87.2.0/24","via":"192.0.2.2"},{"subnet":"10.87.9.0/24","via":"192.0.2.2"}]`},
	} {
		add := call("ADD", "c2")
		want := "fd87:0:0:1::3"
		if config := publish(dual, mapping(8080, 80, "")); strings.Contains(c.keys, "enabledad") {
			with(dual, c.keys)(&add)
		} else { // c1 has the port
			with(config, c.keys)(&add)
			want = "8080"
		}
		b.refused(add, 101, want)
		b.routed(routes...)
		if now := shown(); now != was {
			t.Fatalf("%s: before\n%s\nand now\n%s", c.name, was, now)
		}
		b.do(c1.then("CHECK"))
		if out := b.Run(program, "reload"); !strings.Contains(out, "nothing was missing") {
			t.Errorf("%s: reload says %q", c.name, out)
		}
		b.sees(c1.Place, map[string]string{peer4: c1.addr, lab.OutsideAddr: lab.HostAddr})
	}
	b.do(c1.then("DEL"))
	b.routed()
}

// No route is added that no record has; one whose record is lost is named, and removed by gc,
// unless containers may need it.
func TestPeersWithoutRecord(t *testing.T) {
	b := newBox(t)
	c1 := b.attach("c1", with(dual, peersOutside))
	lost := []string{"10.87.2.0/24 via 192.0.2.2 dev up0", "fd87:0:0:2::/64 via 2001:db8::2 dev up0"}
	b.Sh("rm -r /run/flatnet/*/flatnet; ip route add blackhole 10.99.0.0/16 proto 87")
	named := func(command string, texts ...string) {
		t.Helper()
		out := b.Sh(program + " " + command + " 2>&1 || :")
		for _, text := range slices.Concat(lost, texts) {
			if !strings.Contains(out, text) {
				t.Errorf("%s says %s, and not %s", command, out, text)
			}
		}
	}
	named("gc --yes", "network flatnet has containers and no record", "blackhole 10.99.0.0/16", "flatnet makes none like it")
	named("doctor", "network flatnet has containers and no record", "ip route del 10.87.2.0/24 via 192.0.2.2 proto 87")
	b.routed(lost[0], "blackhole 10.99.0.0/16", lost[1])
	b.do(c1.then("DEL"))
	named("reload", "the route "+lost[0], "the route "+lost[1], "in no record; flatnet gc --yes deletes it")
	named("doctor", "leftovers", "flatnet gc --yes, or ip route del fd87:0:0:2::/64 via 2001:db8::2 proto 87")
	named("gc", "2 to remove")
	named("gc --json", `"kind": "route to a peer"`)
	if out := b.Sh(program + " gc flatnet 2>&1 || :"); strings.Contains(out, "10.87.2.0/24") {
		t.Errorf("gc of one network names what is nobody's: %s", out)
	}
	b.Sh("ip route add 10.87.5.0/24 via 192.0.2.2")
	c3 := b.attach("c3", with(dualOther, `"peers":[{"subnet":"10.87.4.0/24","via":"192.0.2.2"}]`))
	named("gc --yes", "removed: 2")
	b.routed("10.87.4.0/24 via 192.0.2.2", "blackhole 10.99.0.0/16")
	if out := b.Run("ip", "route", "show", "10.87.5.0/24"); out == "" {
		t.Error("gc has removed a route of somebody else's")
	}
	b.do(c3.then("DEL"))
	b.Sh("ip route del blackhole 10.99.0.0/16; mount -t tmpfs -o ro t /run/flatnet")
	if out := b.Sh(program + " doctor 2>&1 || :"); strings.Contains(out, "is in no record") {
		t.Errorf("doctor says %s", out)
	}
	c2 := b.attach("c2", with(dual, peersOutside))
	if !strings.Contains(c2.result.Stderr, "10.87.2.0/24 via 192.0.2.2 can't be reached: the route is not added, as no record has it") {
		t.Errorf("ADD says %q", c2.result.Stderr)
	}
	b.routed()
	b.do(c2.then("DEL"))
	b.Sh("umount /run/flatnet")
}

// A route by several gateways, or one of the other family, is not the one of an interface.
func TestPeersBesideSeveralGateways(t *testing.T) {
	b := newBox(t)
	b.NetNS("c1")
	for _, route := range []string{"nexthop via 192.0.2.3 nexthop via 192.0.2.4", "via inet6 fe80::9 dev up0"} {
		b.Sh("ip route replace 10.87.2.0/24 " + route)
		for _, dev := range []string{"up0", "absent"} {
			add := call("ADD", "c1")
			with(dual, `"peers":[{"subnet":"10.87.2.0/24","dev":"`+dev+`"}]`)(&add)
			b.refused(add, 101, "the host has another route, 10.87.2.0/24")
		}
	}
}

// What no host can have is refused by key and value, and then nothing is made.
func TestPeersThatCantBe(t *testing.T) {
	b := newBox(t)
	b.NetNS("c1")
	before := b.state()
	for _, c := range []struct{ keys, text string }{
		{`"peers":{}`, "peers: want a list"},
		{`"peers":[{"via":"192.0.2.2"}]`, "peers[0].subnet"},
		{`"peers":[{"subnet":"10.87.2.0"}]`, "10.87.2.0"},
		{`"peers":[{"subnet":"10.87.2.0/24"}]`, "peers[0].via: must be given, or dev"},
		{`"peers":[{"subnet":"10.87.2.0/24","via":"fd00::1"}]`, "peers[0].via: fd00::1 is not of the family"},
		{`"peers":[{"subnet":"10.87.2.0/24","via":"x"}]`, `peers[0].via: "x"`},
		{`"peers":[{"subnet":"10.87.2.0/24","via":"10.87.2.1"}]`, "peers[0].via: 10.87.2.1 is in the subnet"},
		{`"peers":[{"subnet":"10.87.2.0/24","via":"127.0.0.1"}]`, "peers[0].via: 127.0.0.1"},
		{`"peers":[{"subnet":"fd00:2::/64","via":"fe80::1"}]`, "peers[0].via: fe80::1 is link-local"},
		{`"peers":[{"subnet":"10.87.2.0/24","dev":"a/b"}]`, `peers[0].dev: "a/b"`},
		{`"peers":[{"subnet":"10.87.2.0/24","dev":"a,b"}]`, `peers[0].dev: "a,b"`},
		{`"peers":[{"subnet":"10.87.2.0/24","dev":"flatnet-br0"}]`, "the network's own bridge"},
		{`"peers":[{"subnet":"10.87.2.0/24","gw":"192.0.2.2"}]`, "peers[0].gw: is unknown"},
		{`"peers":[{"subnet":"0.0.0.0/0","via":"192.0.2.2"}]`, "peers[0].subnet: 0.0.0.0/0"},
		{`"peers":[{"subnet":"224.0.0.0/4","via":"192.0.2.2"}]`, "peers[0].subnet: 224.0.0.0/4"},
		{`"peers":[{"subnet":"10.87.0.0/16","via":"192.0.2.2"}]`, "peers[0].subnet: 10.87.0.0/16 overlaps with 10.87.1.0/24"},
		{`"peers":[{"subnet":"10.87.2.0/23","via":"192.0.2.2"},{"subnet":"10.87.3.0/24","via":"192.0.2.3"}]`,
			"peers[1].subnet: 10.87.3.0/24 overlaps with peers[0], 10.87.2.0/23"},
		{`"internal":true,"peers":[{"subnet":"10.87.2.0/24","via":"192.0.2.2"}]`, "an internal network"},
		{`"isGateway":false,"isDefaultGateway":false,"peers":[{"subnet":"10.87.2.0/24","via":"192.0.2.2"}]`, "isGateway"},
	} {
		add := call("ADD", "c1")
		add.Conf = conf(c.keys)
		b.refused(add, 7, c.text)
	}
	for _, c := range []struct{ peers, text string }{
		{"", "is not in the form"}, {"10.99.6.0/24", "is not in the form"}, {"10.99.6.0/24@", "must be given"},
		{"10.99.6.0/24@fe80::1", "is not of the family"}, {"10.99.6.0/24@x%eth0", "is not an IP address"},
		{"10.99.5.128/25@192.0.2.2", "overlaps with 10.99.5.0/24"},
		{"10.99.6.0/24@192.0.2.2,10.99.6.0/25@192.0.2.3", "overlaps with peers[0]"},
	} {
		out, err := b.create(network{keys: fmt.Sprintf(`%s,"options":{"peers":%q}`, subnet5, c.peers)})
		if err == nil || !strings.Contains(out, "peers") || !strings.Contains(out, c.text) {
			t.Errorf("-o peers=%s: %s (%v)", c.peers, out, err)
		}
	}
	b.same(before)
	b.routed()
}

// Netavark's door has them in one option.
func TestNetavarkPeers(t *testing.T) {
	b := newBox(t)
	otherHost(b)
	b.Outside.Sh("ip route add 10.99.5.0/24 via 192.0.2.1 src 10.87.2.5")
	c1 := b.NetNS("c1")
	n := network{keys: subnet5 + `,"options":{"peers":"10.87.2.0/24@192.0.2.2%up0, 10.87.3.0/24@up0"}`}
	definition, err := b.create(n)
	if err != nil {
		t.Fatal(definition)
	}
	if out, err := b.exec("setup", "c1", definition, n); err != nil {
		t.Fatal(out)
	}
	b.routed(toPeer, "10.87.3.0/24 dev up0")
	b.sees(c1, map[string]string{peer4: "10.99.5.2", lab.OutsideAddr: lab.HostAddr})
	if out, err := b.exec("teardown", "c1", definition, n); err != nil {
		t.Fatal(out)
	}
	b.routed()
	chosen := network{keys: `"options":{"peers":"10.87.2.0/23@192.0.2.2"}`}
	if out, err := b.create(chosen); err != nil || !strings.Contains(out, `"10.87.4.0/24"`) {
		t.Errorf("the chosen subnet is not the first that is no peer's: %s (%v)", out, err)
	}
	b.Sh("ip route add 10.87.2.0/24 via 192.0.2.9")
	if out, err := b.create(n); err == nil || !strings.Contains(out, "10.87.2.0/24 via 192.0.2.9") {
		t.Errorf("created beside another's route: %s", out)
	}
}

// To other firewalls what peers send is like all other traffic; published ports stay all
// that is reached where inbound says so.
func TestPeersAndFirewalls(t *testing.T) {
	b := newBox(t)
	otherHost(b)
	b.Sh(`nft 'table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }'`)
	b.NetNS("c0")
	add := call("ADD", "c0")
	with(dual, peersOutside)(&add)
	if r := b.do(add); !strings.Contains(r.Stderr, "inet filter forward drops") {
		t.Errorf("ADD says %q", r.Stderr)
	}
	add.Command = "DEL"
	b.do(add)
	c1 := b.attach("c1", with(publish(dual, mapping(8080, 80, "")), peersOutside+`,"forwardAccept":true,"inbound":"published"`))
	c1.Serve("[::]:80")
	b.sees(c1.Place, map[string]string{peer4: c1.addr, peer6: c1.addr6()})
	if got, err := b.Outside.Ask(net.JoinHostPort(c1.addr, "80")); err == nil {
		t.Errorf("a peer reaches what is not published: %q", got)
	}
	if _, err := b.Outside.Ask(net.JoinHostPort(lab.HostAddr, "8080")); err != nil {
		t.Error(err)
	}
	c2 := b.attach("c2", with(dual, peersOutside+`,"forwardAccept":true`))
	c2.Serve("[::]:80")
	b.sees(b.Outside, map[string]string{c2.addr: peer4, c2.addr6(): peer6})
}

// A network that comes at the moment when another with the same peer goes keeps the route.
func TestPeersAtOneMoment(t *testing.T) {
	b := newBox(t)
	peers := with(dualOther, `"peers":[{"subnet":"10.87.2.0/24","via":"192.0.2.2"}]`)
	b.NetNS("c2")
	b.NetNS("c1")
	for range 8 {
		first, second := call("ADD", "c1"), call("ADD", "c2")
		with(dual, `"peers":[{"subnet":"10.87.2.0/24","via":"192.0.2.2"}]`)(&first)
		peers(&second)
		b.do(first)
		first.Command = "DEL"
		done := make(chan lab.Reply)
		go func() { done <- b.Call(program, first) }()
		added := b.Call(program, second)
		if r := <-done; r.Exit != 0 || added.Exit != 0 {
			t.Fatalf("DEL %s, ADD %s", r.Stdout, added.Stdout)
		}
		b.routed(toPeer)
		second.Command = "DEL"
		b.do(second)
		b.routed()
	}
}

// How often the kernel is asked does not grow with the peers, nor with others' routes: each
// list is read once, however many are looked for in it.
func TestManyPeers(t *testing.T) {
	b := newBox(t)
	var batch strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&batch, "route add 11.%d.%d.0/24 via 192.0.2.9 proto 99\n", i/256, i%256)
	}
	for i := range 20 {
		fmt.Fprintf(&batch, "link add tun%d type bridge\nlink set tun%[1]d up\n", i)
	}
	b.IP(batch.String())
	const last = "10.131.231.5" // of the last of 1,000 peers
	b.Outside.IP("addr add " + last + "/32 dev lo\nroute add 10.87.1.0/24 via 192.0.2.1 src " + last)
	b.Outside.Serve(last + ":80")
	b.Outside.Serve(lab.OutsideAddr + ":80")
	configured := func(peers int) func(*lab.Call) {
		var list []string
		for i := range peers {
			way := `"via":"192.0.2.2"`
			if i%2 == 0 {
				way = fmt.Sprintf(`"dev":"tun%d"`, i/2%20)
			}
			list = append(list, fmt.Sprintf(`{"subnet":"10.%d.%d.0/24",%s}`, 128+i/256, i%256, way))
		}
		return with(lab.Conf, `"peers":[`+strings.Join(list, ",")+`]`)
	}
	asked := map[int]int{}
	for _, peers := range []int{10, 1000} {
		c1 := b.attach(fmt.Sprint("first", peers), configured(peers))
		add := call("ADD", "second")
		b.NetNS("second")
		configured(peers)(&add)
		trace := b.callBy([]string{program, "trace"}, add).Stderr
		asked[peers] = strings.Count(trace, " RTM_GET")
		if got := strings.Count(b.peerRoutes(), "\n"); got != peers {
			t.Errorf("%d routes to %d peers", got, peers)
		}
		if routes := strings.Count(trace, "RTM_GETROUTE NLM_F_DUMP"); routes == 0 || routes > 4 {
			t.Errorf("the routes are listed %d times", routes)
		}
		if peers == 1000 {
			b.sees(c1.Place, map[string]string{last: c1.addr, lab.OutsideAddr: lab.HostAddr})
			b.do(c1.then("CHECK"))
		}
		add.Command = "DEL"
		b.do(add)
		b.do(c1.then("DEL"))
		b.routed()
		b.Run("ip", "netns", "del", "second")
	}
	if asked[1000] > asked[10]+20 || asked[10] == 0 { // the first interfaces are asked for one by one
		t.Errorf("questions by the number of peers: %v", asked)
	}
}
