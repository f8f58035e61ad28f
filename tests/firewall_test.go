package tests

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// withRawRules has tables of other firewalls whose rules keep raw user data, in
// chains that accept and chains that drop.
func (b box) withRawRules() {
	b.t.Helper()
	for _, family := range []string{"ip", "ip6", "inet"} {
		b.Run("nft", "table "+family+` agent {
			chain forward { type filter hook forward priority 0; policy drop; meta l4proto tcp accept; iifname "wg0" ct state new accept; }
			chain input { type filter hook input priority 0; policy accept; }
			chain helper { }
			set peers { type mark . inet_service . ether_addr; flags timeout; }
			map zones { type ifname : verdict; elements = { "wg0" : accept }; }
		}`)
		for _, chain := range []string{"forward", "input", "helper"} {
			b.RawRule(family, "agent", chain, "agent: peer 0f")
			b.RawRule(family, "agent", chain, "\x01")
		}
	}
	b.Run("nft", `table netdev agent { chain in { type filter hook ingress device "up0" priority 0; policy drop; accept; }; }
		table inet early { chain in { type filter hook ingress device "up0" priority 0; policy accept; }; }
		table arp agent { chain in { type filter hook input priority 0; policy accept; }; }
		table bridge agent { chain in { type filter hook forward priority 0; policy accept; }; }`)
}

// Whatever other firewalls keep in their tables, no verb fails for it.
func TestForeignRulesWithRawUserData(t *testing.T) {
	t.Parallel()
	for name, accept := range map[string]string{"advice": "", "forwardAccept": `"forwardAccept":true,`} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.withRawRules()
			before := b.Run("nft", "-s", "list", "ruleset")
			conf := strings.Replace(dual, `"ipam"`, accept+`"ipam"`, 1)
			c := b.attach("c1", func(c *lab.Call) { c.Conf = publish(conf, mapping(8080, 80, "")) })
			b.do(c.then("CHECK"))
			b.reload()
			b.Run("nft", "delete table ip flatnet; delete table ip6 flatnet")
			b.reload()
			b.do(c.then("CHECK"))
			status := c.then("STATUS")
			status.Conf = strings.Replace(conf, "1.0.0", "1.1.0", 1)
			if accept == "" {
				b.refused(status, 51, "agent forward")
			} else {
				b.do(status)
				if err := c.Ping(lab.OutsideAddr); err != nil {
					t.Error(err)
				}
			}
			b.do(c.then("DEL"))
			if after := b.Run("nft", "-s", "list", "ruleset"); sorted(after) != sorted(before) {
				t.Errorf("was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

// A table of which another process is the owner takes no rule of others.
func TestForwardAcceptIsRefused(t *testing.T) {
	b := newBox(t)
	owner := b.Cmd("nft", "-i")
	in, err := owner.StdinPipe()
	if err == nil {
		err = owner.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); owner.Wait() })
	fmt.Fprintln(in, `add table inet owned { flags owner; chain forward { type filter hook forward priority 0; policy drop; }; }`)
	b.Sh("until nft list tables | grep -q owned; do :; done")
	c := b.attach("c1", func(c *lab.Call) { c.Conf = conf(`"forwardAccept":true`) })
	b.do(c.then("DEL"))
}

// An internal network is one for every family, with whatever addresses its
// containers give themselves, where the host forwards.
func TestInternalInBothFamilies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, ranges, own, way, via string }{
		{"IPv4 only", `[{"subnet":"10.87.5.0/24"}]`, "2001:db8:5::2/64", "-6", "2001:db8:5::1"},
		{"IPv6 only", `[{"subnet":"fd87:0:0:5::/64"}]`, "10.99.5.2/24", "-4", "10.99.5.1"},
	} {
		for _, gateway := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, gateway %v", c.name, gateway), func(t *testing.T) {
				b := newBox(t)
				b.Sh("echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
				in := b.attach("in", func(call *lab.Call) {
					call.Conf = fmt.Sprintf(`{"cniVersion":"1.0.0","name":"in","type":"flatnet","bridge":"br5","internal":true,"isGateway":%v,"ipam":{"ranges":[%s]}}`, gateway, c.ranges)
				})
				flags := ""
				if c.way == "-6" {
					flags = " nodad"
				}
				b.Sh("ip addr add " + strings.Replace(c.own, "2/", "1/", 1) + " dev br5" + flags)
				in.Sh("ip addr add " + c.own + " dev eth0" + flags + "; ip " + c.way + " route replace default via " + c.via)
				out, to := lab.OutsideAddr, "10.99.5.2"
				if c.way == "-6" {
					out, to = outsideAddr6, "2001:db8:5::2"
				}
				back := "192.0.2.1"
				if c.way == "-6" {
					back = "2001:db8::1"
				}
				b.Outside.Sh("ip " + c.way + " route add " + c.own[:strings.LastIndex(c.own, "/")] + " via " + back)
				if err := in.Ping(c.via); err != nil { // the host is reached
					t.Error(err)
				}
				b.Outside.Run("nft", "table inet watch { counter seen { }; chain in { type filter hook prerouting priority -400; ip saddr 10.99.5.2 counter name seen; ip6 saddr 2001:db8:5::2 counter name seen; }; }")
				if in.Ping(out) == nil || b.Outside.Ping(to) == nil {
					t.Error("the network is left and entered")
				}
				if seen := b.Outside.Run("nft", "list", "counter", "inet", "watch", "seen"); !strings.Contains(seen, "packets 0 ") {
					t.Errorf("the outside has seen the internal network: %s", seen)
				}
				b.do(in.then("DEL"))
				if rules := b.Run("nft", "list", "ruleset"); rules != "" {
					t.Errorf("rules are left:\n%s", rules)
				}
			})
		}
	}
}

// Networks without addresses in a family are apart in it, too.
func TestIsolationInTheFamilyThatANetworkLacks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b  string // keys of the networks
		apart bool
	}{
		{"", "", true}, {`"isolation":"none",`, "", true}, {"", `"isolation":"none",`, true},
		{`"isolation":"none",`, `"isolation":"none",`, false},
	} {
		t.Run(c.a+" and "+c.b, func(t *testing.T) {
			b := newBox(t)
			b.Sh("echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
			one := func(name string, n int, keys string) container {
				c := b.attach(name, func(c *lab.Call) {
					c.Conf = fmt.Sprintf(`{"cniVersion":"1.0.0","name":%q,"type":"flatnet","bridge":"br%d",%s"ipam":{"subnet":"10.87.%d.0/24"}}`, name, n, keys, n)
				})
				b.Sh(fmt.Sprintf("ip addr add 2001:db8:%d::1/64 dev br%d nodad", n, n))
				c.Sh(fmt.Sprintf("ip addr add 2001:db8:%d::2/64 dev eth0 nodad; ip -6 route add default via 2001:db8:%d::1", n, n))
				return c
			}
			first, second := one("a", 5, c.a), one("b", 6, c.b)
			if (first.Ping("2001:db8:6::2") != nil) != c.apart || (second.Ping("2001:db8:5::2") != nil) != c.apart {
				t.Errorf("apart is not %v", c.apart)
			}
			if err := first.Ping(lab.OutsideAddr); err != nil {
				t.Error(err)
			}
			b.do(first.then("DEL"))
			b.do(second.then("DEL"))
			if rules := b.Run("nft", "list", "ruleset"); rules != "" {
				t.Errorf("rules are left:\n%s", rules)
			}
		})
	}
}

// A route through the gateway does not lead around portIsolation. A sibling's
// published port is reached all the same, unless br_netfilter has the bridge
// itself refuse it.
func TestPortIsolationThroughTheGateway(t *testing.T) {
	b := newBox(t)
	b.Sh("for f in ip ip6; do f=/proc/sys/net/bridge/bridge-nf-call-${f}tables; test ! -e $f || echo 0 >$f; done")
	conf := strings.Replace(dual, `"ipam"`, `"portIsolation":true,"ipam"`, 1)
	c1 := b.attach("c1", func(c *lab.Call) { c.Conf = conf })
	c2 := b.attach("c2", func(c *lab.Call) { c.Conf = publish(conf, mapping(8080, 80, "")) })
	c2.Serve("[::]:80")
	c1.Sh("ip route add " + c2.addr + "/32 via " + gateway + "; ip -6 route add " + c2.addr6() + "/128 via fd87:0:0:1::1")
	c2.Sh("ip route add " + c1.addr + "/32 via " + gateway + "; ip -6 route add " + c1.addr6() + "/128 via fd87:0:0:1::1")
	c2.Run("nft", "table inet watch { counter seen { }; chain in { type filter hook prerouting priority -400; ip saddr "+c1.addr+" counter name seen; ip6 saddr "+c1.addr6()+" counter name seen; }; }")
	for _, to := range []string{c2.addr, c2.addr6()} {
		if c1.Ping(to) == nil {
			t.Errorf("reaches %s", to)
		}
	}
	if seen := c2.Run("nft", "list", "counter", "inet", "watch", "seen"); !strings.Contains(seen, "packets 0 ") {
		t.Errorf("a packet came through: %s", seen)
	}
	for _, host := range []string{gateway, lab.HostAddr, "fd87:0:0:1::1", hostAddr6} {
		if _, err := c1.Ask(net.JoinHostPort(host, "8080")); err != nil {
			t.Errorf("the published port: %v", err)
		}
	}
	for _, to := range []string{gateway, "fd87:0:0:1::1", lab.OutsideAddr, outsideAddr6} {
		if err := c1.Ping(to); err != nil {
			t.Error(err)
		}
	}
	b.do(c1.then("CHECK"))
}

// What a network sends to itself keeps its address: between two subnets, and to
// everybody on a link.
func TestNoMasqueradeWithin(t *testing.T) {
	b := newBox(t)
	two := func(c *lab.Call) {
		c.Conf = `{"cniVersion":"1.0.0","name":"two","type":"flatnet","bridge":"br5","ipam":{"ranges":[
			[{"subnet":"10.99.1.0/30"},{"subnet":"10.99.2.0/24"}],[{"subnet":"fd99:0:0:1::/126"},{"subnet":"fd99:0:0:2::/64"}]]}}`
	}
	c1, c2 := b.attach("c1", two), b.attach("c2", func(c *lab.Call) { two(c); c.Conf = publish(c.Conf, mapping(8080, 80, "")) })
	c2.Serve("[::]:80")
	b.Outside.Serve(lab.OutsideAddr + ":80")
	b.Outside.Serve("[" + outsideAddr6 + "]:80")
	for to, want := range map[string]string{c2.addr: c1.addr, c2.addr6(): c1.addr6(), lab.OutsideAddr: lab.HostAddr, outsideAddr6: hostAddr6} {
		if as, err := c1.Ask(net.JoinHostPort(to, "80")); err != nil || strings.TrimPrefix(as, "::ffff:") != want {
			t.Errorf("%s sees %s: %v", to, as, err)
		}
	}
	for _, host := range []string{lab.HostAddr, hostAddr6} {
		if _, err := c1.Ask(net.JoinHostPort(host, "8080")); err != nil {
			t.Error(err)
		}
	}
	// The host's own limited broadcast, from the gateway's address.
	b.Outside.Run("nft", "table ip watch { counter own { }; counter other { }; chain in { type filter hook prerouting priority -400; ip daddr 255.255.255.255 ip saddr 10.99.1.1 counter name own; ip daddr 255.255.255.255 ip saddr != 10.99.1.1 counter name other; }; }")
	b.Sh("ping -n -b -c 1 -W 1 -I up0 -I 10.99.1.1 255.255.255.255 || :")
	b.Outside.Sh("nft list counter ip watch own | grep 'packets 1 '; nft list counter ip watch other | grep 'packets 0 '")
}

// changedSettings are a network's keys before and after a change, and the one that
// CHECK names.
var changedSettings = map[string]struct{ first, then, key string }{
	"ipMasq":        {``, `"ipMasq":false`, "ipMasq"},
	"noMasq":        {``, `"noMasq":["192.0.2.0/24"]`, "noMasq"},
	"isolation":     {``, `"isolation":"none"`, "isolation"},
	"isolated":      {`"isolation":"none"`, ``, "isolation"},
	"internal":      {``, `"internal":true`, "internal"},
	"internal once": {`"internal":true`, ``, "internal"},
	"portIsolation": {``, `"portIsolation":true`, "portIsolation"},
	"inbound":       {``, `"inbound":"published"`, "inbound"},
	"inbound once":  {`"inbound":"published"`, ``, "inbound"},
	"forwardAccept": {``, `"forwardAccept":true`, "forwardAccept"},
	"gateway":       {`"forceAddress":true`, `"forceAddress":true`, "gateway"},
}

// With a configuration that changed, CHECK names the keys and what helps, and the
// next ADD applies the change to all of the network.
func TestChangedSettings(t *testing.T) {
	t.Parallel()
	for name, c := range changedSettings {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			full := func(keys, gw string) string {
				if keys != "" {
					keys = "," + keys
				}
				return `{"cniVersion":"1.0.0","name":"flatnet","type":"flatnet"` + keys +
					`,"ipam":{"ranges":[[{"subnet":"10.87.1.0/30","gateway":"10.87.1.1"},{"subnet":"10.87.2.0/24","gateway":"` + gw + `"}]]}}`
			}
			first, then := full(c.first, "10.87.2.1"), full(c.then, "10.87.2.1")
			if c.key == "gateway" {
				then = full(c.then, "10.87.2.254")
			}
			var made []container
			for i := range 2 { // one in each subnet
				made = append(made, b.attach(fmt.Sprint("c", i), func(call *lab.Call) { call.Conf = first }))
			}
			want := b.in(t)
			check := made[1].then("CHECK")
			check.Conf = lab.WithPrev(then, made[1].result)
			if c.key != "gateway" { // of which the routes tell first
				want.refused(check, 104, c.key, "next ADD")
			}
			b.reload() // restores what is recorded
			b.do(made[1].then("CHECK"))
			last := b.attach("last", func(call *lab.Call) { call.Conf = then })
			b.do(last.then("CHECK"))
			if c.key == "portIsolation" { // of bridge ports that were there before
				b.reload()
			}
			if c.key != "internal" && c.key != "gateway" { // whose containers have other routes
				b.do(check)
				check0 := made[0].then("CHECK")
				check0.Conf = lab.WithPrev(then, made[0].result)
				b.do(check0)
			}
			after := sorted(b.Run("nft", "list", "ruleset"))
			b.Run("nft", "flush", "ruleset")
			b.reload()
			if restored := sorted(b.Run("nft", "list", "ruleset")); restored != after {
				t.Errorf("rules were\n%s\nand are restored as\n%s", after, restored)
			}
			if c.key == "gateway" && !strings.Contains(after, "10.87.2.254") {
				t.Errorf("the rules have another gateway:\n%s", after)
			}
		})
	}
}

// Who comes from elsewhere reaches published ports only, if the network says so;
// the host and siblings reach the container as ever, and it reaches everybody.
func TestInboundPublished(t *testing.T) {
	b := newBox(t)
	keys := `"inbound":"published","noMasq":["0.0.0.0/0","::/0"],`
	c1 := b.attach("c1", func(c *lab.Call) {
		c.Conf = publish(strings.Replace(dual, `"ipam"`, keys+`"ipam"`, 1), mapping(8080, 80, ""))
	})
	sibling := b.attach("c2", func(c *lab.Call) { c.Conf = strings.Replace(dual, `"ipam"`, keys+`"ipam"`, 1) })
	b.Outside.Sh("ip route add 10.87.0.0/16 via 192.0.2.1; ip -6 route add fd87::/32 via 2001:db8::1")
	for _, port := range []string{"80", "81"} {
		c1.Serve("[::]:" + port)
	}
	b.Outside.Serve(lab.OutsideAddr + ":80")
	b.Outside.Serve("[" + outsideAddr6 + "]:80")
	tried := func() {
		t.Helper()
		for _, addr := range []string{c1.addr, c1.addr6()} {
			for _, port := range []string{"80", "81"} {
				to := net.JoinHostPort(addr, port)
				if _, err := b.Outside.Ask(to); err == nil {
					t.Errorf("the outside reaches %s", to)
				}
				for _, from := range []lab.Place{b.Place, sibling.Place} {
					if _, err := from.Ask(to); err != nil {
						t.Error(err)
					}
				}
			}
			if b.Outside.Ping(addr) == nil {
				t.Errorf("the outside pings %s", addr)
			}
		}
		for _, host := range []string{lab.HostAddr, hostAddr6} {
			if _, err := b.Outside.Ask(net.JoinHostPort(host, "8080")); err != nil {
				t.Errorf("the published port: %v", err)
			}
		}
		for to, want := range map[string]string{lab.OutsideAddr: c1.addr, outsideAddr6: c1.addr6()} {
			if as, err := c1.Ask(net.JoinHostPort(to, "80")); err != nil || strings.TrimPrefix(as, "::ffff:") != want {
				t.Errorf("%s sees %s: %v", to, as, err)
			}
		}
	}
	tried()
	b.Sh("nft list ruleset >/run/saved; nft flush ruleset; nft -f /run/saved")
	tried()
	b.do(c1.then("DEL"))
	b.do(sibling.then("DEL"))
	b.clean()
}

// A port that is published on 127.0.0.1 only is not reached from outside by the
// container's address, in either family. Others are, with a route: the network is
// flat.
func TestPublishedOnLoopbackOnly(t *testing.T) {
	b := newBox(t)
	local := func(port int) string { return mapping(port, 80, `,"hostIP":"127.0.0.1"`) }
	c1 := b.attach("c1", func(c *lab.Call) { c.Conf = publish(dual, local(8080), local(8081)) })
	c2 := b.attach("c2", func(c *lab.Call) { c.Conf = publish(dual, local(8082), mapping(8083, 80, "")) })
	for _, c := range []container{c1, c2} {
		c.Serve("[::]:80")
		c.Serve("[::]:81")
	}
	b.Outside.Sh("ip route add 10.87.0.0/16 via 192.0.2.1; ip -6 route add fd87::/32 via 2001:db8::1")
	tried := func() {
		t.Helper()
		for _, addr := range []string{c1.addr, c1.addr6(), c2.addr, c2.addr6()} {
			for _, port := range []string{"80", "81"} {
				to := net.JoinHostPort(addr, port)
				want := port == "81" || addr == c2.addr || addr == c2.addr6()
				if _, err := b.Outside.Ask(to); (err == nil) != want {
					t.Errorf("from outside to %s: %v", to, err)
				}
				for _, from := range []lab.Place{b.Place, c1.Place, c2.Place} {
					if _, err := from.Ask(to); err != nil {
						t.Error(err)
					}
				}
			}
		}
		for _, port := range []string{"8080", "8081", "8082", "8083"} {
			if _, err := b.Ask("127.0.0.1:" + port); err != nil {
				t.Error(err)
			}
		}
		if _, err := b.Outside.Ask(lab.HostAddr + ":8083"); err != nil {
			t.Error(err)
		}
	}
	tried()
	b.do(c1.then("CHECK"))
	b.Run("nft", "flush", "ruleset")
	b.reload()
	tried()
	b.do(c1.then("CHECK"))
	b.Sh("nft list ruleset >/run/saved; nft flush ruleset; nft -f /run/saved")
	tried()
	b.do(c1.then("DEL"))
	b.do(c2.then("DEL"))
	b.clean()
}

// A container of two networks has its port closed in both.
func TestPublishedOnLoopbackInTwoNetworks(t *testing.T) {
	b := newBox(t)
	port := mapping(8080, 80, `,"hostIP":"127.0.0.1"`)
	c := b.attach("c1", func(c *lab.Call) { c.Conf = publish(lab.Conf, port) })
	second := c.add
	second.IfName = "eth1"
	second.Conf = publish(otherConf, port)
	second.Conf = strings.Replace(second.Conf, `"ipam"`, `"isDefaultGateway":false,"ipam"`, 1)
	addr := b.do(second).Addr()
	c.Serve("[::]:80")
	c.Sh("ip rule add from " + addr + " table 9; ip route add default via 10.87.9.1 table 9")
	b.Outside.Sh("ip route add 10.87.0.0/16 via 192.0.2.1")
	for _, to := range []string{c.addr, addr} {
		if _, err := b.Ask(to + ":80"); err != nil {
			t.Error(err)
		}
		if _, err := b.Outside.Ask(to + ":80"); err == nil {
			t.Errorf("the outside reaches %s", to)
		}
		if err := b.Outside.Ping(to); err != nil {
			t.Error(err)
		}
	}
	second.Command = "DEL"
	b.do(second)
	b.do(c.then("DEL"))
	b.Run("ip", "link", "del", "br9")
	b.clean()
}
