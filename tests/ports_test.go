package tests

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"flatnet/tests/lab"
)

// publish is a call's configuration with port mappings.
func publish(conf string, mappings ...string) string {
	return strings.TrimSuffix(conf, "}") + `,"runtimeConfig":{"portMappings":[` + strings.Join(mappings, ",") + "]}}"
}

func mapping(host, container int, more string) string {
	return fmt.Sprintf(`{"hostPort":%d,"containerPort":%d%s}`, host, container, more)
}

const (
	dual = `{"cniVersion":"1.0.0","name":"flatnet","type":"flatnet","ipam":{"type":"flatnet-ipam",
		"ranges":[[{"subnet":"10.87.1.0/24"}],[{"subnet":"fd87:0:0:1::/64"}]]}}`
	dualOther = `{"cniVersion":"1.0.0","name":"other","type":"flatnet","bridge":"br9","ipam":{"type":"flatnet-ipam",
		"ranges":[[{"subnet":"10.87.9.0/24"}],[{"subnet":"fd87:0:0:9::/64"}]]}}`
	hostAddr6    = "2001:db8::1"
	outsideAddr6 = "2001:db8::2"
)

func (c container) addr6() string {
	for _, ip := range c.result.IPs {
		if addr, _, _ := strings.Cut(ip.Address, "/"); strings.Contains(addr, ":") {
			return addr
		}
	}
	return ""
}

// Bytes are read from a server in the container, by everybody who may want to.
func TestPublishedPort(t *testing.T) {
	t.Parallel()
	for _, bridged := range []string{"0", "1"} { // br_netfilter
		t.Run("bridge-nf-call="+bridged, func(t *testing.T) {
			b := newBox(t)
			b.Sh("for f in ip ip6; do f=/proc/sys/net/bridge/bridge-nf-call-${f}tables; test -e $f && echo " + bridged + " >$f; done")
			before := b.state()
			b.publishedPort()
			b.Run("ip", "link", "del", bridgeName)
			b.Run("ip", "link", "del", "br9")
			b.same(before)
		})
	}
}

func (b box) publishedPort() {
	t := b.t
	web := b.attach("web", func(c *lab.Call) {
		c.Conf = publish(dual, mapping(8080, 80, ""), mapping(8053, 53, `,"protocol":"udp"`))
	})
	sibling := b.attach("sibling", func(c *lab.Call) { c.Conf = dual })
	other := b.attach("other", func(c *lab.Call) { c.Conf = dualOther })
	for _, addr := range []string{web.addr, web.addr6()} {
		web.Serve(net.JoinHostPort(addr, "80"))
		web.ServeUDP(net.JoinHostPort(addr, "53"))
	}
	clients := []struct {
		name string
		from lab.Place
		to   []string
	}{
		{"the outside", b.Outside, []string{lab.HostAddr, hostAddr6}},
		{"the host by its own address", b.Place, []string{lab.HostAddr, hostAddr6, gateway}},
		{"the host by 127.0.0.1", b.Place, []string{"127.0.0.1"}},
		{"the container itself", web.Place, []string{lab.HostAddr, hostAddr6, gateway}},
		{"a sibling", sibling.Place, []string{lab.HostAddr, hostAddr6, gateway}},
		{"another network", other.Place, []string{lab.HostAddr, hostAddr6, gateway}},
	}
	for _, c := range clients {
		for _, to := range c.to {
			if got, err := c.from.Ask(net.JoinHostPort(to, "8080")); got == "" || err != nil {
				t.Errorf("tcp from %s to %s: %q, %v", c.name, to, got, err)
			}
			own := web.addr
			if strings.Contains(to, ":") {
				own = web.addr6()
			}
			if got, err := c.from.AskUDP(net.JoinHostPort(to, "8053"), 0); !strings.HasPrefix(got, own+" to ") {
				t.Errorf("udp from %s to %s: %q, %v", c.name, to, got, err)
			}
		}
	}
	b.do(web.then("DEL"))
	for _, c := range clients {
		if c.from == web.Place {
			continue // has no interface any more
		}
		for _, to := range c.to {
			if got, err := c.from.Ask(net.JoinHostPort(to, "8080")); err == nil {
				t.Errorf("after DEL: tcp from %s to %s: %q", c.name, to, got)
			}
			if got, err := c.from.AskUDP(net.JoinHostPort(to, "8053"), 0); err == nil {
				t.Errorf("after DEL: udp from %s to %s: %q", c.name, to, got)
			}
		}
	}
	b.do(sibling.then("DEL"))
	b.do(other.then("DEL"))
}

// A port that another attachment has is refused by naming the holder, and the
// loser leaves nothing.
func TestPublishedPortIsTaken(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ first, second, names string }{
		{mapping(80, 80, ""), mapping(80, 81, ""), "flatnet/c1/eth0"},
		{mapping(80, 80, ""), mapping(80, 80, `,"hostIP":"127.0.0.1"`), "flatnet/c1/eth0"},
		{mapping(80, 80, `,"hostIP":"192.0.2.1"`), mapping(80, 80, ""), "flatnet/c1/eth0"},
		{mapping(80, 80, `,"hostIP":"192.0.2.1"`), mapping(80, 80, `,"hostIP":"0.0.0.0"`), "flatnet/c1/eth0"},
		{mapping(80, 80, `,"hostIP":"192.0.2.1"`), mapping(80, 80, `,"hostIP":"192.0.2.1"`), "flatnet/c1/eth0"},
		{mapping(80, 80, `,"hostIP":"192.0.2.1"`), mapping(80, 80, `,"hostIP":"127.0.0.1"`), ""},
		{mapping(80, 80, ""), mapping(80, 80, `,"protocol":"udp"`), ""},
		{mapping(80, 80, ""), mapping(81, 80, ""), ""},
	} {
		t.Run(c.first+" "+c.second, func(t *testing.T) {
			b := newBox(t)
			c1 := b.attach("c1", func(l *lab.Call) { l.Conf = publish(lab.Conf, c.first) })
			before := b.state()
			b.NetNS("c2")
			add := call("ADD", "c2")
			add.Conf = publish(lab.Conf, c.second)
			if c.names == "" {
				b.do(add)
				add.Command = "DEL"
				b.do(add)
			} else {
				b.refused(add, 101, c.names)
			}
			b.same(before)
			b.do(c1.then("DEL"))
			b.clean()
		})
	}
}

// A container whose namespace vanished has no port any more: another one gets
// it, on one of the addresses, too, and a reload takes it away. One whose ADD is
// about to make the link has it.
func TestPublishedPortOfAVanishedContainer(t *testing.T) {
	b := newBox(t)
	b.attach("stays")
	add := func(id, more string) lab.Call {
		c := call("ADD", id)
		c.Conf = publish(dual, mapping(8080, 80, more), mapping(8053, 53, `,"protocol":"udp"`))
		return c
	}
	ask := func(c container) {
		t.Helper()
		for _, addr := range []string{c.addr, c.addr6()} {
			c.Serve(net.JoinHostPort(addr, "80"))
			c.ServeUDP(net.JoinHostPort(addr, "53"))
		}
		if _, err := b.Outside.Ask(lab.HostAddr + ":8080"); err != nil {
			t.Error(err)
		}
		if got, err := b.Outside.AskUDP(lab.HostAddr+":8053", 40000); !strings.HasPrefix(got, c.addr+" to ") {
			t.Errorf("udp: %q, %v", got, err)
		}
	}
	first := b.attach("c1", func(c *lab.Call) { *c = add("c1", "") })
	ask(first)
	b.NetNS("c2")
	second := add("c2", `,"hostIP":"`+lab.HostAddr+`"`)
	b.refused(second, 101, "flatnet/c1/eth0")
	b.Run("ip", "link", "del", "fn-c1")
	b.Run("ip", "netns", "del", "c2")
	ask(b.attach("c2", func(c *lab.Call) { *c = second }))
	b.do(first.then("DEL"))
	if list := b.Run("nft", "list", "ruleset"); !strings.Contains(list, "flatnet/c2/eth0") || strings.Contains(list, "/c1/") {
		t.Errorf("after the DEL of who vanished:\n%s", list)
	}
	b.Run("ip", "link", "del", "fn-c2")
	b.reload()
	if list := b.Run("nft", "list", "ruleset"); strings.Contains(list, "ports") {
		t.Errorf("after a reload:\n%s", list)
	}
	if left := b.Sh("find /run/flatnet -name 'c[12]:*' ! -path '*/.gone/*'"); left != "" {
		t.Errorf("records are left: %s", left)
	}
}

// What can't be published is refused before anything is touched.
// Of those who want one port of all addresses and of a single one at one moment,
// one gets it.
func TestPublishedPortWantedByMany(t *testing.T) {
	b := newBox(t)
	b.attach("stays")
	for round := range 5 {
		var got atomic.Int32
		var wg sync.WaitGroup
		for i := range 6 {
			add := call("ADD", fmt.Sprint("c", round, "x", i))
			b.Run("ip", "netns", "add", add.ID)
			more := ""
			if i%2 == 0 {
				more = `,"hostIP":"` + lab.HostAddr + `"`
			}
			add.Conf = publish(lab.Conf, mapping(8080, 80, more))
			wg.Go(func() {
				if b.Call(program, add).Exit == 0 {
					got.Add(1)
				}
			})
		}
		wg.Wait()
		if got.Load() != 1 {
			t.Errorf("%d of them have the port: %s", got.Load(), b.Sh("nft list table ip flatnet.ports"))
		}
		for i := range 6 {
			b.do(call("DEL", fmt.Sprint("c", round, "x", i)))
		}
	}
}

func TestPortMappingsAreRefused(t *testing.T) {
	b := newBox(t)
	b.NetNS("c1")
	before := b.state()
	for _, c := range []struct{ mapping, names string }{
		{mapping(0, 80, ""), "runtimeConfig.portMappings[0].hostPort"},
		{mapping(80, 65536, ""), "containerPort"},
		{mapping(80, -1, ""), "containerPort"},
		{mapping(80, 80, `,"protocol":"icmp"`), "icmp"},
		{mapping(80, 80, `,"hostIP":"localhost"`), "localhost"},
		{mapping(80, 80, `,"hostIP":"fe80::1%eth0"`), "fe80::1%eth0"},
		{mapping(80, 80, `,"hostIP":"224.0.0.1"`), "224.0.0.1"},
		{mapping(80, 80, `,"hostIP":"::1"`), "::1"},
		{mapping(80, 80, `,"hostIP":"fe80::1"`), "fe80::1"},
		{mapping(80, 80, "") + "," + mapping(80, 81, ""), "twice"},
	} {
		add := call("ADD", "c1")
		add.Conf = publish(lab.Conf, c.mapping)
		b.refused(add, 7, c.names)
	}
	b.same(before)
}

// Packets that the host forwards go where they are sent, and nobody gets at the
// host's 127.0.0.1.
func TestPublishedPortsHijackNothing(t *testing.T) {
	b := newBox(t)
	c1 := b.attach("c1", func(c *lab.Call) {
		c.Conf = publish(lab.Conf, mapping(8080, 80, ""), mapping(8081, 80, `,"hostIP":"198.51.100.7"`))
	})
	c1.Serve(c1.addr + ":80")
	far := b.NetNS("far")
	b.Sh("ip link add to-far type veth peer name eth0 netns far; ip addr add 203.0.113.1/24 dev to-far; ip link set to-far up")
	far.Sh("ip link set lo up; ip addr add 203.0.113.2/24 dev eth0; ip addr add 198.51.100.7/32 dev lo; ip link set eth0 up; ip route add default via 203.0.113.1")
	b.Run("ip", "route", "add", "198.51.100.7", "via", "203.0.113.2")
	b.Outside.Run("ip", "route", "add", "default", "via", lab.HostAddr)
	far.Serve("203.0.113.2:8080")
	far.Serve("198.51.100.7:8081")
	for _, to := range []string{"203.0.113.2:8080", "198.51.100.7:8081"} {
		for name, from := range map[string]lab.Place{"outside": b.Outside, "host": b.Place, "container": c1.Place} {
			got, err := from.Ask(to)
			if want := map[string]string{"outside": lab.OutsideAddr, "host": "203.0.113.1", "container": "203.0.113.1"}[name]; got != want {
				t.Errorf("%s to %s arrives as %q, not %q: %v", name, to, got, want, err)
			}
		}
	}

	// A server of the host's own, on 127.0.0.1 only. The neighbours send packets
	// for it to the host's MAC address.
	b.Serve("127.0.0.1:7070")
	for name, n := range map[string]struct {
		from lab.Place
		via  string
	}{"outside": {b.Outside, lab.HostAddr}, "container": {c1.Place, gateway}} {
		n.from.Sh("ip route del local 127.0.0.0/8 table local 2>/dev/null || :; ip addr flush dev lo; echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet; ip route add 127.0.0.0/8 via " + n.via)
		for _, to := range []string{"127.0.0.1:7070", "127.0.0.1:8080"} {
			if got, err := n.from.Ask(to); err == nil {
				t.Errorf("%s reaches %s: %q", name, to, got)
			}
		}
	}
}

// Foreign tables are as they were, while ports come and go.
func TestForeignRulesStay(t *testing.T) {
	b := newBox(t)
	b.Sh(`iptables-nft -N DOCKER; iptables-nft -A FORWARD -o docker0 -j DOCKER; iptables-nft -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j REDIRECT -p tcp --dport 9999
		iptables-nft -A INPUT -p tcp --dport 22 -m comment --comment x -j ACCEPT; ip6tables-nft -A FORWARD -i eth9 -j DROP`)
	cmd := b.Cmd("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(firewalld)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
	before := b.Run("nft", "-s", "list", "ruleset")
	c1 := b.attach("c1", func(c *lab.Call) { c.Conf = publish(dual, mapping(80, 80, ""), mapping(53, 53, `,"protocol":"udp"`)) })
	c2 := b.attach("c2", func(c *lab.Call) { c.Conf = dualOther })
	if during := b.Run("nft", "-s", "list", "ruleset"); !strings.HasPrefix(during, before) || during == before {
		t.Errorf("was\n%s\nand is\n%s", before, during)
	}
	b.do(c1.then("DEL"))
	b.do(c2.then("DEL"))
	if after := b.Run("nft", "-s", "list", "ruleset"); after != before {
		t.Errorf("was\n%s\nand is\n%s", before, after)
	}
}

// firewalld has the shape of firewalld's table.
const firewalld = `table inet firewalld {
	chain filter_FORWARD {
		type filter hook forward priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		accept
	}
	chain nat_PREROUTING { type nat hook prerouting priority dstnat + 10; policy accept; }
}
`

// A client that keeps sending from one port is served by whom the port leads to
// at that moment.
func TestUDPGoesToTheNewContainerAtOnce(t *testing.T) {
	b := newBox(t)
	const port = 40000
	ask := func(to, want string) {
		t.Helper()
		if got, err := b.Outside.AskUDP(to, port); !strings.HasPrefix(got, want+" to ") {
			t.Errorf("%s answers %q, not %s: %v", to, got, want, err)
		}
	}
	udp := func(c *lab.Call) { c.Conf = publish(dual, mapping(8053, 53, `,"protocol":"udp"`)) }
	b.Outside.AskUDP(lab.HostAddr+":8053", port) // before there is anybody
	b.Outside.AskUDP("["+hostAddr6+"]:8053", port)
	for _, id := range []string{"c1", "c2"} {
		c := b.attach(id, udp)
		c.ServeUDP(c.addr + ":53")
		c.ServeUDP("[" + c.addr6() + "]:53")
		if err := b.Ping(c.addr6()); err != nil { // the bridge's first question may be lost
			t.Fatal(err)
		}
		ask(lab.HostAddr+":8053", c.addr)
		ask("["+hostAddr6+"]:8053", c.addr6())
		b.do(c.then("DEL"))
	}
}

// The rules of published ports can be saved and loaded by nft itself, as can those of
// a network, which then are what CHECK wants.
const saveAndLoad = "nft list ruleset >/run/saved; nft flush ruleset; nft -f /run/saved; nft list ruleset >/run/loaded; cmp /run/saved /run/loaded"

func TestRulesCanBeSaved(t *testing.T) {
	b := newBox(t)
	portless := b.attach("c2", like(dual))
	b.attach("c1", func(c *lab.Call) {
		c.Conf = publish(dual, mapping(80, 80, ""), mapping(81, 80, `,"hostIP":"192.0.2.1"`), mapping(81, 80, `,"hostIP":"2001:db8::1"`))
	})
	b.Sh(saveAndLoad)
	b.do(portless.then("CHECK"))
}

// Where the kernel lacks fib, a set of the host's addresses says what is
// addressed to it. Here a table of that kind is there already.
func TestPublishedPortWithoutFib(t *testing.T) {
	b := newBox(t)
	first := b.attach("first", func(c *lab.Call) { c.Conf = publish(dual, mapping(9000, 80, "")) })
	for family, typ := range map[string]string{"ip": "ipv4_addr", "ip6": "ipv6_addr"} {
		table := family + " flatnet.ports"
		listed := b.Run("nft", "list", "table", family, "flatnet.ports")
		listed = strings.ReplaceAll(listed, "fib daddr type local", family+" daddr @host")
		listed = strings.Replace(listed, "{\n", "{\n\tset host { type "+typ+"; }\n", 1)
		b.Write("/run/table.nft", "delete table "+table+"\n"+listed)
		b.Run("nft", "-f", "/run/table.nft")
	}
	b.reload() // nft writes the same rules in other words
	web := b.attach("web", func(c *lab.Call) { c.Conf = publish(dual, mapping(8080, 80, "")) })
	for _, addr := range []string{web.addr, web.addr6()} {
		web.Serve(net.JoinHostPort(addr, "80"))
	}
	for to, from := range map[string]lab.Place{lab.HostAddr: b.Outside, hostAddr6: b.Outside, "127.0.0.1": b.Place, gateway: web.Place} {
		if _, err := from.Ask(net.JoinHostPort(to, "8080")); err != nil {
			t.Error(err)
		}
	}
	b.Outside.Serve(lab.OutsideAddr + ":8080")
	if as, err := web.Ask(lab.OutsideAddr + ":8080"); as != lab.HostAddr {
		t.Errorf("the outside's own port arrives as %q: %v", as, err)
	}
	for _, c := range []container{first, web} {
		b.do(c.then("CHECK"))
	}
	for _, c := range []container{first, web} {
		b.do(c.then("DEL"))
	}
	b.clean()
}

// A sysctl that can't be set is named, and one that need not be set is not
// touched. With the last attachment it is as before.
func TestPublishedPortSysctl(t *testing.T) {
	b := newBox(t)
	const name = "/proc/sys/net/ipv4/conf/" + bridgeName + "/route_localnet"
	plain := b.attach("plain")
	if v := strings.TrimSpace(b.Run("cat", name)); v != "0" {
		t.Errorf("without a port it is %s", v)
	}
	add := call("ADD", "web")
	add.Conf = publish(lab.Conf, mapping(8080, 80, ""))
	b.NetNS("web").Sh("for f in dad ra; do echo 0 >/proc/sys/net/ipv6/conf/default/accept_$f; done")
	b.Sh("mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys")
	before := b.state()
	b.refused(add, 0, "route_localnet")
	b.same(before)
	b.Sh("umount /proc/sys; echo 1 >" + name + "; mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys")
	b.do(add)
	add.Command = "DEL"
	b.do(add)
	b.do(plain.then("DEL")) // says that it can't set the sysctl back
	b.Sh("umount /proc/sys")
	if v := strings.TrimSpace(b.Run("cat", name)); v != "1" {
		t.Errorf("after the last DEL with a read-only /proc/sys it is %s", v)
	}
	add.Command = "ADD"
	b.do(add)
	add.Command = "DEL"
	b.do(add)
	if v := strings.TrimSpace(b.Run("cat", name)); v != "0" {
		t.Errorf("after the last DEL it is %s", v)
	}
	for _, other := range []string{"all", "default", "lo", lab.Uplink} {
		if v := strings.TrimSpace(b.Run("cat", "/proc/sys/net/ipv4/conf/"+other+"/route_localnet")); v != "0" {
			t.Errorf("that of %s is %s", other, v)
		}
	}
}

func TestPublishedSCTPPort(t *testing.T) {
	b := newBox(t)
	c1 := b.attach("c1", func(c *lab.Call) { c.Conf = publish(lab.Conf, mapping(8132, 132, `,"protocol":"sctp"`)) })
	c1.ServeSCTP(c1.addr + ":132")
	for name, from := range map[string]lab.Place{"outside": b.Outside, "host": b.Place} {
		if err := from.AskSCTP(lab.HostAddr + ":8132"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := from.AskSCTP(lab.HostAddr + ":8133"); err == nil {
			t.Errorf("%s: another port answers", name)
		}
	}
}

// A runtime asks for a container's ports in each of its networks. They are
// reached by the first, and when that is disconnected by the other.
func TestPublishedPortInTwoNetworks(t *testing.T) {
	t.Run("both normal", func(t *testing.T) { inTwoNetworks(t, dual, dualOther) })
	t.Run("the first internal", func(t *testing.T) {
		inTwoNetworks(t, dual, strings.Replace(dualOther, `"bridge"`, `"internal":true,"bridge"`, 1))
	})
}

// inTwoNetworks attaches a container to the second network first, if that is
// internal: the outside must reach it in any case.
func inTwoNetworks(t *testing.T, conf1, conf2 string) {
	internal := strings.Contains(conf2, "internal")
	b := newBox(t)
	place := b.NetNS("web")
	attached := func(ifName, conf string) container {
		c := container{Place: place, add: call("ADD", "web")}
		c.add.IfName, c.add.Conf = ifName, publish(conf, mapping(8080, 80, ""))
		c.result = b.do(c.add)
		return c
	}
	var web, second container
	if internal {
		second = attached("eth1", conf2)
	}
	web = attached("eth0", conf1)
	if !internal {
		second = attached("eth1", conf2)
	}
	web.Serve("0.0.0.0:80")
	reach := func() {
		t.Helper()
		for _, c := range []container{web, second} {
			if c.result.Stdout != "" {
				b.do(c.then("CHECK"))
			}
		}
		from := b.Outside
		if internal && web.result.Stdout == "" {
			from = b.Place // as before it had another network
		}
		if _, err := from.Ask(lab.HostAddr + ":8080"); err != nil {
			t.Error(err)
		}
	}
	reach()
	b.Run("nft", "flush", "ruleset")
	b.reload()
	reach()
	b.do(web.then("DEL"))
	web.result.Stdout = ""
	reach()
	b.Run("nft", "flush", "ruleset")
	b.reload()
	reach()
	b.do(second.then("DEL"))
	b.Run("ip", "link", "del", "br9")
	b.clean()
}

// Of several networks that a container is left in, the one of the first interface gets a
// port that is free now, and an internal one only if there is no other.
func TestHeirsOfAPort(t *testing.T) {
	b := newBox(t)
	place := b.NetNS("web")
	attach := func(i int, network, more string) container {
		c := container{Place: place, add: call("ADD", "web")}
		c.add.IfName = fmt.Sprint("eth", i)
		c.add.Conf = publish(fmt.Sprintf(`{"cniVersion":"1.0.0","name":%q,"type":"flatnet","bridge":"br%d",%s"ipam":{"subnet":"10.87.%d.0/24"}}`,
			network, i, more, 10+i), mapping(8080, 80, ""))
		c.result = b.do(c.add)
		return c
	}
	first := attach(0, "n", "")
	attach(1, "a", `"internal":true,`)
	for i, network := range []string{"z", "m", "b", "k", "c", "y"} {
		attach(2+i, network, "")
	}
	b.do(first.then("DEL"))
	if list := b.Run("nft", "list", "map", "ip", "flatnet.ports", "everywhere"); !strings.Contains(list, `"z/web/eth2"`) {
		t.Errorf("not the first interface has the port: %s", list)
	}
}

// Containers reach published ports by the link-local addresses of their bridge.
// Linux forwards nothing else from a link-local address: so that no other client
// waits in vain, the host itself answers it, with br_netfilter or without.
func TestPublishedPortByLinkLocalAddresses(t *testing.T) {
	for _, bridged := range []string{"0", "1"} { // br_netfilter
		t.Run("bridge-nf-call="+bridged, func(t *testing.T) {
			b := newBox(t)
			b.Sh("f=/proc/sys/net/bridge/bridge-nf-call-ip6tables; test -e $f && echo " + bridged + " >$f")
			web := b.attach("web", func(c *lab.Call) { c.Conf = publish(dual, mapping(8080, 80, "")) })
			sibling := b.attach("sibling", func(c *lab.Call) { c.Conf = dual })
			b.Sh("ip addr add fe80::1/64 dev " + lab.Uplink + " nodad; ip addr add fe80::1/64 dev " + bridgeName + " nodad")
			b.Outside.Sh("ip addr add fe80::2/64 dev eth0 nodad")
			web.Serve("[::]:80")
			for _, from := range []container{web, sibling} {
				if _, err := from.Ask("[fe80::1%eth0]:8080"); err != nil {
					t.Error(err)
				}
			}
			for _, c := range []struct {
				from lab.Place
				to   string
			}{
				{b.Place, "fe80::1%" + lab.Uplink}, {b.Place, "fe80::1%" + bridgeName}, {b.Outside, "fe80::1%eth0"},
			} {
				if got, err := c.from.Ask(net.JoinHostPort(c.to, "8080")); err == nil || !strings.Contains(err.Error(), "connection refused") {
					t.Errorf("%s: %q, %v", c.to, got, err)
				}
			}
			// The host's own server is reached by these.
			b.Serve("[fe80::1%" + lab.Uplink + "]:8080")
			if got, err := b.Outside.Ask("[fe80::1%eth0]:8080"); got == "" || err != nil {
				t.Errorf("the host's own server: %q, %v", got, err)
			}
		})
	}
}

// The table of an older version, which lacks a set, goes with the last port as well.
func TestPortsTableOfAnOlderVersion(t *testing.T) {
	b := newBox(t)
	c1 := b.attach("c1", func(c *lab.Call) { c.Conf = publish(lab.Conf, mapping(8080, 80, "")) })
	b.Sh("nft 'delete chain ip flatnet.ports local; delete set ip flatnet.ports local'")
	b.do(c1.then("DEL"))
	if rules := b.Run("nft", "list", "ruleset"); rules != "" {
		t.Errorf("left: %s", rules)
	}
}
