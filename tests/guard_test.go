package tests

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"flatnet/tests/lab"
)

// guarded is a dual-stack configuration with macspoofchk.
var guarded = strings.Replace(dual, `"ipam"`, `"macspoofchk":true,"ipam"`, 1)

func withConf(conf string) func(*lab.Call) { return func(c *lab.Call) { c.Conf = conf } }

// A guardBox is a box whose kernel has the checks in one of two families: in the bridge
// family or, as where there is none (see TestKernels), in the netdev family.
type guardBox struct {
	box
	family string
}

// eachFamily runs a test with the checks in either family.
func eachFamily(t *testing.T, test func(guardBox)) {
	t.Helper()
	t.Parallel()
	for _, family := range []string{"bridge", "netdev"} {
		t.Run(family, func(t *testing.T) { test(newGuardBox(t, family)) })
	}
}

func newGuardBox(t *testing.T, family string) guardBox {
	t.Helper()
	b := guardBox{newBox(t), family}
	b.flush()
	return b
}

// flushing are commands of nft which remove all rules, and make flatnet choose the
// family for a network's checks: that of a table which is there already.
func (b guardBox) flushing(networks ...string) string {
	commands := "flush ruleset"
	if b.family == "netdev" {
		for _, network := range networks {
			commands += "; add table netdev " + network
		}
	}
	return commands
}

func (b guardBox) flush() { b.Run("nft", b.flushing("flatnet")) }

// table lists the table with the checks.
func (b guardBox) table() string {
	b.t.Helper()
	return b.Run("nft", "list", "table", b.family, "flatnet")
}

// hardware is the MAC address of a container's interface.
func (c container) hardware(t *testing.T) []byte {
	t.Helper()
	mac, err := hex.DecodeString(strings.ReplaceAll(links(t, c.Place)["eth0"].Address, ":", ""))
	if err != nil || len(mac) != 6 {
		t.Fatalf("MAC of %s: %x, %v", c.add.ID, mac, err)
	}
	return mac
}

// linkLocal is the address that a MAC makes (RFC 4291, appendix A).
func linkLocal(mac []byte) string {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]}).String()
}

// ether is a frame to a MAC address.
func ether(to, from []byte, ethertype uint16, payload ...[]byte) []byte {
	return slices.Concat(to, from, binary.BigEndian.AppendUint16(nil, ethertype), slices.Concat(payload...))
}

// arp is an ARP request (RFC 826) by a broadcast.
func arp(mac, senderMAC []byte, sender, target string) []byte {
	s, a := netip.MustParseAddr(sender).As4(), netip.MustParseAddr(target).As4()
	return ether([]byte{255, 255, 255, 255, 255, 255}, mac, 0x0806, []byte{0, 1, 8, 0, 6, 4, 0, 1}, senderMAC, s[:], make([]byte, 6), a[:])
}

// icmpv6 is an ICMPv6 message to a multicast group, behind an empty extension header
// (destination options) if hidden.
func icmpv6(mac []byte, source, group string, hidden bool, message []byte) []byte {
	src, dst := netip.MustParseAddr(source).As16(), netip.MustParseAddr(group).As16()
	pseudo := slices.Concat(src[:], dst[:], binary.BigEndian.AppendUint32(nil, uint32(len(message))), []byte{0, 0, 0, 58}, message)
	var sum uint32
	for word := range slices.Chunk(pseudo, 2) {
		sum += uint32(binary.BigEndian.Uint16(word))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(message[2:], ^uint16(sum))
	next, body := byte(58), message
	if hidden {
		next, body = 60, append([]byte{58, 0, 1, 4, 0, 0, 0, 0}, message...)
	}
	header := slices.Concat([]byte{0x60, 0, 0, 0}, binary.BigEndian.AppendUint16(nil, uint16(len(body))), []byte{next, 255}, src[:], dst[:])
	return ether([]byte{0x33, 0x33, dst[12], dst[13], dst[14], dst[15]}, mac, 0x86dd, header, body)
}

// solicit is a neighbour solicitation's message (RFC 4861, section 4.3).
func solicit(target string) []byte {
	a := netip.MustParseAddr(target).As16()
	return append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, a[:]...)
}

// advertiseRouter is a router advertisement's message, of a lifetime of 1800 s.
func advertiseRouter() []byte { return []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0} }

// watch counts what a place gets, by rules of its own.
func (c container) watch(rules ...string) {
	for i, r := range rules {
		family, match, _ := strings.Cut(r, ": ")
		chain := "type filter hook prerouting priority -400"
		if family == "arp" {
			chain = "type filter hook input priority -400"
		}
		c.Run("nft", fmt.Sprintf("table %s watch%d { counter seen { }; chain in { %s; %s counter name seen; }; }", family, i, chain, match))
	}
}

func (c container) heard(i int, family string) string {
	out := c.Run("nft", "list", "counter", family, fmt.Sprint("watch", i), "seen")
	_, n, _ := strings.Cut(out, "packets ")
	n, _, _ = strings.Cut(n, " ")
	return n
}

// What says that another's address is in use, or that here is a router, is not
// heard; the same about the container's own addresses is.
func TestSpoofCheckOfProbesAndAdvertisements(t *testing.T) {
	eachFamily(t, guardBox.spoofCheckOfProbesAndAdvertisements)
}

func (b guardBox) spoofCheckOfProbesAndAdvertisements() {
	t := b.t
	liar, victim := b.attach("liar", withConf(guarded)), b.attach("victim", withConf(guarded))
	mac := liar.hardware(t)
	own := linkLocal(mac)
	b.mute(liar.Place) // only the frames below are counted
	const all = "ff02::1"
	for _, c := range []struct {
		name, watch string
		frames      [][]byte
		heard       string
	}{
		{"DAD for another's address", "ip6: icmpv6 type nd-neighbor-solicit ip6 saddr ::", [][]byte{
			icmpv6(mac, "::", all, false, solicit(victim.addr6())),
			icmpv6(mac, "::", all, true, solicit(victim.addr6())),
			icmpv6(mac, "::", all, false, solicit("fd87:0:0:1::99")),
			icmpv6(mac, "::", all, false, solicit(linkLocal(victim.hardware(t)))),
		}, "0"},
		{"DAD for its own", "ip6: icmpv6 type nd-neighbor-solicit ip6 saddr ::", [][]byte{
			icmpv6(mac, "::", all, false, solicit(liar.addr6())), icmpv6(mac, "::", all, true, solicit(own)),
		}, "2"},
		{"a question from its own address", "ip6: icmpv6 type nd-neighbor-solicit ip6 saddr " + liar.addr6(), [][]byte{
			icmpv6(mac, liar.addr6(), all, false, solicit(victim.addr6())),
		}, "1"},
		{"a router advertisement", "ip6: icmpv6 type nd-router-advert", [][]byte{
			icmpv6(mac, own, all, false, advertiseRouter()), icmpv6(mac, own, all, true, advertiseRouter()),
		}, "0"},
		{"a router solicitation", "ip6: icmpv6 type nd-router-solicit", [][]byte{
			icmpv6(mac, own, all, false, []byte{133, 0, 0, 0, 0, 0, 0, 0}), icmpv6(mac, "::", all, false, []byte{133, 0, 0, 0, 0, 0, 0, 0}),
		}, "2"},
		{"an ARP probe for another's address", "arp: arp saddr ip 0.0.0.0", [][]byte{arp(mac, mac, "0.0.0.0", victim.addr), arp(mac, mac, "0.0.0.0", "10.87.1.99")}, "0"},
		{"an ARP probe for its own", "arp: arp saddr ip 0.0.0.0", [][]byte{arp(mac, mac, "0.0.0.0", liar.addr)}, "1"},
		{"an ARP request", "arp: arp saddr ip " + liar.addr, [][]byte{arp(mac, mac, liar.addr, victim.addr)}, "1"},
	} {
		victim.Run("nft", "flush", "ruleset")
		family, match, _ := strings.Cut(c.watch, ": ")
		if family == "ip6" { // the host end does duplicate address detection, too
			match = "ether saddr " + links(t, liar.Place)["eth0"].Address + " " + match
		}
		victim.watch(family + ": " + match)
		for _, f := range c.frames {
			liar.SendFrame("eth0", f)
		}
		if n := victim.heard(0, family); n != c.heard {
			t.Errorf("%s: %s of %d frames are heard, want %s", c.name, n, len(c.frames), c.heard)
		}
	}
	// The kernel's own way, in a container that does duplicate address detection
	// while the liar does it for the same address.
	victim.Run("nft", "flush", "ruleset")
	liar.Run("nft", "flush", "ruleset")
	liar.Sh("echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad; ip addr add fd87:0:0:1::66/64 dev eth0; ip addr del fd87:0:0:1::66/64 dev eth0")
	for _, c := range []container{liar, victim} {
		b.do(c.then("CHECK"))
		b.do(c.then("DEL"))
	}
	b.clean()
}

// With disableContainerInterface whatever is in the container, such as a VM,
// configures itself: it has any addresses, but one MAC. One that goes leaves the
// others guarded.
func TestSpoofCheckOfWhatConfiguresItself(t *testing.T) {
	eachFamily(t, guardBox.spoofCheckOfWhatConfiguresItself)
}

func (b guardBox) spoofCheckOfWhatConfiguresItself() {
	t := b.t
	self := withConf(`{"cniVersion":"1.0.0","name":"flatnet","type":"flatnet","macspoofchk":true,"disableContainerInterface":true}`)
	vm, peer, gone := b.attach("vm", self), b.attach("peer", self), b.attach("gone", self)
	vm.Sh("ip link set eth0 up; ip addr add 10.9.9.1/24 dev eth0; ip addr add fd99::1/64 dev eth0 nodad")
	peer.Sh("ip link set eth0 up; ip addr add 10.9.9.2/24 dev eth0; ip addr add fd99::2/64 dev eth0 nodad")
	mac, other := vm.hardware(t), peer.hardware(t)
	peer.watch("arp: arp saddr ip 10.9.9.77", "ip: ip saddr 10.9.9.77", "ip6: icmpv6 type nd-router-advert")
	honest := func() {
		t.Helper()
		for _, to := range []string{"10.9.9.2", "fd99::2"} {
			if err := vm.Ping(to); err != nil {
				t.Error(err)
			}
		}
	}
	lie := func(heard string) {
		t.Helper()
		vm.SendFrame("eth0", arp(mac, mac, "10.9.9.77", "10.9.9.2"))                      // an address of its choice
		vm.SendFrame("eth0", arp(mac, other, "10.9.9.77", "10.9.9.2"))                    // as another's MAC's
		vm.SendFrame("eth0", arp([]byte{2, 0, 0, 0, 0, 9}, mac, "10.9.9.77", "10.9.9.2")) // from another MAC
		if n := peer.heard(0, "arp"); n != heard {
			t.Errorf("%s ARP requests are heard, want %s", n, heard)
		}
	}
	honest()
	lie("1")
	b.do(vm.then("CHECK"))
	b.do(gone.then("DEL")) // whose lease is not the last: there are none
	honest()
	lie("2")
	b.flush()
	b.reload()
	honest()
	lie("3")
	b.do(vm.then("CHECK"))
	b.do(peer.then("DEL"))
	if !strings.Contains(b.table(), "fn-vm") {
		t.Error("the last one is not guarded any more")
	}
	b.do(vm.then("DEL"))
	b.clean()
}

// before is the table of the version before, with an element of c1's.
const guardBefore = `table bridge flatnet {
	set guarded { type ifname; elements = { "fn-c1" comment "flatnet/c1/eth0" }; }
	set macs { type ifname . ether_addr; elements = { "fn-c1" . MAC comment "flatnet/c1/eth0" }; }
	set addrs4 { type ifname . ipv4_addr; elements = { "fn-c1" . 10.87.1.2 comment "flatnet/c1/eth0", "fn-c1" . 0.0.0.0 comment "flatnet/c1/eth0" }; }
	set addrs6 { type ifname . ipv6_addr; elements = { "fn-c1" . ADDR6 comment "flatnet/c1/eth0", "fn-c1" . :: comment "flatnet/c1/eth0" }; }
	chain check {
		iifname . ether saddr != @macs drop comment "flatnet"
		meta protocol ip iifname . ip saddr != @addrs4 drop comment "flatnet"
	}
	chain prerouting { type filter hook prerouting priority -300; iifname @guarded goto check comment "flatnet"; }
}`

// A table that an older version made is brought up to date by the next ADD, in
// one step: whoever is in it stays guarded. A DEL finds what is in such a table
// without a record, too.
func TestGuardTableOfAnOlderVersion(t *testing.T) {
	b := newBox(t)
	c1, spare := b.attach("c1", withConf(guarded)), b.attach("spare", withConf(guarded))
	if c1.addr != "10.87.1.2" {
		t.Fatalf("c1 has %s", c1.addr)
	}
	older := strings.NewReplacer("MAC", links(t, c1.Place)["eth0"].Address, "ADDR6", c1.addr6()).Replace(guardBefore)
	b.Run("nft", "delete", "table", "bridge", "flatnet")
	b.Run("nft", older)
	c2 := b.attach("c2", withConf(guarded))
	mac := c1.hardware(t)
	c2.watch("ip: ip saddr 10.87.1.77", "ip6: icmpv6 type nd-router-advert")
	c1.SendFrame("eth0", taggedIPv4(t, c1, c2, "10.87.1.77", ""))
	c1.SendFrame("eth0", icmpv6(mac, linkLocal(mac), "ff02::1", false, advertiseRouter()))
	if n, m := c2.heard(0, "ip"), c2.heard(1, "ip6"); n != "0" || m != "0" {
		t.Errorf("%s and %s are heard", n, m)
	}
	if err := c1.Ping(c2.addr); err != nil {
		t.Error(err)
	}
	b.reload()
	b.do(c1.then("CHECK"))
	b.Run("nft", "delete", "table", "bridge", "flatnet")
	b.Run("nft", older)
	b.Sh("find /run/flatnet -name 'c1:eth0' -delete")
	b.do(c1.then("DEL"))
	if table := b.Run("nft", "list", "table", "bridge", "flatnet"); strings.Contains(table, "fn-c1") {
		t.Errorf("c1's elements are left: %s", table)
	}
	b.do(c2.then("DEL"))
	b.do(spare.then("DEL"))
	b.clean()
}

// A host end that the administrator renamed is not guarded: CHECK and STATUS say
// so, a reload guards it by its new name, and DEL removes that.
func TestGuardOfARenamedPort(t *testing.T) { eachFamily(t, guardBox.guardOfARenamedPort) }

func (b guardBox) guardOfARenamedPort() {
	t := b.t
	c1, c2 := b.attach("c1", withConf(guarded)), b.attach("c2", withConf(guarded))
	b.Sh("ip link set fn-c1 down; ip link set fn-c1 name lan7; ip link set lan7 up")
	status := call("STATUS", "")
	status.Conf = newer(guarded)
	b.refused(c1.then("CHECK"), 104, "macspoofchk", "flatnet/c1/eth0", "reload")
	b.refused(status, 51, "macspoofchk", "flatnet/c1/eth0", "reload")
	b.reload()
	b.do(c1.then("CHECK"))
	b.do(status)
	c2.watch("ip: ip saddr 10.87.1.77")
	c1.SendFrame("eth0", taggedIPv4(t, c1, c2, "10.87.1.77", ""))
	if n := c2.heard(0, "ip"); n != "0" {
		t.Errorf("%s are heard", n)
	}
	if err := c1.Ping(c2.addr); err != nil {
		t.Error(err)
	}
	if table := b.table(); strings.Contains(table, "fn-c1") {
		t.Errorf("elements of the old name are left: %s", table)
	}
	b.do(c1.then("DEL"))
	if table := b.table(); strings.Contains(table, "lan7") {
		t.Errorf("c1's elements are left: %s", table)
	}
	b.do(c2.then("DEL"))
	b.clean()
}

// Guards of many containers of two networks come back together, also when others
// flush the rules meanwhile, and what nft saved of them it loads.
func TestReloadOfManyGuards(t *testing.T) { eachFamily(t, guardBox.reloadOfMany) }

func (b guardBox) reloadOfMany() {
	const many = 60
	t, flush := b.t, b.flushing("flatnet", "flatnet-second")
	b.Run("nft", flush)
	second := strings.NewReplacer(`"name":"flatnet"`, `"name":"second","bridge":"br2"`, "10.87.1.", "10.87.2.", "fd87:0:0:1:", "fd87:0:0:2:").Replace(guarded)
	var all []container
	for i := range many {
		conf := guarded
		if i%6 == 5 {
			conf = second
		}
		all = append(all, b.attach(fmt.Sprint("c", i), withConf(conf)))
	}
	list := func() string {
		out := ""
		for _, table := range []string{"flatnet", "flatnet-second"} {
			for _, set := range []string{"guarded", "macs", "addrs4", "addrs6"} {
				s := b.Run("nft", "list", "set", b.family, table, set)
				out += fmt.Sprintf("%s %s %d\n", table, set, strings.Count(s, "comment"))
			}
		}
		return out
	}
	want := list()
	b.Run("nft", flush)
	b.reload()
	if got := list(); got != want {
		t.Errorf("was\n%s\nand is\n%s", want, got)
	}
	var flushes sync.WaitGroup
	flushes.Go(func() {
		for range 40 {
			if _, err := b.Try("nft", flush); err != nil {
				t.Error(err)
			}
		}
	})
	for range 8 {
		b.reload()
	}
	flushes.Wait()
	b.reload()
	if got := list(); got != want {
		t.Errorf("among flushes: was\n%s\nand is\n%s", want, got)
	}
	if out, err := b.Try("sh", "-ec", "nft list ruleset >/run/saved; nft flush ruleset; nft -f /run/saved"); err != nil {
		t.Logf("this nft can't save ND targets: %v %s", err, out)
		b.Run("nft", flush)
		b.reload()
	}
	if got := list(); got != want {
		t.Errorf("saved and loaded: was\n%s\nand is\n%s", want, got)
	}
	b.reload() // nft writes "meta protocol" of a bridge's chain in another way
	b.do(all[0].then("CHECK"))
	b.do(all[5].then("CHECK"))
}

// portChain is the chain of a port in the netdev family.
const portChain = "port-MARK"

// STATUS sees that guards are gone.
func TestSTATUSOfGuards(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, family, spoil string }{
		{"table", "bridge", "nft delete table bridge flatnet"},
		{"rule", "bridge", "nft flush chain bridge flatnet check"},
		{"element", "bridge", `nft 'delete element bridge flatnet guarded { "fn-c1" }'`},
		{"table of the netdev family", "netdev", "nft delete table netdev flatnet; nft add table netdev flatnet"},
		{"its rule", "netdev", "nft flush chain netdev flatnet check"},
		{"its element", "netdev", `nft 'delete element netdev flatnet guarded { "fn-c1" }'`},
		{"the port's chain", "netdev", "nft delete chain netdev flatnet " + portChain},
		{"the port's rule", "netdev", "nft flush chain netdev flatnet " + portChain},
		{"the port's chain is another's", "netdev", "ip link add other type veth; nft delete chain netdev flatnet " + portChain +
			"; nft 'add chain netdev flatnet " + portChain + ` { type filter hook ingress device "other" priority -300; }'` +
			"; nft add rule netdev flatnet " + portChain + ` iifname @guarded goto check comment '"flatnet"'`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newGuardBox(t, c.family)
			status := call("STATUS", "")
			status.Conf = newer(guarded)
			b.do(status)
			c1 := b.attach("c1", withConf(guarded))
			b.do(status)
			mark := strings.ReplaceAll(links(t, b.Place)["fn-c1"].Address, ":", "")
			b.Sh(strings.ReplaceAll(c.spoil, "MARK", mark))
			b.refused(status, 51, "flatnet", "reload")
			b.refused(c1.then("CHECK"), 104, "flatnet", "reload")
			b.reload()
			b.do(status)
			b.do(c1.then("CHECK"))
			if table := b.table(); c.family == "netdev" && strings.Count(table, `device "fn-c1"`) != 1 {
				t.Errorf("not checked: %s", table)
			}
		})
	}
}

// Frames to the addresses of link protocols (IEEE 802.1D, table 7-10), which no
// bridge forwards and some of which pass by its rules, move nobody's MAC address to
// another port either, and nothing in them reaches the host's own services with
// another's address.
func TestSpoofCheckOfLinkProtocols(t *testing.T) {
	t.Parallel()
	for _, family := range []string{"bridge", "netdev"} {
		spoofCheckOfLinkProtocols(t, family)
	}
}

func spoofCheckOfLinkProtocols(t *testing.T, family string) {
	for name, prepare := range map[string]string{
		"bridge of flatnet's": ":",
		"bridge of somebody":  "ip link add flatnet-br0 up type bridge",
	} {
		t.Run(family+" family, "+name, func(t *testing.T) {
			b := newGuardBox(t, family)
			b.Sh(prepare)
			liar, victim := b.attach("liar", withConf(guarded)), b.attach("victim", withConf(guarded))
			if err := victim.Ping(gateway); err != nil {
				t.Fatal(err)
			}
			b.mute(victim.Place) // or else its entry moves back
			mac := links(t, victim.Place)["eth0"].Address
			b.Run("nft", "table ip watch { counter seen { }; chain in { type filter hook input priority -400; ip protocol 253 ip saddr "+victim.addr+" counter name seen; }; }")
			b.Sh("echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter;echo 0 >/proc/sys/net/ipv4/conf/fn-liar/rp_filter")
			for last := range 16 {
				to := []byte{0x01, 0x80, 0xc2, 0, 0, byte(last)}
				liar.SendFrame("eth0", ether(to, victim.hardware(t), 0x88b5, make([]byte, 46)))
				ip := taggedIPv4(t, liar, container{Place: victim.Place, addr: gateway}, victim.addr, "")
				liar.SendFrame("eth0", slices.Concat(to, ip[6:]))
				if fdb := b.Run("bridge", "fdb", "show", "br", bridgeName); !strings.Contains(fdb, mac+" dev fn-victim master") {
					t.Fatalf("after a frame to 01:80:c2:00:00:%02x, %s is not behind its port: %s", last, mac, fdb)
				}
			}
			if n := b.Run("nft", "list", "counter", "ip", "watch", "seen"); !strings.Contains(n, "packets 0 ") {
				t.Errorf("the host has heard the liar as %s: %s", victim.addr, n)
			}
			victim.Run("nft", "flush", "ruleset")
			if err := liar.Ping(victim.addr); err != nil {
				t.Error(err)
			}
		})
	}
}

// In the netdev family the checks don't see what a limit has delayed: so a container
// can't have both there.
func TestGuardWithALimitInTheNetdevFamily(t *testing.T) {
	const limit = `"runtimeConfig":{"bandwidth":{"egressRate":8000000,"egressBurst":800000}}`
	for _, family := range []string{"bridge", "netdev"} {
		t.Run(family, func(t *testing.T) {
			b := newGuardBox(t, family)
			b.NetNS("c1")
			c1 := call("ADD", "c1")
			c1.Conf = withKeys(guarded, limit)
			if family == "netdev" {
				b.refused(c1, 103, "macspoofchk", "limit", "CONFIG_NF_TABLES_BRIDGE")
				if left := b.Run("ip", "-br", "link"); strings.Contains(left, "fn-") || strings.Contains(left, "ifb") {
					t.Errorf("left: %s", left)
				}
				return
			}
			b.do(c1)
			b.do(lab.Call{Command: "DEL", ID: c1.ID, NetNS: c1.NetNS, IfName: c1.IfName, Conf: c1.Conf})
			b.clean()
		})
	}
}
