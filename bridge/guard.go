package bridge

import (
	"errors"
	"net/netip"

	"flatnet/internal/nft"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// A Guard lets a bridge port send only what has its container's own MAC and IP
// addresses (macspoofchk).
type Guard struct {
	Port      string // the host end's name
	MAC       HardwareAddr
	Addresses []netip.Addr
}

// A guardTable is where a network's guards are, in the bridge family, which is
// asked before any other:
//
//	table bridge flatnet {
//		set guarded { type ifname; }
//		set macs { type ifname . ether_addr; }
//		set addrs4 { type ifname . ipv4_addr; }
//		set addrs6 { type ifname . ipv6_addr; }
//		chain check {
//			iifname . ether saddr != @macs drop
//			meta protocol ip iifname . ip saddr != @addrs4 drop
//			meta protocol arp iifname . arp saddr ether != @macs drop
//			meta protocol arp iifname . arp saddr ip != @addrs4 drop
//			meta protocol ip6 iifname . ip6 saddr != @addrs6 drop
//			meta protocol ip6 icmpv6 type nd-neighbor-advert iifname . icmpv6 taddr != @addrs6 drop
//			meta protocol 8021q drop
//			meta protocol 8021ad drop
//		}
//		chain prerouting { type filter hook prerouting priority -300; iifname @guarded goto check; }
//	}
type guardTable struct{ nft.Table }

func guardsOf(network string) guardTable { return guardTable{table(nft.Bridge, network)} }

func (t guardTable) set(name string, key ...nft.Type) nft.Set {
	return nft.Set{Table: t.Table, Name: name, Key: key}
}

func (t guardTable) sets() []nft.Set {
	return []nft.Set{
		t.set("guarded", nft.IfName), t.set("macs", nft.IfName, nft.EtherAddr),
		t.set("addrs4", nft.IfName, nft.IPv4Addr), t.set("addrs6", nft.IfName, nft.IPv6Addr),
	}
}

// beforeAll is NF_BR_PRI_NAT_DST_BRIDGED of linux/netfilter_bridge.h.
const beforeAll = -300

func (t guardTable) chains() []chain {
	is := func(protocol uint16) []nft.Expr {
		return []nft.Expr{nft.Meta{Key: nft.MetaProtocol, Dst: nft.Reg1}, nft.Cmp{Src: nft.Reg1, Op: nft.Equal, Data: bigEndian(protocol)}}
	}
	check := func(protocol uint16, set string, where nft.Payload, also ...nft.Expr) []nft.Expr {
		var exprs []nft.Expr
		if protocol != 0 {
			exprs = is(protocol)
		}
		exprs = append(exprs, also...)
		where.Dst = nft.Reg2
		return append(exprs, nft.Meta{Key: nft.MetaIifName, Dst: nft.Reg1}, where,
			nft.Lookup{Set: set, Src: nft.Reg1, Invert: true}, nft.Verdict{Code: nft.Drop})
	}
	chains := []chain{
		{Chain: nft.Chain{Table: t.Table, Name: "check"}},
		{Chain: nft.Chain{Table: t.Table, Name: "prerouting", Type: nft.Filter, Hook: nft.Prerouting, Priority: beforeAll}},
	}
	add := func(ch *chain, exprs ...nft.Expr) {
		ch.rules = append(ch.rules, nft.Rule{Table: t.Table, Chain: ch.Name, Exprs: exprs, Comment: "flatnet"})
	}
	// Offsets are of struct ethhdr, iphdr, arphdr with what follows it, ipv6hdr and
	// nd_msg.
	add(&chains[0], check(0, "macs", nft.Payload{Base: nft.LinkHeader, Offset: 6, Len: 6})...)
	add(&chains[0], check(unix.ETH_P_IP, "addrs4", nft.Payload{Base: nft.NetworkHeader, Offset: 12, Len: 4})...)
	add(&chains[0], check(unix.ETH_P_ARP, "macs", nft.Payload{Base: nft.NetworkHeader, Offset: 8, Len: 6})...)
	add(&chains[0], check(unix.ETH_P_ARP, "addrs4", nft.Payload{Base: nft.NetworkHeader, Offset: 14, Len: 4})...)
	add(&chains[0], check(unix.ETH_P_IPV6, "addrs6", nft.Payload{Base: nft.NetworkHeader, Offset: 8, Len: 16})...)
	const advert = 136 // NDISC_NEIGHBOUR_ADVERTISEMENT of net/ndisc.h
	add(&chains[0], check(unix.ETH_P_IPV6, "addrs6", nft.Payload{Base: nft.TransportHeader, Offset: 8, Len: 16},
		nft.Meta{Key: nft.MetaL4Proto, Dst: nft.Reg1}, nft.Cmp{Src: nft.Reg1, Op: nft.Equal, Data: []byte{unix.IPPROTO_ICMPV6}},
		nft.Payload{Dst: nft.Reg1, Base: nft.TransportHeader, Len: 1}, nft.Cmp{Src: nft.Reg1, Op: nft.Equal, Data: []byte{advert}})...)
	// The outermost tag is off here. What a second one hides, nobody has looked at.
	for _, tag := range []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021AD} {
		add(&chains[0], drop(is(tag))...)
	}
	add(&chains[1], nft.Meta{Key: nft.MetaIifName, Dst: nft.Reg1}, nft.Lookup{Set: "guarded", Src: nft.Reg1},
		nft.Verdict{Code: nft.Goto, Chain: "check"})
	return chains
}

// entries are what the port may use, and that it may use nothing else. Who has
// no address yet asks for one, or whether it is free, from the unspecified one.
func (g Guard) entries(key Key) []entry {
	t := guardsOf(key.Network)
	sets, name := t.sets(), nft.Name(g.Port)
	one := func(set nft.Set, value []byte) entry {
		return entry{set, nft.Element{Key: nft.Concat(name, value), Comment: key.String()}}
	}
	all := []entry{one(sets[0], nil), one(sets[1], g.MAC[:])}
	for _, a := range append(g.Addresses[:len(g.Addresses):len(g.Addresses)],
		netip.IPv4Unspecified(), netip.IPv6Unspecified(), g.MAC.linkLocal()) {
		set := sets[2]
		if a.Is6() {
			set = sets[3]
		}
		all = append(all, one(set, a.AsSlice()))
	}
	return all
}

// linkLocal is the address that the kernel gives to an interface with that MAC
// (RFC 4291, appendix A).
func (a HardwareAddr) linkLocal() netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: a[0] ^ 2, a[1], a[2], 0xff, 0xfe, a[3], a[4], a[5]})
}

// guard makes the rules of a port of that name, which is not up yet.
func (h *Host) guard(a Attachment, port string) error {
	if !a.SpoofCheck {
		return nil
	}
	w := a.wish()
	w.Guard = &Guard{Port: port, MAC: a.MAC, Addresses: a.owner().Addresses}
	return h.withNFT(true, func(c *nft.Conn) error {
		return h.records.during(func() error {
			h.records.saveWish(w)
			return c.Transact(func(b *nft.Batch) error {
				return errors.Join(guardsOf(a.Key.Network).ensure(c, b), claim(c, b, w.Guard.entries(a.Key)))
			})
		})
	})
}

// ensure puts into the batch the table, unless all of it is there.
func (t guardTable) ensure(c *nft.Conn, b *nft.Batch) error {
	for _, ch := range t.chains() {
		ok, err := ch.stands(c)
		if err != nil {
			return err
		}
		if !ok {
			t.add(b)
			return nil
		}
	}
	return nil
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

// unguard removes key's elements. The table goes with the network's last.
func (t guardTable) unguard(c *nft.Conn, key Key, recorded wish, known bool) error {
	has, err := c.Has(t.Table)
	if errors.Is(err, nft.ErrUnsupported) || errors.Is(err, unix.EAFNOSUPPORT) || err == nil && !has {
		return nil
	}
	if err != nil {
		return err
	}
	return c.Transact(func(b *nft.Batch) error {
		var mine []entry
		var err error
		switch {
		case !known:
			mine, err = listedOf(c, key, t.sets())
		case recorded.Guard != nil:
			mine, err = recordedOf(c, key, recorded.Guard.entries(key))
		}
		if errors.Is(err, unix.ENOENT) { // somebody else removed the table
			return nil
		}
		for _, els := range bySet(mine) {
			b.Delete(els)
		}
		return err
	})
}

func (h *Host) checkGuard(c *rtnl.Conn, a Attachment) error {
	links, err := hostEnds(c, a.Key)
	if err != nil || !a.SpoofCheck || len(links) == 0 {
		return err
	}
	g := Guard{Port: links[0].Name, MAC: a.MAC, Addresses: a.owner().Addresses}
	return h.withNFT(true, func(c *nft.Conn) error {
		err := checkChains(c, guardsOf(a.Key.Network).chains())
		for _, e := range g.entries(a.Key) {
			found, _, eerr := c.Element(e.set, e.Key)
			if eerr == nil && found.Comment != e.Comment {
				eerr = changed("an element of %v for %s is missing", e.set, g.Port)
			}
			err = errors.Join(err, eerr)
		}
		return err
	})
}
