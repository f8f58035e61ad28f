package bridge

import (
	"net/netip"

	"flatnet/internal/nft"

	"golang.org/x/sys/unix"
)

// A guardTable is where a network's guards are, in the bridge family, which is
// asked before any other:
//
//	table bridge flatnet {
//		set guarded { type ifname; }
//		set macs { type ifname . ether_addr; }
//		set addrs4 { type ifname . ipv4_addr; }
//		set addrs6 { type ifname . ipv6_addr; }
//		set anyaddr { type ifname; }
//		chain check {
//			iifname . ether saddr != @macs drop
//			meta protocol arp iifname . arp saddr ether != @macs drop
//			meta protocol 8021q drop
//			meta protocol 8021ad drop
//			iifname @anyaddr accept
//			meta protocol ip iifname . ip saddr != @addrs4 drop
//			meta protocol arp iifname . arp saddr ip != @addrs4 drop
//			meta protocol arp arp saddr ip 0.0.0.0 iifname . arp daddr ip != @addrs4 drop
//			meta protocol ip6 iifname . ip6 saddr != @addrs6 drop
//			meta protocol ip6 icmpv6 type nd-neighbor-advert iifname . icmpv6 taddr != @addrs6 drop
//			meta protocol ip6 ip6 saddr :: icmpv6 type nd-neighbor-solicit iifname . icmpv6 taddr != @addrs6 drop
//			meta protocol ip6 icmpv6 type nd-router-advert drop
//		}
//		chain prerouting { type filter hook prerouting priority -300; iifname @guarded goto check; }
//		chain input {
//			type filter hook input priority -300
//			ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 iifname @guarded goto check
//		}
//	}
//
// Frames to the addresses of link protocols pass by the first of these hooks, and
// some by both: see [rtnl.Conn.SetNoLinkLocalLearn].
//
// Ports are named and not numbered: nft saves the number of an interface as its
// name, and refuses the whole ruleset when that is gone as it is loaded.
type guardTable struct{ nft.Table }

func guardsOf(network string) guardTable { return guardTable{table(nft.Bridge, network)} }

func (t guardTable) set(name string, key ...nft.Type) nft.Set {
	return nft.Set{Table: t.Table, Name: name, Key: key}
}

func (t guardTable) guarded() nft.Set { return t.set("guarded", nft.IfName) }
func (t guardTable) macs() nft.Set    { return t.set("macs", nft.IfName, nft.EtherAddr) }
func (t guardTable) addrs4() nft.Set  { return t.set("addrs4", nft.IfName, nft.IPv4Addr) }
func (t guardTable) addrs6() nft.Set  { return t.set("addrs6", nft.IfName, nft.IPv6Addr) }
func (t guardTable) anyAddr() nft.Set { return t.set("anyaddr", nft.IfName) }

func (t guardTable) sets() []nft.Set {
	return []nft.Set{t.guarded(), t.macs(), t.addrs4(), t.addrs6(), t.anyAddr()}
}

// beforeAll is NF_BR_PRI_NAT_DST_BRIDGED of linux/netfilter_bridge.h.
const beforeAll = -300

// Types of ICMPv6 messages (net/ndisc.h).
const (
	routerAdvert   = 134
	neighborAsk    = 135
	neighborAdvert = 136
)

func (t guardTable) chains() []chain {
	check := chain{Chain: nft.Chain{Table: t.Table, Name: "check"}}
	base := func(name string, hook nft.Hook) chain {
		return chain{Chain: nft.Chain{Table: t.Table, Name: name, Type: nft.Filter, Hook: hook, Priority: beforeAll}}
	}
	enter, linkProtocols := base("prerouting", nft.Prerouting), base("input", nft.Input)
	add := func(ch *chain, end nft.Expr, parts ...[]nft.Expr) {
		ch.rules = append(ch.rules, nft.Rule{Table: t.Table, Chain: ch.Name, Exprs: rule(end, parts...), Comment: "flatnet"})
	}
	forbid := func(parts ...[]nft.Expr) { add(&check, nft.Verdict{Code: nft.Drop}, parts...) }

	// Offsets are of struct ethhdr, arphdr with what follows it, iphdr, ipv6hdr and
	// nd_msg.
	arpSender := nft.Payload{Base: nft.NetworkHeader, Offset: 14, Len: 4}
	arpTarget := nft.Payload{Base: nft.NetworkHeader, Offset: 24, Len: 4}
	ipv6Sender := nft.Payload{Base: nft.NetworkHeader, Offset: 8, Len: 16}
	ndTarget := nft.Payload{Base: nft.TransportHeader, Offset: 8, Len: 16}
	forbid(t.notIn(t.macs(), nft.Payload{Base: nft.LinkHeader, Offset: 6, Len: 6}))
	forbid(ofProtocol(unix.ETH_P_ARP), t.notIn(t.macs(), nft.Payload{Base: nft.NetworkHeader, Offset: 8, Len: 6}))
	// The outermost tag is off here; what a second one hides has not been checked.
	forbid(ofProtocol(unix.ETH_P_8021Q))
	forbid(ofProtocol(unix.ETH_P_8021AD))
	add(&check, nft.Verdict{Code: nft.Accept}, portIn(t.anyAddr()))
	forbid(ofProtocol(unix.ETH_P_IP), t.notIn(t.addrs4(), nft.Payload{Base: nft.NetworkHeader, Offset: 12, Len: 4}))
	forbid(ofProtocol(unix.ETH_P_ARP), t.notIn(t.addrs4(), arpSender))
	// A probe for an address says, to those who are probing, that it is in use (RFC
	// 5227, section 2.1.1), and so do duplicate address detection's solicitations
	// (RFC 4862, section 5.4.3): each container may ask for its own.
	forbid(ofProtocol(unix.ETH_P_ARP), equals(arpSender, netip.IPv4Unspecified()), t.notIn(t.addrs4(), arpTarget))
	forbid(ofProtocol(unix.ETH_P_IPV6), t.notIn(t.addrs6(), ipv6Sender))
	forbid(ofProtocol(unix.ETH_P_IPV6), ofICMPv6(neighborAdvert), t.notIn(t.addrs6(), ndTarget))
	forbid(ofProtocol(unix.ETH_P_IPV6), equals(ipv6Sender, netip.IPv6Unspecified()), ofICMPv6(neighborAsk), t.notIn(t.addrs6(), ndTarget))
	// A port that may not forward what others send leads to no router.
	forbid(ofProtocol(unix.ETH_P_IPV6), ofICMPv6(routerAdvert))
	toCheck := nft.Verdict{Code: nft.Goto, Chain: check.Name}
	add(&enter, toCheck, portIn(t.guarded()))
	add(&linkProtocols, toCheck, []nft.Expr{
		nft.Payload{Dst: nft.Reg1, Base: nft.LinkHeader, Len: 6},
		nft.Bitwise{Src: nft.Reg1, Dst: nft.Reg1, Mask: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xf0}},
		nft.Cmp{Src: nft.Reg1, Op: nft.Equal, Data: []byte{0x01, 0x80, 0xc2, 0, 0, 0}},
	}, portIn(t.guarded()))
	return []chain{check, enter, linkProtocols}
}

func ofProtocol(ethertype uint16) []nft.Expr {
	return []nft.Expr{nft.Meta{Key: nft.MetaProtocol, Dst: nft.Reg1}, nft.Cmp{Src: nft.Reg1, Op: nft.Equal, Data: bigEndian(ethertype)}}
}

func ofICMPv6(kind byte) []nft.Expr {
	return []nft.Expr{
		nft.Meta{Key: nft.MetaL4Proto, Dst: nft.Reg1}, nft.Cmp{Src: nft.Reg1, Op: nft.Equal, Data: []byte{unix.IPPROTO_ICMPV6}},
		nft.Payload{Dst: nft.Reg1, Base: nft.TransportHeader, Len: 1}, nft.Cmp{Src: nft.Reg1, Op: nft.Equal, Data: []byte{kind}},
	}
}

func equals(where nft.Payload, a netip.Addr) []nft.Expr {
	where.Dst = nft.Reg1
	return []nft.Expr{where, nft.Cmp{Src: nft.Reg1, Op: nft.Equal, Data: a.AsSlice()}}
}

// notIn matches what has, in that place, something that the set lacks for its port.
func (t guardTable) notIn(set nft.Set, where nft.Payload) []nft.Expr {
	where.Dst = nft.Reg2
	return []nft.Expr{nft.Meta{Key: nft.MetaIifName, Dst: nft.Reg1}, where, nft.Lookup{Set: set.Name, Src: nft.Reg1, Invert: true}}
}

func portIn(set nft.Set) []nft.Expr {
	return []nft.Expr{nft.Meta{Key: nft.MetaIifName, Dst: nft.Reg1}, nft.Lookup{Set: set.Name, Src: nft.Reg1}}
}

// ensure puts into the batch the table, unless all of it is there. One that an
// older version made keeps its elements.
func (t guardTable) ensure(c *nft.Conn, b *nft.Batch) error {
	ok, err := t.stands(c)
	if err == nil && !ok {
		t.add(b)
	}
	return err
}

// stands reports whether all rules are as they should be.
func (t guardTable) stands(c *nft.Conn) (bool, error) {
	for _, ch := range t.chains() {
		if ok, err := ch.stands(c); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

func (t guardTable) add(b *nft.Batch) {
	b.Add(t.Table)
	for _, s := range t.sets() {
		b.Add(s)
	}
	for _, ch := range t.chains() {
		ch.add(b)
	}
}
