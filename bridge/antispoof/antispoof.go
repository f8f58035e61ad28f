// Package antispoof lets a bridge port send only frames with its container's own MAC
// and IP addresses (macspoofchk).
//
// Rules go by the port's name (model.Attachment.HostEnd). A port that is renamed is
// not checked until Put is called with its new name.
package antispoof

import (
	"net/netip"
	"path/filepath"
	"slices"

	"flatnet/bridge/elements"
	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/nft"

	"golang.org/x/sys/unix"
)

// Put adds to a transaction what the checks of attachments lack. An earlier owner's
// elements under their ports' names are replaced. renamed are those attachments whose
// ports were renamed, with the old names; their elements are removed.
func Put(tx *host.Tx, all, renamed []*model.Attachment) error {
	networks, wanted := needs(all)
	for _, network := range networks {
		if err := PutTable(tx, network); err != nil {
			return err
		}
	}
	_, stale := needs(renamed)
	have, err := elements.Look(tx.Conn, slices.Concat(wanted, stale))
	if err != nil {
		return err
	}
	stale = slices.DeleteFunc(stale, func(e nft.Element) bool { return !have.Has(e) })
	have.Put(tx.Batch, wanted, stale)
	return nil
}

// Remove removes an attachment's elements: those of its record or, without one, all
// that a listing of the sets finds. Its port should be gone or down by then: from then
// on it may send any frame.
func Remove(tx *host.Tx, key model.Key, recorded *model.Attachment) error {
	var mine []nft.Element
	var err error
	if recorded == nil {
		mine, err = elements.List(tx.Conn, tableOf(key.Network).sets()...)
	} else {
		_, old := needs([]*model.Attachment{recorded})
		mine, err = tx.Find(old)
	}
	mine = slices.DeleteFunc(mine, func(e nft.Element) bool { return e.Comment != key.String() })
	tx.Delete(nft.Elements(mine))
	return err
}

// Faults lists what the checks of attachments lack.
func Faults(c *nft.Conn, all []*model.Attachment) (faults []model.Fault, err error) {
	networks, wanted := needs(all)
	for _, network := range networks {
		wrong, err := tableOf(network).missing(c)
		if err != nil {
			return nil, err
		}
		faults = append(faults, host.ChainFaults(wrong)...)
	}
	have, err := elements.Look(c, wanted)
	if err != nil {
		return nil, err
	}
	for _, e := range wanted {
		if !have.Has(e) {
			faults = append(faults, model.Fault{Thing: "macspoofchk of " + e.Comment, State: "incomplete", Table: e.Set.Table.String()})
		}
	}
	return slices.Compact(faults), nil // one of each attachment
}

// Without is the fault of an attachment that was made before its network had
// macspoofchk. A reload, which goes by the record, does not mend it.
func Without(key model.Key) model.Fault {
	return model.Fault{Thing: "macspoofchk of " + key.String(), State: "off",
		Advice: key.String() + " was attached without macspoofchk, and has it when it is attached again"}
}

// needs returns the networks and the elements that attachments with macspoofchk need:
// each port may use its MAC and IP addresses, and nothing else. DHCP and duplicate
// address detection send from the unspecified address, so it is always allowed.
func needs(all []*model.Attachment) (networks []string, wanted []nft.Element) {
	for _, a := range all {
		if !a.SpoofCheck {
			continue
		}
		if !slices.Contains(networks, a.Name) {
			networks = append(networks, a.Name)
		}
		t := tableOf(a.Name)
		add := func(set nft.Set, value []byte) {
			key := nft.Concat(nft.Name(a.HostEnd), value)
			wanted = append(wanted, nft.Element{Set: set, Key: key, Comment: a.Key.String()})
		}
		add(t.guarded, nil)
		add(t.macs, a.MAC[:])
		if a.NoAddress { // the container configures itself
			add(t.anyAddr, nil)
			continue
		}
		for _, addr := range append(a.IPs(), netip.IPv4Unspecified(), netip.IPv6Unspecified(), a.MAC.LinkLocal()) {
			set := t.addrs4
			if addr.Is6() {
				set = t.addrs6
			}
			add(set, addr.AsSlice())
		}
	}
	return networks, wanted
}

// Settle sets the sysctls of a port that is not up yet: IP packets in frames of link
// protocols would otherwise reach the host past the bridge.
func Settle(h *host.Host, port string) error {
	for _, family := range []string{"ipv4", "ipv6"} {
		name := filepath.Join("net", family, "conf", port, "drop_unicast_in_l2_multicast")
		if err := host.IfPossible(h.Sysctl.Ensure(name, "1")); err != nil {
			return err
		}
	}
	return nil
}

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
	arpSender, arpTarget := field(nft.NetworkHeader, 14, 4), field(nft.NetworkHeader, 24, 4)
	sender6, ndTarget := nft.Source.Of(nft.IPv6), field(nft.TransportHeader, 8, 16)
	arp, ipv4, ipv6 := protocol(unix.ETH_P_ARP), protocol(unix.ETH_P_IP), protocol(unix.ETH_P_IPV6)

	const comment = "flatnet"
	check.Append(comment,
		nft.DropIf(not(t.macs, field(nft.LinkHeader, 6, 6))),
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

	toCheck := nft.Verdict(nft.Goto, check.Name)
	linkLocal := nft.CompareBits(field(nft.LinkHeader, 0, 6).Load(nft.Reg1),
		[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xf0}, nft.Equal, []byte{0x01, 0x80, 0xc2, 0, 0, 0})
	enter.Append(comment, nft.If(toCheck, portIn(t.guarded)))
	linkProtocols.Append(comment, nft.If(toCheck, linkLocal, portIn(t.guarded)))
	return []nft.Ruleset{check, enter, linkProtocols}
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
