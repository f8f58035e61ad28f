package antispoof

import (
	"encoding/binary"
	"slices"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/nft"

	"golang.org/x/sys/unix"
)

// A table has the checks of a network. In the bridge family, whose hooks come before
// those of IP,
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
// In the netdev family the sets and the chain check are the same, and each port has a
// chain of its own, which gets all of its frames before the bridge does, without their
// outermost VLAN tag as well. It is named by the attachment's mark and not by the port,
// for a chain stays at its port if that is renamed (before Linux 6.16).
//
//	table netdev flatnet {
//		chain port-0a57... {
//			type filter hook ingress device "fn-..." priority -300
//			iifname @guarded goto check
//		}
//	}
//
// Ports are named and not numbered: nft saves the index of an interface as its name,
// and rejects the whole ruleset when it loads one whose interface is gone.
type table struct {
	nft.Table
	guarded        nft.Set // ports that are checked
	macs           nft.Set // MAC addresses of each
	addrs4, addrs6 nft.Set // IP addresses of each
	anyAddr        nft.Set // ports that may use any IP address

	wrong []nft.Ruleset // chains that are not as they should be, see [find]
}

// families lists those that a network's table may be of, the preferred one first.
func families() []nft.Family { return []nft.Family{nft.Bridge, nft.Netdev} }

// tables are those of networks that have checks, by the network's name.
type tables map[string]*table

// of returns the table that an attachment's checks belong in, if it has any.
func (all tables) of(a *model.Attachment) *table {
	if !a.SpoofCheck {
		return nil
	}
	return all[a.Name]
}

// networks lists the networks of attachments that have a table, in their order.
func (all tables) networks(of []*model.Attachment) (names []string) {
	for _, a := range of {
		if all.of(a) != nil && !slices.Contains(names, a.Name) {
			names = append(names, a.Name)
		}
	}
	return names
}

// tablesOf finds the tables of the networks of attachments that have checks.
func tablesOf(c *nft.Conn, all []*model.Attachment, noBridge bool) (tables, error) {
	found := tables{}
	for _, a := range all {
		if !a.SpoofCheck || found[a.Name] != nil {
			continue
		}
		t, err := find(c, a.Name, noBridge)
		if err != nil {
			return nil, err
		}
		found[a.Name] = t
	}
	return found, nil
}

// find returns the table that a network's checks are in, or are to be in, and which of
// the chains that all ports share are not as they should be. Its cost does not grow
// with the number of ports.
func find(c *nft.Conn, network string, noBridge bool) (t *table, err error) {
	for _, family := range families() {
		t = tableOf(family, network)
		rules, err := t.shared(c)
		if err != nil {
			return nil, err
		}
		t.wrong = nft.Missing(t.chains(), rules)
		if len(rules) > 0 {
			return t, nil
		}
	}
	if has, err := c.Has(t.Table); has || noBridge || err != nil {
		return t, err
	}
	t = tableOf(nft.Bridge, network)
	t.wrong = t.chains()
	return t, nil
}

// shared lists the rules of the chains that all ports share.
func (t *table) shared(c *nft.Conn) ([]nft.Rule, error) {
	if t.Family == nft.Bridge {
		return c.Rules(t.Table, "")
	}
	return c.Rules(t.Table, checks)
}

func tableOf(family nft.Family, network string) *table {
	t := host.Table(family, network)
	set := func(name string, value nft.Type) nft.Set {
		return nft.Set{Table: t, Name: name, Key: nft.Types{nft.IfName, value}}
	}
	return &table{
		Table: t, guarded: set("guarded", 0), macs: set("macs", nft.EtherAddr),
		addrs4: set("addrs4", nft.IPv4Addr), addrs6: set("addrs6", nft.IPv6Addr), anyAddr: set("anyaddr", 0),
	}
}

func (t *table) sets() []nft.Set { return []nft.Set{t.guarded, t.macs, t.addrs4, t.addrs6, t.anyAddr} }

// checks is the name of the chain with the checks.
const checks = "check"

// comment is that of all rules.
const comment = "flatnet"

// beforeAll is NF_BR_PRI_NAT_DST_BRIDGED of linux/netfilter_bridge.h.
const beforeAll = -300

// Types of ICMPv6 messages (net/ndisc.h).
const (
	routerAdvert    = 134
	neighborSolicit = 135
	neighborAdvert  = 136
)

// chains returns those that all ports share, with their rules.
func (t *table) chains() []nft.Ruleset {
	check := nft.Ruleset{Chain: nft.Chain{Table: t.Table, Name: checks}}

	// Offsets are of struct ethhdr, arphdr with its addresses, and nd_msg.
	arpSender, arpTarget := field(nft.NetworkHeader, 14, 4), field(nft.NetworkHeader, 24, 4)
	sender6, ndTarget := nft.Source.Of(nft.IPv6), field(nft.TransportHeader, 8, 16)
	arp, ipv4, ipv6 := protocol(unix.ETH_P_ARP), protocol(unix.ETH_P_IP), protocol(unix.ETH_P_IPV6)

	var ethernet []nft.Expr // all ports are, but it is by this that nft can print the next condition
	if t.Family == nft.Netdev {
		ethernet = nft.Compare(nft.Meta(nft.MetaIifType, nft.Reg1), nft.Equal, binary.NativeEndian.AppendUint16(nil, unix.ARPHRD_ETHER))
	}
	check.Append(comment,
		nft.DropIf(ethernet, not(t.macs, field(nft.LinkHeader, 6, 6))),
		nft.DropIf(arp, not(t.macs, field(nft.NetworkHeader, 8, 6))),
		// The outermost tag is off here; nothing has checked the contents of a second one.
		nft.DropIf(protocol(unix.ETH_P_8021Q)),
		nft.DropIf(protocol(unix.ETH_P_8021AD)),
		nft.AcceptIf(portIn(t.anyAddr)),
		nft.DropIf(ipv4, not(t.addrs4, nft.Source.Of(nft.IPv4))),
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

	if t.Family == nft.Netdev {
		return []nft.Ruleset{check}
	}
	linkLocal := nft.CompareBits(field(nft.LinkHeader, 0, 6).Load(nft.Reg1),
		[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xf0}, nft.Equal, []byte{0x01, 0x80, 0xc2, 0, 0, 0})
	return []nft.Ruleset{check, t.enter("prerouting", nft.Prerouting), t.enter("input", nft.Input, linkLocal)}
}

// enter returns a base chain that checks frames of guarded ports.
func (t *table) enter(name string, hook nft.Hook, conditions ...[]nft.Expr) nft.Ruleset {
	r := nft.Ruleset{Chain: nft.Chain{Table: t.Table, Name: name, Type: nft.Filter, Hook: hook, Priority: beforeAll}}
	r.Append(comment, nft.If(nft.Verdict(nft.Goto, checks), append(conditions, portIn(t.guarded))...))
	return r
}

func field(base nft.Header, offset, size uint32) nft.Payload {
	return nft.Payload{Base: base, Offset: offset, Len: size}
}

// not matches frames with bytes that a set lacks for their port.
func not(set nft.Set, bytes nft.Payload) []nft.Expr {
	return []nft.Expr{nft.Meta(nft.MetaIifName, nft.Reg1), bytes.Load(nft.Reg2), nft.LookupNot(set.Name, nft.Reg1)}
}

func portIn(set nft.Set) []nft.Expr {
	return []nft.Expr{nft.Meta(nft.MetaIifName, nft.Reg1), nft.Lookup(set.Name, nft.Reg1)}
}

func is(bytes nft.Payload, value []byte) []nft.Expr {
	return nft.Compare(bytes.Load(nft.Reg1), nft.Equal, value)
}

// protocol matches frames of an ETH_P_*.
func protocol(ethertype uint16) []nft.Expr {
	return nft.Compare(nft.Meta(nft.MetaProtocol, nft.Reg1), nft.Equal, nft.BigEndian(ethertype))
}

func icmpv6(kind byte) []nft.Expr {
	return append(nft.Protocol(unix.IPPROTO_ICMPV6), is(field(nft.TransportHeader, 0, 1), []byte{kind})...)
}

// put adds the shared chains to a transaction that are not as they should be.
func (t *table) put(tx *host.Tx) {
	tx.Bridge = tx.Bridge || t.Family == nft.Bridge && len(t.wrong) > 0
	tx.PutMissing(t.Table, t.sets(), t.wrong)
}
