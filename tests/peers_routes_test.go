package tests

import (
	"fmt"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

const (
	ways   = `"peers":[{"subnet":"10.87.2.0/24","via":"192.0.2.2"},{"subnet":"fd87:0:0:2::/64","via":"2001:db8::2"}]`
	right  = "route add 10.87.2.0/24 via 192.0.2.2"
	right6 = "-6 route add fd87:0:0:2::/64 via 2001:db8::2"
	wrong  = "route add 10.87.2.0/24 via 192.0.2.9 proto static"
	wrong6 = "-6 route add fd87:0:0:2::/64 via 2001:db8::9"
)

// carries fails unless the kernel sends what a container sends to a peer by a gateway.
func (b box) carries(c container, to, via string) {
	b.t.Helper()
	from := c.addr
	if strings.Contains(to, ":") {
		from = c.addr6()
	}
	if out := b.Run("ip", "route", "get", to, "from", from, "iif", bridgeName); !strings.Contains(out, " via "+via+" ") {
		b.t.Errorf("the way to %s is %s", to, out)
	}
}

// Only a route that carries the packets is the peer's: not one of a higher metric, and not one
// for a TOS or for other sources.
func TestPeersRouteThatCounts(t *testing.T) {
	for _, c := range []struct {
		name, routes, taken string // empty: the ADD succeeds, and the peers are reached
	}{
		{"a higher metric", wrong + " metric 1\n" + right + " metric 500", "10.87.2.0/24 via 192.0.2.9 dev up0 proto static metric 1"},
		{"a lower metric", right + " metric 1\n" + wrong + " metric 500", ""},
		{"appended", wrong + "\nroute append 10.87.2.0/24 via 192.0.2.2", "10.87.2.0/24 via 192.0.2.9 dev up0 proto static"},
		{"nothing before it", right + " metric 500\nroute add blackhole 10.87.2.0/24 metric 400", "blackhole 10.87.2.0/24"},
		{"of a TOS", right + " tos 0x10\n", ""},
		{"another of a TOS", wrong + " tos 0x10\n", ""},
		{"IPv6, a higher metric", wrong6 + " metric 3\n" + right6, "fd87:0:0:2::/64 via 2001:db8::9 dev up0 proto boot metric 3"},
		{"IPv6, of other sources", strings.Replace(right6, "via", "from 2001:db8:9::/64 via", 1), ""},
		{"IPv6, another of other sources", strings.Replace(wrong6, "via", "from 2001:db8:9::/64 via", 1), ""},
		{"IPv6, of containers", right6 + "\n" + strings.Replace(wrong6, "via", "from fd87:0:0:1::/80 via", 1),
			"fd87:0:0:2::/64 via 2001:db8::9 dev up0 proto boot from fd87:0:0:1::/80"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			for line := range strings.Lines(c.routes) {
				b.Sh("ip " + line)
			}
			if c.taken == "" {
				c1 := b.attach("c1", with(dual, ways))
				b.carries(c1, peer4, "192.0.2.2")
				b.carries(c1, peer6, "2001:db8::2")
				b.do(c1.then("CHECK"))
				return
			}
			b.NetNS("c1")
			add := call("ADD", "c1")
			with(dual, ways)(&add)
			b.refused(add, 101, "the host has another route, "+c.taken)
			b.refused(lab.Call{Command: "STATUS", Conf: newer(add.Conf)}, 50, c.taken)
			b.routed()
			b.clean()
		})
	}
}

// A route, or a routing rule, that takes the packets away later is named by all who look.
func TestPeersRouteThatCountsNoMore(t *testing.T) {
	for _, c := range []struct{ name, do, undo, text string }{
		{"IPv6 metric", "ip " + wrong6 + " metric 512", "ip -6 route del fd87:0:0:2::/64 metric 512", "fd87:0:0:2::/64 via 2001:db8::9"},
		{"rule", "ip route add 10.87.0.0/16 via 192.0.2.9 table 77; ip rule add from 10.87.1.0/24 lookup 77",
			"ip rule del from 10.87.1.0/24", "10.87.0.0/16 via 192.0.2.9 dev up0 proto boot"},
		{"rule of IPv6", "ip -6 route add default via 2001:db8::9 table 77; ip -6 rule add iif " + bridgeName + " lookup 77",
			"ip -6 rule del iif " + bridgeName, "::/0 via 2001:db8::9 dev up0 proto boot metric 1024 table 77"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			c1 := b.attach("c1", with(dual, ways))
			status := lab.Call{Command: "STATUS", Conf: newer(c1.add.Conf)}
			b.do(status)
			b.Sh(c.do)
			b.refused(status, 51, "another's: "+c.text)
			b.refused(c1.then("CHECK"), 104, "another's: "+c.text)
			if _, err := b.Try(program, "reload"); err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("reload says %v", err)
			}
			b.NetNS("c2")
			add := call("ADD", "c2")
			with(dual, ways)(&add)
			b.refused(add, 101, c.text)
			b.routed(toPeer, toPeer6)
			b.Sh(c.undo)
			b.do(status)
			b.do(c1.then("CHECK"))
			b.Run(program, "reload")
			b.do(add)
		})
	}
}

// Where the new way to a peer is not there yet, the earlier one stays until it is.
func TestPeersWayThatComesLater(t *testing.T) {
	for _, before := range []string{`"dev":"up0"`, `"via":"192.0.2.2"`, `"via":"192.0.2.2","dev":"up0"`} {
		t.Run(before, func(t *testing.T) {
			b := newBox(t)
			to := func(way string) func(*lab.Call) { return with(dual, `"peers":[{"subnet":"10.87.2.0/24",`+way+`}]`) }
			b.attach("c1", to(before))
			old := b.peerRoutes()
			earlier, _, _ := strings.Cut(strings.TrimSpace(old), " scope ")
			for _, id := range []string{"c2", "c3"} {
				c := b.attach(id, to(`"dev":"wg0"`))
				for _, text := range []string{"10.87.2.0/24 dev wg0 can't be reached: there is no interface wg0", "the earlier route " + strings.Join(strings.Fields(earlier)[:3], " ")} {
					if !strings.Contains(c.result.Stderr, text) {
						t.Errorf("ADD says %q, not %q", c.result.Stderr, text)
					}
				}
			}
			if out, err := b.Try(program, "reload"); err == nil || !strings.Contains(err.Error(), "wg0") || strings.Contains(out+err.Error(), "in no record") {
				t.Errorf("reload says %q (%v)", out, err)
			}
			if now := b.peerRoutes(); now != old {
				t.Errorf("the routes were %s and are %s", old, now)
			}
			b.Sh("ip tuntap add wg0 mode tun; ip link set wg0 up")
			b.Run(program, "reload")
			b.routed("10.87.2.0/24 dev wg0")
			for _, id := range []string{"c1", "c2", "c3"} {
				b.do(call("DEL", id))
			}
			b.routed()
		})
	}
}

// The way that stayed for one that never came goes with the network.
func TestPeersWayThatNeverComes(t *testing.T) {
	b := newBox(t)
	b.attach("c1", with(dual, ways))
	b.attach("c2", with(dual, `"peers":[{"subnet":"10.87.2.0/24","dev":"wg0"}]`))
	b.routed("10.87.2.0/24 via 192.0.2.2")
	b.do(call("DEL", "c1"))
	b.routed("10.87.2.0/24 via 192.0.2.2")
	b.do(call("DEL", "c2"))
	b.routed()
}

// An ADD that is killed before it has deleted the routes to peers that it drops leaves them to
// whoever comes next.
func TestPeersOfAKilledADD(t *testing.T) {
	inject := injector(t)
	one := `"peers":[{"subnet":"fd87:0:0:2::/64","via":"2001:db8::2"}]`
	for _, c := range []struct {
		name string
		next func(b box, c1 container)
		left []string
	}{
		{"an ADD", func(b box, c1 container) { b.attach("c3", with(dual, one)) }, []string{toPeer6}},
		{"an ADD without peers", func(b box, c1 container) { b.attach("c3", func(c *lab.Call) { c.Conf = dual }) }, nil},
		{"reload", func(b box, c1 container) { b.Run(program, "reload") }, []string{toPeer6}},
		{"gc", func(b box, c1 container) {
			if out := b.Run(program, "gc", "--yes"); !strings.Contains(out, "10.87.2.0/24 via 192.0.2.2") {
				b.t.Errorf("gc removes %q", out)
			}
			b.routed(toPeer6)
			b.Run(program, "reload")
		}, []string{toPeer6}},
		{"the last DEL", func(b box, c1 container) { b.do(call("DEL", "c2")); b.do(c1.then("DEL")) }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			c1 := b.attach("c1", with(dual, ways))
			b.NetNS("c2")
			add := call("ADD", "c2")
			with(dual, one)(&add)
			record := "/run/flatnet/*/flatnet/bridge"
			for n := 1; !strings.Contains(b.Sh("cat "+record), `"leaving":"10.87.2.0/24@192.0.2.2"`); n++ {
				if r := b.Call(program, add, inject, "-at", fmt.Sprintf("sendto:%d", n), "-kill"); r.Exit == 0 || n > 100 {
					t.Fatalf("the record never has what it leaves: %s\n%s", r.Stdout, b.Sh("cat "+record))
				}
			}
			b.routed(toPeer, toPeer6)
			c.next(b, c1)
			b.routed(c.left...)
			if out, err := b.Try("grep", "-F", "leaving\":\"10", "-r", "/run/flatnet"); err == nil {
				t.Errorf("the record has it still: %s", out)
			}
		})
	}
}

// Without a record, a route that is there is no reason to complain.
func TestPeersWithoutRecordButRoute(t *testing.T) {
	b := newBox(t)
	b.attach("c1", with(dual, ways))
	b.Sh("mount -t tmpfs -o ro t /run/flatnet")
	c2 := b.attach("c2", with(dual, ways))
	if strings.Contains(c2.result.Stderr, "can't be reached") {
		t.Errorf("ADD says %q", c2.result.Stderr)
	}
	b.routed(toPeer, toPeer6)
	b.Sh("umount /run/flatnet")
}

// A peer's subnet that has to do with this host is refused, with the names of both.
func TestPeersThatAreThisHost(t *testing.T) {
	b := newBox(t)
	b.attach("c1", func(c *lab.Call) { c.Conf = dual })
	b.Sh("ip link add lan1 type bridge; ip addr add 10.55.1.7/16 dev lan1; ip tuntap add tun7 mode tun; ip addr add 10.66.0.3/16 dev tun7; ip link set tun7 up")
	b.NetNS("c2")
	before := b.state()
	peer := func(subnet, way string) string {
		return fmt.Sprintf(`"peers":[{"subnet":"10.44.0.0/24","dev":"tun7"},{"subnet":%q,%s}]`, subnet, way)
	}
	const via = `"via":"192.0.2.200"`
	for _, c := range []struct{ keys, subnet, text string }{
		{peer("10.87.1.0/25", via), "10.87.1.0/25", "10.87.1.1/24 of interface " + bridgeName + ", the bridge of network flatnet"},
		{peer("10.87.0.0/21", via), "10.87.0.0/21", "10.87.1.1/24 of interface " + bridgeName + ", the bridge of network flatnet"},
		{peer("fd87:0:0:1:8000::/66", `"via":"2001:db8::2"`), "fd87:0:0:1:8000::/66", "the bridge of network flatnet"},
		{peer("192.0.2.0/25", via), "192.0.2.0/25", "192.0.2.1/24 of interface up0"},
		{peer("192.0.2.128/26", `"via":"192.0.2.2"`), "192.0.2.128/26", "192.0.2.1/24 of interface up0"},
		{peer("10.55.0.0/24", via), "10.55.0.0/24", "10.55.1.7/16 of interface lan1"},
		{peer("10.55.1.0/24", via) + `,"allowOverlap":true`, "10.55.1.0/24", "10.55.1.7/16 of interface lan1"},
		{peer("10.66.0.0/16", `"dev":"tun7"`), "10.66.0.0/16", "10.66.0.3/16 of interface tun7"},
	} {
		add := call("ADD", "c2")
		with(dualOther, c.keys)(&add)
		b.refused(add, 102, "peers[1].subnet: "+c.subnet, c.text)
		b.refused(lab.Call{Command: "STATUS", Conf: newer(add.Conf)}, 50, c.text)
	}
	b.same(before)
	b.routed()
	for i, keys := range []string{peer("10.66.2.0/24", `"dev":"tun7"`), peer("10.66.3.0/24", via), peer("10.55.0.0/24", via) + `,"allowOverlap":true`} {
		id := fmt.Sprint("ok", i)
		b.attach(id, with(dualOther, keys))
		del := call("DEL", id)
		with(dualOther, keys)(&del)
		b.do(del)
	}
	b.routed()
}

// A plan says which routes to peers an ADD can't make, and of what is new that it is made.
func TestPlanOfPeers(t *testing.T) {
	b := newBox(t)
	add := call("ADD", "c1")
	with(dual, `"peers":[{"subnet":"10.87.2.0/24","dev":"wg0"},{"subnet":"10.87.3.0/24","via":"192.0.2.2"}]`)(&add)
	b.Write("/run/plan.json", newer(add.Conf))
	out := b.Run(program, "plan", "-f", "/run/plan.json")
	for _, text := range []string{"route 10.87.2.0/24 dev wg0 is not made: there is no interface wg0", "route 10.87.3.0/24 via 192.0.2.2 is made",
		"mss-" + bridgeName + " is made: fits TCP's segment size"} {
		if !strings.Contains(out, text) {
			t.Errorf("the plan has no %q:\n%s", text, out)
		}
	}
	if strings.Contains(out, "not as it should be") {
		t.Errorf("what is new is called broken:\n%s", out)
	}
}
