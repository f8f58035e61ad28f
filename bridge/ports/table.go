// Package ports publishes ports of containers on the host: it translates the
// destinations of packets that are sent to the host, by maps of nf_tables whose
// elements name the attachment that they belong to.
//
// A runtime asks for a container's ports in each of its networks. The one with the
// container's default route gets them; when that goes, the next one inherits them.
package ports

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"flatnet/bridge/elements"
	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/nft"

	"golang.org/x/sys/unix"
)

// A table has the published ports of all networks in one family. It is made with the
// first of them and removed with the last. No network's own table has its name,
// for what follows "flatnet" there is a hyphen.
//
//	table ip flatnet.ports {
//		map somewhere { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }
//		map everywhere { type inet_proto . inet_service : ipv4_addr . inet_service; }
//		set selves { type ipv4_addr . ipv4_addr; }
//		set local { type inet_proto . ipv4_addr . inet_service; }
//		chain local {
//			type filter hook prerouting priority mangle
//			iifgroup != 10870/31 meta l4proto . ip daddr . th dport @local drop
//		}
//		chain prerouting-somewhere {
//			type nat hook prerouting priority dstnat
//			ip daddr != 127.0.0.0/8 fib daddr type local dnat to meta l4proto . ip daddr . th dport map @somewhere
//		}
//		chain output-somewhere {
//			type nat hook output priority -100
//			fib daddr type local dnat to meta l4proto . ip daddr . th dport map @somewhere
//		}
//		chain prerouting { type nat hook prerouting priority dstnat + 2; ... dnat to meta l4proto . th dport map @everywhere; }
//		chain output { type nat hook output priority -98; ... dnat to meta l4proto . th dport map @everywhere; }
//		chain postrouting {
//			type nat hook postrouting priority srcnat
//			oifgroup 10870/31 ip saddr 127.0.0.0/8 masquerade (IPv6: fe80::/10)
//			ip saddr . ip daddr @selves masquerade
//		}
//	}
//
// Only packets to the host itself are translated; for IPv6, not those to ::1. Those
// from or to link-local addresses are translated only if a container sends them, for
// its bridge is where the answer comes back; the host itself answers all others.
// Packets that a container sends from a link-local address are masqueraded. Between
// the ports of one address and those of all, each network keeps port 53 of its gateways
// for itself: see package firewall. The maps have no size: the number of ports bounds
// them.
//
// somewhere has ports of one address of the host, everywhere those of all addresses.
// selves has targets that may reach their own published ports: where br_netfilter
// translates packets that are then only bridged, package firewall's rule can't tell.
// Each attachment with ports has an element there. local has targets that are published
// on 127.0.0.1 only: a neighbour who has a route to the container's address does not
// reach them. host has the host's own addresses; it exists only in a table for a kernel
// without fib.
type table struct {
	nft.Table
	words uint32       // of 4 bytes, in an address
	near  netip.Prefix // addresses that are not routed

	somewhere, everywhere, selves, local, host nft.Set

	wanted []nft.Element // see [using]
}

// using returns the tables in which attachments have elements, with these.
func using(all ...*model.Attachment) (used []*table) {
	for _, t := range tables() {
		if t.wanted = t.elements(all...); len(t.wanted) > 0 {
			used = append(used, t)
		}
	}
	return used
}

func tables() []*table {
	return []*table{
		newTable(nft.IPv4, nft.IPv4Addr, "127.0.0.0/8"), // RFC 1122
		newTable(nft.IPv6, nft.IPv6Addr, "fe80::/10"),   // RFC 4291
	}
}

func newTable(family nft.Family, addr nft.Type, near string) *table {
	t := nft.Table{Family: family, Name: "flatnet.ports"}
	prefix := netip.MustParsePrefix(near)
	port, target := nft.Types{nft.InetProto, nft.InetService}, nft.Types{addr, nft.InetService}
	portAt := nft.Types{nft.InetProto, addr, nft.InetService}
	return &table{
		Table: t, near: prefix, words: uint32(prefix.Addr().BitLen() / 32),
		somewhere:  nft.Set{Table: t, Name: "somewhere", Key: portAt, Data: target},
		everywhere: nft.Set{Table: t, Name: "everywhere", Key: port, Data: target},
		selves:     nft.Set{Table: t, Name: "selves", Key: nft.Types{addr, addr}},
		local:      nft.Set{Table: t, Name: "local", Key: portAt},
		host:       nft.Set{Table: t, Name: "host", Key: nft.Types{addr}},
	}
}

// Priorities of linux/netfilter_ipv4.h. Package firewall has chains between dstNAT and
// dstNATLast.
const (
	beforeNAT  = -150 // NF_IP_PRI_MANGLE: destinations are still as they were sent
	dstNAT     = -100 // NF_IP_PRI_NAT_DST
	dstNATLast = -98
	srcNAT     = 100 // NF_IP_PRI_NAT_SRC
)

// chains returns the table's chains with their rules.
func (t *table) chains(noFIB bool) (all []nft.Ruleset) {
	chain := func(name string, typ nft.ChainType, hook nft.Hook, priority int32, end []nft.Expr, conditions ...[]nft.Expr) {
		r := nft.Ruleset{Chain: nft.Chain{Table: t.Table, Name: name, Type: typ, Hook: hook, Priority: priority}}
		for _, c := range conditions {
			r.Append("flatnet", slices.Concat(c, end))
		}
		all = append(all, r)
	}
	fromHost, fromOthers := t.toHost(noFIB)
	somewhere, everywhere := t.dnat(t.somewhere), t.dnat(t.everywhere)
	closed := slices.Concat(host.Bridges(nft.MetaIifGroup, nft.NotEqual), t.load(t.local), []nft.Expr{t.in(t.local)})
	near := slices.Concat(host.Bridges(nft.MetaOifGroup, nft.Equal), nft.Source.In(t.near, nft.Equal))
	from, to := nft.Source.Of(t.Family), nft.Destination.Of(t.Family)
	self := []nft.Expr{from.Load(nft.Reg1), to.Load(nft.Reg32(t.words)), t.in(t.selves)}
	chain("local", nft.Filter, nft.Prerouting, beforeNAT, []nft.Expr{nft.Verdict(nft.Drop, "")}, closed)
	chain("prerouting-somewhere", nft.NAT, nft.Prerouting, dstNAT, somewhere, fromOthers...)
	chain("output-somewhere", nft.NAT, nft.Output, dstNAT, somewhere, fromHost)
	chain("prerouting", nft.NAT, nft.Prerouting, dstNATLast, everywhere, fromOthers...)
	chain("output", nft.NAT, nft.Output, dstNATLast, everywhere, fromHost)
	chain("postrouting", nft.NAT, nft.Postrouting, srcNAT, []nft.Expr{nft.Masquerade()}, near, self)
	return all
}

// toHost returns the conditions of packets that are addressed to the host: those that
// the host itself sends, and those of others. A packet of others to 127.0.0.0/8 is left
// to be dropped. IPv6 has no route_localnet. A socket of the host that sends to a
// link-local address is bound to that interface, and no answer would come back. Linux
// forwards packets from link-local addresses only if they leave where they came from
// (ip6_forward), and routes packets to them only there.
func (t *table) toHost(noFIB bool) (fromHost []nft.Expr, fromOthers [][]nft.Expr) {
	own := nft.Compare(nft.Fib(nft.Reg1), nft.Equal, nft.HostOrder(unix.RTN_LOCAL))
	if noFIB {
		own = []nft.Expr{nft.Destination.Of(t.Family).Load(nft.Reg1), t.in(t.host)}
	}
	toFar := nft.Destination.In(t.near, nft.NotEqual)
	if t.Family == nft.IPv4 {
		return own, [][]nft.Expr{slices.Concat(toFar, own)}
	}
	notLoopback := nft.Destination.Is(netip.IPv6Loopback(), nft.NotEqual)
	return slices.Concat(notLoopback, toFar, own), [][]nft.Expr{
		slices.Concat(notLoopback, nft.Source.In(t.near, nft.NotEqual), toFar, own),
		slices.Concat(notLoopback, host.Bridges(nft.MetaIifGroup, nft.Equal), own),
	}
}

// in matches if the set has what is loaded.
func (*table) in(set nft.Set) nft.Expr { return nft.Lookup(set.Name, nft.Reg1) }

// load loads the key of a map or set, with the destination's address or without.
func (t *table) load(set nft.Set) []nft.Expr {
	protocol := nft.Meta(nft.MetaL4Proto, nft.Reg1)
	if set == t.everywhere {
		return []nft.Expr{protocol, nft.DstPort(nft.Reg32(1))}
	}
	return []nft.Expr{protocol, nft.Destination.Of(t.Family).Load(nft.Reg32(1)), nft.DstPort(nft.Reg32(1 + t.words))}
}

// dnat translates the destination to what a map has for it.
func (t *table) dnat(m nft.Set) []nft.Expr {
	const target = 8 // the word where the map's data goes
	return append(t.load(m),
		nft.LookupData(m.Name, nft.Reg1, nft.Reg32(target)),
		nft.Translate(t.Family, nft.Reg32(target), nft.Reg32(target+t.words)))
}

// missing returns the chains that are not as they should be, and whether the table is of
// the kind for a kernel without fib. One that is there decides about its kind.
func (t *table) missing(c *nft.Conn, noFIB bool) ([]nft.Ruleset, bool, error) {
	have, err := c.Rules(t.Table, "")
	noFIB = noFIB || slices.ContainsFunc(have, func(r nft.Rule) bool { return slices.ContainsFunc(r.Exprs, t.in(t.host).Equal) })
	return nft.Missing(t.chains(noFIB), have), noFIB, err
}

// sets returns those of elements that have owners.
func (t *table) sets() []nft.Set { return []nft.Set{t.somewhere, t.everywhere, t.selves, t.local} }

// edition is the digest of the tables' rules that this version makes: see TestEdition.
const edition = "79ef60bf"

// ensure adds the table, or what it lacks but for elements that have owners.
func (t *table) ensure(tx *host.Tx, addrs []netip.Addr) error {
	if tx.Stands(t.Table, edition) {
		return nil
	}
	missing, noFIB, err := t.missing(tx.Conn, tx.NoFIB)
	if err != nil {
		return err
	}
	tx.FIB = tx.FIB || len(missing) > 0 && !noFIB
	if !noFIB {
		tx.PutMissing(t.Table, t.sets(), missing)
		tx.Seen(t.Table, edition)
		return nil
	}
	tx.PutMissing(t.Table, append(t.sets(), t.host), missing)
	return t.follow(tx, addrs)
}

// follow makes the set of the host's addresses agree with them.
func (t *table) follow(tx *host.Tx, addrs []netip.Addr) error {
	var now []nft.Element
	for _, a := range t.ofFamily(addrs) {
		now = append(now, nft.Element{Set: t.host, Key: string(a.AsSlice())})
	}
	old, err := elements.List(tx.Conn, t.host)
	if err != nil {
		return err
	}
	have := elements.ViewOf(old)
	have.Put(tx.Batch, now, slices.DeleteFunc(old, elements.ViewOf(now).Has))
	return nil
}

// ofFamily returns the addresses of the table's family.
func (t *table) ofFamily(addrs []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return nft.FamilyOf(a) != t.Family })
}

// takes reports whether a port belongs into the table.
func (t *table) takes(p model.Publication) bool { return nft.FamilyOf(p.Target.Addr()) == t.Family }

// element returns the map's element that leads to a port.
func (t *table) element(p model.Publication, owner string) nft.Element {
	data := nft.Concat(p.Target.Addr().AsSlice(), nft.BigEndian(p.Target.Port()))
	if p.Everywhere() {
		key := nft.Concat([]byte{p.Protocol}, nft.BigEndian(p.Host.Port()))
		return nft.Element{Set: t.everywhere, Key: key, Data: data, Comment: owner}
	}
	return nft.Element{Set: t.somewhere, Key: portAt(p.Protocol, p.Host), Data: data, Comment: owner}
}

// portAt is the key of a port of one address.
func portAt(protocol byte, at netip.AddrPort) string {
	return nft.Concat([]byte{protocol}, at.Addr().AsSlice(), nft.BigEndian(at.Port()))
}

// publication is the inverse of element: false for an element of a set.
func publication(e nft.Element) (p model.Publication, ok bool) {
	if len(e.Key) < 8 || len(e.Data) < 8 {
		return p, false
	}
	p = model.Publication{Protocol: e.Key[0], Host: endpoint(e.Key[4:]), Target: endpoint(e.Data)}
	if !p.Host.Addr().IsValid() {
		p = p.On(model.Unspecified(p.Target.Addr()))
	}
	return p, true
}

// endpoint reads a port, after an address or none.
func endpoint(s string) netip.AddrPort {
	port := len(s) - 4
	addr, _ := netip.AddrFromSlice([]byte(s[:port]))
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16([]byte(s[port:])))
}

// publications returns the ports that elements of the maps lead to.
func publications(all []nft.Element) (ports []model.Publication) {
	for _, e := range all {
		if p, ok := publication(e); ok {
			ports = append(ports, p)
		}
	}
	return ports
}

// elements returns all that the ports of attachments have in the table.
func (t *table) elements(attachments ...*model.Attachment) (all []nft.Element) {
	added := map[nft.Element]bool{} // to local and selves
	add := func(e nft.Element) {
		if !added[e] {
			added[e] = true
			all = append(all, e)
		}
	}
	for _, a := range attachments {
		owner := a.Key.String()
		for _, p := range a.Ports {
			if !t.takes(p) {
				continue
			}
			if p.Host.IsValid() {
				all = append(all, t.element(p, owner))
			}
			if p.Local {
				add(nft.Element{Set: t.local, Key: portAt(p.Protocol, p.Target), Comment: owner})
			}
			addr := p.Target.Addr().AsSlice()
			add(nft.Element{Set: t.selves, Key: nft.Concat(addr, addr), Comment: owner})
		}
	}
	return all
}
