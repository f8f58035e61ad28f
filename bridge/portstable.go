package bridge

import (
	"errors"
	"net/netip"
	"slices"

	"flatnet/internal/nft"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// Published ports of all networks are in one table per family, made with the
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
// Ports of containers that are published on 127.0.0.1 only are in local: a
// neighbour who has a route to the container's address does not reach them.
//
// Only packets to the host itself are translated; for IPv6, not those to ::1. Those
// from or to link-local addresses are translated only if a container sends them, for
// its bridge is where the answer comes back; the host itself answers all others.
// What a container sends from a link-local address is masqueraded. Between
// the ports of one address and those of all, each network keeps port
// 53 of its gateways for itself, see [Firewall.gatewayDNS]. Where the
// kernel lacks fib, the host's addresses are kept in a set. The maps have no size:
// what bounds them is the number of ports.
type portsTable struct{ nft.Table }

func portsOf(family nft.Family) portsTable {
	return portsTable{nft.Table{Family: family, Name: "flatnet.ports"}}
}

func (t portsTable) addr() nft.Type {
	if t.Family == nft.IPv4 {
		return nft.IPv4Addr
	}
	return nft.IPv6Addr
}

// words is how many words of 4 bytes an address has.
func (t portsTable) words() uint32 {
	if t.Family == nft.IPv4 {
		return 1
	}
	return 4
}

func (t portsTable) set(name string, key, data []nft.Type) nft.Set {
	return nft.Set{Table: t.Table, Name: name, Key: key, Data: data}
}

func (t portsTable) target() []nft.Type { return []nft.Type{t.addr(), nft.InetService} }

// somewhere holds ports of one address of the host.
func (t portsTable) somewhere() nft.Set {
	return t.set("somewhere", []nft.Type{nft.InetProto, t.addr(), nft.InetService}, t.target())
}

// everywhere holds ports of all addresses of the host.
func (t portsTable) everywhere() nft.Set {
	return t.set("everywhere", []nft.Type{nft.InetProto, nft.InetService}, t.target())
}

// selves holds targets that may reach themselves. Where br_netfilter translates
// what is then only bridged, [Firewall]'s rule can't tell.
func (t portsTable) selves() nft.Set {
	return t.set("selves", []nft.Type{t.addr(), t.addr()}, nil)
}

// local holds targets that only the host and containers reach.
func (t portsTable) local() nft.Set {
	return t.set("local", []nft.Type{nft.InetProto, t.addr(), nft.InetService}, nil)
}

// sets are those whose elements have owners.
func (t portsTable) sets() []nft.Set {
	return []nft.Set{t.somewhere(), t.everywhere(), t.selves(), t.local()}
}

// hostAddrs holds the host's own addresses, where there is no fib.
func (t portsTable) hostAddrs() nft.Set {
	return nft.Set{Table: t.Table, Name: "host", Key: []nft.Type{t.addr()}}
}

func (t portsTable) chains(fib bool) []chain {
	output, prerouting := t.fromHost(fib), t.fromElsewhere(fib)
	nat := func(name string, hook nft.Hook, priority int32, rules ...[]nft.Expr) chain {
		return t.chain(nft.Chain{Name: name, Type: nft.NAT, Hook: hook, Priority: priority}, rules...)
	}
	somewhere, everywhere := t.dnat(t.somewhere(), true), t.dnat(t.everywhere(), false)
	closed := nft.Chain{Name: "local", Type: nft.Filter, Hook: nft.Prerouting, Priority: beforeNAT}
	return []chain{
		t.chain(closed, drop(noGroup(nft.MetaIifGroup), t.load(true), []nft.Expr{nft.Lookup{Set: t.local().Name, Src: nft.Reg1}})),
		nat("prerouting-somewhere", nft.Prerouting, dstNAT, each(prerouting, somewhere)...),
		nat("output-somewhere", nft.Output, dstNAT, slices.Concat(output, somewhere)),
		nat("prerouting", nft.Prerouting, dstNATLast, each(prerouting, everywhere)...),
		nat("output", nft.Output, dstNATLast, slices.Concat(output, everywhere)),
		nat("postrouting", nft.Postrouting, srcNAT, t.masquerade()...),
	}
}

func (t portsTable) chain(ch nft.Chain, rules ...[]nft.Expr) chain {
	ch.Table = t.Table
	out := chain{Chain: ch}
	for _, exprs := range rules {
		out.rules = append(out.rules, nft.Rule{Table: t.Table, Chain: ch.Name, Exprs: exprs, Comment: "flatnet"})
	}
	return out
}

// each appends the same end to several conditions.
func each(conditions [][]nft.Expr, end []nft.Expr) (rules [][]nft.Expr) {
	for _, c := range conditions {
		rules = append(rules, slices.Concat(c, end))
	}
	return rules
}

// fromHost matches packets that the host sends to itself. IPv6 has no
// route_localnet, and a socket that sends to a link-local address is bound to that
// interface: no answer would come back.
func (t portsTable) fromHost(fib bool) []nft.Expr {
	if t.Family == nft.IPv4 {
		return t.toHost(fib)
	}
	return slices.Concat(notLoopback6(), match(destination, linkLocal6, nft.NotEqual), t.toHost(fib))
}

// fromElsewhere matches packets that others send to the host, by one of several
// conditions. What a neighbour sends to 127.0.0.1 is dropped. Linux forwards packets
// from link-local addresses only if they leave where they came from (ip6_forward),
// and routes packets to them only there.
func (t portsTable) fromElsewhere(fib bool) [][]nft.Expr {
	if t.Family == nft.IPv4 {
		return [][]nft.Expr{slices.Concat(match(destination, loopback4, nft.NotEqual), t.toHost(fib))}
	}
	global := slices.Concat(match(source, linkLocal6, nft.NotEqual), match(destination, linkLocal6, nft.NotEqual))
	return [][]nft.Expr{
		slices.Concat(notLoopback6(), global, t.toHost(fib)),
		slices.Concat(notLoopback6(), anyGroup(nft.MetaIifGroup), t.toHost(fib)),
	}
}

func notLoopback6() []nft.Expr {
	return match(destination, netip.PrefixFrom(netip.IPv6Loopback(), 128), nft.NotEqual)
}

// toHost matches packets that are addressed to the host itself.
func (t portsTable) toHost(fib bool) []nft.Expr {
	if fib {
		return []nft.Expr{nft.Fib{Dst: nft.Reg1}, nft.Cmp{Src: nft.Reg1, Op: nft.Equal, Data: hostOrder(unix.RTN_LOCAL)}}
	}
	return []nft.Expr{destination.load(t.Family, nft.Reg1), nft.Lookup{Set: t.hostAddrs().Name, Src: nft.Reg1}}
}

// load loads the key of a map or set, which has the destination's address or has
// not.
func (t portsTable) load(withAddr bool) []nft.Expr {
	exprs := []nft.Expr{nft.Meta{Key: nft.MetaL4Proto, Dst: nft.Reg1}}
	port := nft.Reg32(1)
	if withAddr {
		exprs = append(exprs, destination.load(t.Family, nft.Reg32(1)))
		port = nft.Reg32(1 + t.words())
	}
	return append(exprs, dstPort(port))
}

// dnat looks the destination up in a map, whose key has the address or has not.
func (t portsTable) dnat(m nft.Set, withAddr bool) []nft.Expr {
	const target = 8 // the word where what is found goes
	return append(t.load(withAddr),
		nft.Lookup{Set: m.Name, Src: nft.Reg1, Dst: nft.Reg32(target)},
		nft.Translate{Family: t.Family, Addr: nft.Reg32(target), Port: nft.Reg32(target + t.words())})
}

func (t portsTable) masquerade() (rules [][]nft.Expr) {
	near := loopback4
	if t.Family == nft.IPv6 {
		near = linkLocal6
	}
	rules = append(rules, masquerade(anyGroup(nft.MetaOifGroup), match(source, near, nft.Equal)))
	return append(rules, masquerade([]nft.Expr{
		source.load(t.Family, nft.Reg1), destination.load(t.Family, nft.Reg32(t.words())),
		nft.Lookup{Set: t.selves().Name, Src: nft.Reg1},
	}))
}

// ensure puts into the batch the table, if it is not there, and makes the set of
// the host's addresses agree with them, if the table has that. Which of the two
// kinds of table it is shows in its rule.
func (t portsTable) ensure(c *nft.Conn, b *nft.Batch, addrs []rtnl.Addr, fib bool) error {
	have, err := c.Rules(t.Table, "prerouting")
	if err != nil {
		return err
	}
	complete, err := c.Has(t.local()) // else an older version made the table
	if err != nil {
		return err
	}
	var old []nft.Element
	if len(have) > 0 {
		fib = usesFib(have)
	}
	switch {
	case len(have) == 0 || !complete:
		t.add(b, fib)
	case !fib:
		if old, err = c.Elements(t.hostAddrs()); err != nil {
			return err
		}
	}
	if !fib {
		t.follow(b, old, addrs)
	}
	return nil
}

// follow makes the set of the host's addresses agree with them.
func (t portsTable) follow(b *nft.Batch, old []nft.Element, addrs []rtnl.Addr) {
	left := map[string]bool{}
	for _, e := range old {
		left[string(e.Key)] = true
	}
	add, remove := nft.Elements{Set: t.hostAddrs()}, nft.Elements{Set: t.hostAddrs()}
	now := map[string]bool{}
	for _, a := range addrs {
		ip := a.Prefix.Addr()
		key := string(ip.AsSlice())
		if familyOf(ip) != t.Family || now[key] {
			continue
		}
		now[key] = true
		if !left[key] {
			add.List = append(add.List, nft.Element{Key: ip.AsSlice()})
		}
		delete(left, key)
	}
	for key := range left {
		remove.List = append(remove.List, nft.Element{Key: []byte(key)})
	}
	b.Delete(remove)
	b.Add(add)
}

func usesFib(rules []nft.Rule) bool {
	return slices.ContainsFunc(rules, func(r nft.Rule) bool {
		return slices.Contains(r.Exprs, nft.Expr(nft.Fib{Dst: nft.Reg1}))
	})
}

func (t portsTable) add(b *nft.Batch, fib bool) {
	b.Add(t.Table, t.somewhere(), t.everywhere(), t.selves(), t.local())
	if !fib {
		b.Add(t.hostAddrs())
	}
	for _, ch := range t.chains(fib) {
		ch.add(b)
	}
}

// owners lists those that have ports: each has an element in selves.
func (t portsTable) owners(c *nft.Conn) (keys []Key, err error) {
	all, err := c.Elements(t.selves())
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, nil
	}
	for _, e := range all {
		if key, ok := parseKey(e.Comment); ok {
			keys = append(keys, key)
		}
	}
	return keys, err
}

// remove puts the removal of the table into a batch, if no port is published.
func (t portsTable) remove(c *nft.Conn, b *nft.Batch) error {
	for _, set := range []nft.Set{t.selves(), t.somewhere(), t.everywhere(), t.local()} { // the smallest first
		all, err := c.Elements(set)
		if errors.Is(err, unix.ENOENT) && set.Name == t.local().Name {
			continue // an older version made the table
		}
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAFNOSUPPORT) {
			return nil // somebody else removed it
		}
		if err != nil || len(all) > 0 {
			return err
		}
	}
	b.Delete(t.Table)
	return nil
}
