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
//		map somewhere { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; size 32768; }
//		map everywhere { type inet_proto . inet_service : ipv4_addr . inet_service; size 32768; }
//		set selves { type ipv4_addr . ipv4_addr; size 32768; }
//		chain translate {
//			dnat to meta l4proto . ip daddr . th dport map @somewhere
//			dnat to meta l4proto . th dport map @everywhere
//		}
//		chain prerouting { type nat hook prerouting priority dstnat; ip daddr != 127.0.0.0/8 fib daddr type local jump translate; }
//		chain output { type nat hook output priority -100; fib daddr type local jump translate; }
//		chain postrouting {
//			type nat hook postrouting priority srcnat
//			oifgroup 10870/31 ip saddr 127.0.0.0/8 masquerade
//			ip saddr . ip daddr @selves masquerade
//		}
//	}
//
// So only packets to the host itself are translated; for IPv6, all but those to
// ::1. Where the kernel lacks
// fib, the host's addresses are kept in a set.
type portsTable struct{ nft.Table }

func portsOf(family nft.Family) portsTable {
	return portsTable{nft.Table{Family: family, Name: "flatnet.ports"}}
}

// maxPublished bounds the elements of each map; see [nft.Bounded].
const maxPublished = 32768

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

func (t portsTable) set(name string, key, data []nft.Type) nft.Bounded {
	return nft.Bounded{Set: nft.Set{Table: t.Table, Name: name, Key: key, Data: data}, Size: maxPublished}
}

func (t portsTable) target() []nft.Type { return []nft.Type{t.addr(), nft.InetService} }

// somewhere holds ports of one address of the host.
func (t portsTable) somewhere() nft.Bounded {
	return t.set("somewhere", []nft.Type{nft.InetProto, t.addr(), nft.InetService}, t.target())
}

// everywhere holds ports of all addresses of the host.
func (t portsTable) everywhere() nft.Bounded {
	return t.set("everywhere", []nft.Type{nft.InetProto, nft.InetService}, t.target())
}

// selves holds targets that may reach themselves. Where br_netfilter translates
// what is then only bridged, [Firewall]'s rule can't tell.
func (t portsTable) selves() nft.Bounded {
	return t.set("selves", []nft.Type{t.addr(), t.addr()}, nil)
}

// sets are those whose elements have owners.
func (t portsTable) sets() []nft.Set {
	return []nft.Set{t.somewhere().Set, t.everywhere().Set, t.selves().Set}
}

// hostAddrs holds the host's own addresses, where there is no fib.
func (t portsTable) hostAddrs() nft.Set {
	return nft.Set{Table: t.Table, Name: "host", Key: []nft.Type{t.addr()}}
}

// chains are the table's, the one that others jump to first.
func (t portsTable) chains(fib bool) []chain {
	translate := t.chain(nft.Chain{Name: "translate"}, t.dnat(t.somewhere(), true), t.dnat(t.everywhere(), false))
	fromHost := t.toHost(fib)
	fromElsewhere := fromHost
	if t.Family == nft.IPv4 { // what a neighbour sends to 127.0.0.1 is for nobody
		fromElsewhere = slices.Concat(match(destination, loopback4, nft.NotEqual), fromHost)
	}
	return []chain{
		translate,
		t.chain(nft.Chain{Name: "prerouting", Type: nft.NAT, Hook: nft.Prerouting, Priority: dstNAT}, fromElsewhere),
		t.chain(nft.Chain{Name: "output", Type: nft.NAT, Hook: nft.Output, Priority: dstNAT}, fromHost),
		t.chain(nft.Chain{Name: "postrouting", Type: nft.NAT, Hook: nft.Postrouting, Priority: srcNAT}, t.masquerade()...),
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

// toHost sends packets that are addressed to the host itself to translate.
func (t portsTable) toHost(fib bool) []nft.Expr {
	var exprs []nft.Expr
	if t.Family == nft.IPv6 { // has no route_localnet: no answer would come back
		exprs = match(destination, netip.PrefixFrom(netip.IPv6Loopback(), 128), nft.NotEqual)
	}
	if fib {
		exprs = append(exprs, nft.Fib{Dst: nft.Reg1}, nft.Cmp{Src: nft.Reg1, Op: nft.Equal, Data: hostOrder(unix.RTN_LOCAL)})
	} else {
		exprs = append(exprs, destination.load(t.Family, nft.Reg1), nft.Lookup{Set: t.hostAddrs().Name, Src: nft.Reg1})
	}
	return append(exprs, nft.Verdict{Code: nft.Jump, Chain: "translate"})
}

// dnat looks the destination up in a map, whose key has the address or has not.
func (t portsTable) dnat(m nft.Bounded, withAddr bool) []nft.Expr {
	exprs := []nft.Expr{nft.Meta{Key: nft.MetaL4Proto, Dst: nft.Reg1}}
	port := nft.Reg32(1)
	if withAddr {
		exprs = append(exprs, destination.load(t.Family, nft.Reg32(1)))
		port = nft.Reg32(1 + t.words())
	}
	const target = 8 // the word where what is found goes
	return append(exprs,
		dstPort(port),
		nft.Lookup{Set: m.Name, Src: nft.Reg1, Dst: nft.Reg32(target)},
		nft.Translate{Dest: true, Family: t.Family, Addr: nft.Reg32(target), Port: nft.Reg32(target + t.words())})
}

func (t portsTable) masquerade() (rules [][]nft.Expr) {
	if t.Family == nft.IPv4 {
		rules = append(rules, masquerade(anyGroup(nft.MetaOifGroup), match(source, loopback4, nft.Equal)))
	}
	return append(rules, masquerade([]nft.Expr{
		source.load(t.Family, nft.Reg1), destination.load(t.Family, nft.Reg32(t.words())),
		nft.Lookup{Set: t.selves().Name, Src: nft.Reg1},
	}))
}

// ensure puts into the batch the table, if it is not there, and the addresses
// that it needs. Which of the two kinds it is, its rule tells.
func (t portsTable) ensure(c *nft.Conn, b *nft.Batch, addrs []rtnl.Addr, fib bool) error {
	have, err := c.Rules(t.Table, "prerouting")
	if err != nil {
		return err
	}
	if len(have) == 0 {
		t.add(b, fib)
	} else {
		fib = usesFib(have)
	}
	if fib {
		return nil
	}
	host := nft.Elements{Set: t.hostAddrs()}
	for _, a := range addrs {
		if ip := a.Prefix.Addr(); familyOf(ip) == t.Family {
			host.List = append(host.List, nft.Element{Key: ip.AsSlice()})
		}
	}
	b.Add(host)
	return nil
}

func usesFib(rules []nft.Rule) bool {
	return slices.ContainsFunc(rules, func(r nft.Rule) bool {
		return slices.Contains(r.Exprs, nft.Expr(nft.Fib{Dst: nft.Reg1}))
	})
}

func (t portsTable) add(b *nft.Batch, fib bool) {
	b.Add(t.Table, t.somewhere(), t.everywhere(), t.selves())
	if !fib {
		b.Add(t.hostAddrs())
	}
	for _, ch := range t.chains(fib) {
		ch.add(b)
	}
}

// owners lists those that have elements. Of a set that changes all the time
// nothing is said.
func (t portsTable) owners(c *nft.Conn) (keys []Key, err error) {
	for _, set := range t.sets() {
		all, err := c.Elements(set)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EAFNOSUPPORT) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range all {
			if key, ok := parseKey(e.Comment); ok {
				keys = append(keys, key)
			}
		}
	}
	return keys, nil
}

// remove removes the table if no port is published. If one is published at this
// moment, nothing happens.
func (t portsTable) remove(c *nft.Conn) error {
	var b nft.Batch
	chains := t.chains(true)
	slices.Reverse(chains)
	for _, ch := range chains {
		b.Flush(ch.Chain)
	}
	for _, ch := range chains {
		b.Delete(ch.Chain)
	}
	b.DeleteEmpty(t.somewhere(), t.everywhere(), t.selves())
	b.Delete(t.Table)
	err := c.Commit(&b)
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOENT) {
		return nil // others publish, or removed it
	}
	return err
}
