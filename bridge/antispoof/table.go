package antispoof

import (
	"flatnet/bridge/host"
	"flatnet/internal/nft"

	"golang.org/x/sys/unix"
)

// A table has the checks of a network. It is of the bridge family, whose hooks come
// before those of all other families:
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
// Frames to the addresses of link protocols bypass the prerouting hook, and some of
// them both: see [rtnl.Conn.SetNoLinkLocalLearn].
//
// Ports are named and not numbered: nft saves the index of an interface as its name,
// and rejects the whole ruleset when it loads one whose interface is gone.
type table struct {
	nft.Table
	guarded        nft.Set // ports that are checked
	macs           nft.Set // MAC addresses of each
	addrs4, addrs6 nft.Set // IP addresses of each
	anyAddr        nft.Set // ports that may use any IP address
}

func tableOf(network string) *table {
	t := host.Table(nft.Bridge, network)
	set := func(name string, value nft.Type) nft.Set {
		return nft.Set{Table: t, Name: name, Key: nft.Types{nft.IfName, value}}
	}
	return &table{
		Table: t, guarded: set("guarded", 0), macs: set("macs", nft.EtherAddr),
		addrs4: set("addrs4", nft.IPv4Addr), addrs6: set("addrs6", nft.IPv6Addr), anyAddr: set("anyaddr", 0),
	}
}

func (t *table) sets() []nft.Set { return []nft.Set{t.guarded, t.macs, t.addrs4, t.addrs6, t.anyAddr} }

// beforeAll is NF_BR_PRI_NAT_DST_BRIDGED of linux/netfilter_bridge.h.
const beforeAll = -300

// Types of ICMPv6 messages (net/ndisc.h).
const (
	routerAdvert    = 134
	neighborSolicit = 135
	neighborAdvert  = 136
)

func (t *table) chains() []nft.Ruleset {
	chain := func(name string, hook nft.Hook) nft.Ruleset {
		return nft.Ruleset{Chain: nft.Chain{Table: t.Table, Name: name, Type: nft.Filter, Hook: hook, Priority: beforeAll}}
	}
	check := nft.Ruleset{Chain: nft.Chain{Table: t.Table, Name: "check"}}
	enter, linkProtocols := chain("prerouting", nft.Prerouting), chain("input", nft.Input)

	// Offsets are of struct ethhdr, arphdr with its addresses, and nd_msg.
	arpSender, arpTarget := load(nft.NetworkHeader, 14, 4), load(nft.NetworkHeader, 24, 4)
	sender6, ndTarget := nft.Source.Load(nft.IPv6, nft.Reg2), load(nft.TransportHeader, 8, 16)
	arp, ipv4, ipv6 := protocol(unix.ETH_P_ARP), protocol(unix.ETH_P_IP), protocol(unix.ETH_P_IPV6)

	const comment = "flatnet"
	check.Append(comment,
		nft.DropIf(not(t.macs, load(nft.LinkHeader, 6, 6))),
		nft.DropIf(arp, not(t.macs, load(nft.NetworkHeader, 8, 6))),
		// The outermost tag is off here; nothing has checked the contents of a second one.
		nft.DropIf(protocol(unix.ETH_P_8021Q)),
		nft.DropIf(protocol(unix.ETH_P_8021AD)),
		nft.AcceptIf(portIn(t.anyAddr)),
		nft.DropIf(ipv4, not(t.addrs4, nft.Source.Load(nft.IPv4, nft.Reg2))),
		nft.DropIf(arp, not(t.addrs4, arpSender)),
		// A probe for an address tells others that probe for it that it is in use (RFC
		// 5227, section 2.1.1), and so do duplicate address detection's solicitations
		// (RFC 4862, section 5.4.3): each container may ask for its own.
		nft.DropIf(arp, is(arpSender, make([]byte, 4)), not(t.addrs4, arpTarget)),
		nft.DropIf(ipv6, not(t.addrs6, sender6)),
		nft.DropIf(ipv6, icmpv6(neighborAdvert), not(t.addrs6, ndTarget)),
		nft.DropIf(ipv6, is(sender6, make([]byte, 16)), icmpv6(neighborSolicit), not(t.addrs6, ndTarget)),
		// A port that may not forward what others send leads to no router.
		nft.DropIf(ipv6, icmpv6(routerAdvert)))

	toCheck := nft.Verdict{Code: nft.Goto, Chain: check.Name}
	linkLocal := nft.CompareBits(nft.Payload{Dst: nft.Reg1, Base: nft.LinkHeader, Len: 6},
		[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xf0}, nft.Equal, []byte{0x01, 0x80, 0xc2, 0, 0, 0})
	enter.Append(comment, nft.If(toCheck, portIn(t.guarded)))
	linkProtocols.Append(comment, nft.If(toCheck, linkLocal, portIn(t.guarded)))
	return []nft.Ruleset{check, enter, linkProtocols}
}

// load loads bytes of a frame to where the second field of a key is.
func load(base nft.Header, offset, size uint32) nft.Payload {
	return nft.Payload{Dst: nft.Reg2, Base: base, Offset: offset, Len: size}
}

// not matches frames with bytes that a set lacks for their port.
func not(set nft.Set, bytes nft.Payload) []nft.Expr {
	port := nft.Meta{Key: nft.MetaIifName, Dst: nft.Reg1}
	return []nft.Expr{port, bytes, nft.Lookup{Set: set.Name, Src: nft.Reg1, Invert: true}}
}

func portIn(set nft.Set) []nft.Expr {
	return []nft.Expr{nft.Meta{Key: nft.MetaIifName, Dst: nft.Reg1}, nft.Lookup{Set: set.Name, Src: nft.Reg1}}
}

func is(bytes nft.Payload, value []byte) []nft.Expr {
	bytes.Dst = nft.Reg1
	return nft.Compare(bytes, nft.Equal, value)
}

// protocol matches frames of an ETH_P_*.
func protocol(ethertype uint16) []nft.Expr {
	return nft.Compare(nft.Meta{Key: nft.MetaProtocol, Dst: nft.Reg1}, nft.Equal, nft.BigEndian(ethertype))
}

func icmpv6(kind byte) []nft.Expr {
	return append(nft.Protocol(unix.IPPROTO_ICMPV6), is(load(nft.TransportHeader, 0, 1), []byte{kind})...)
}

// Has reports whether a network has a table of checks.
func Has(c *nft.Conn, network string) (bool, error) { return c.Has(tableOf(network).Table) }

// PutTable adds a network's table to a transaction, unless all of it is there. One of
// an older version keeps its elements.
func PutTable(tx *host.Tx, network string) error {
	t := tableOf(network)
	missing, err := t.missing(tx.Conn)
	tx.PutMissing(t.Table, t.sets(), missing)
	return err
}

// missing returns the chains whose rules are not as they should be.
func (t *table) missing(c *nft.Conn) ([]nft.Ruleset, error) {
	have, err := c.Rules(t.Table, "")
	return nft.Missing(t.chains(), have), err
}
