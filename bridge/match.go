package bridge

import (
	"encoding/binary"
	"net/netip"

	"flatnet/internal/nft"
)

// Expressions that rules are put together of. Every kernel with nf_tables has
// them, but for masquerade.

// loopback4 is RFC 1122's.
var loopback4 = netip.MustParsePrefix("127.0.0.0/8")

// linkLocal6 is RFC 4291's.
var linkLocal6 = netip.MustParsePrefix("fe80::/10")

func masquerade(parts ...[]nft.Expr) []nft.Expr { return rule(nft.Masquerade{}, parts...) }
func drop(parts ...[]nft.Expr) []nft.Expr       { return rule(nft.Verdict{Code: nft.Drop}, parts...) }
func accept(parts ...[]nft.Expr) []nft.Expr     { return rule(nft.Verdict{Code: nft.Accept}, parts...) }

func rule(end nft.Expr, parts ...[]nft.Expr) (exprs []nft.Expr) {
	for _, p := range parts {
		exprs = append(exprs, p...)
	}
	return append(exprs, end)
}

func ifName(key nft.MetaKey, op nft.CmpOp, name string) []nft.Expr {
	return []nft.Expr{nft.Meta{Key: key, Dst: nft.Reg1}, nft.Cmp{Src: nft.Reg1, Op: op, Data: nft.Name(name)}}
}

func oneGroup(key nft.MetaKey, group uint32) []nft.Expr {
	return []nft.Expr{nft.Meta{Key: key, Dst: nft.Reg1}, nft.Cmp{Src: nft.Reg1, Op: nft.Equal, Data: hostOrder(group)}}
}

// anyGroup matches the bridges of all flatnet networks, and noGroup everything else.
func anyGroup(key nft.MetaKey) []nft.Expr { return groups(key, nft.Equal) }
func noGroup(key nft.MetaKey) []nft.Expr  { return groups(key, nft.NotEqual) }

func groups(key nft.MetaKey, op nft.CmpOp) []nft.Expr {
	return []nft.Expr{
		nft.Meta{Key: key, Dst: nft.Reg1},
		nft.Bitwise{Src: nft.Reg1, Dst: nft.Reg1, Mask: hostOrder(^uint32(groupIsolated ^ groupOpen))},
		nft.Cmp{Src: nft.Reg1, Op: op, Data: hostOrder(groupIsolated & groupOpen)},
	}
}

// Bits of a packet's connection: NF_CT_STATE_BIT of net/netfilter/nf_conntrack.h
// and IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h.
const (
	ctEstablished = 1 << 1
	ctRelated     = 1 << 2
	ctDNAT        = 1 << 5
)

// ctBits matches packets of connections that have any of the bits.
func ctBits(key nft.CtKey, bits uint32) []nft.Expr {
	return []nft.Expr{
		nft.Ct{Key: key, Dst: nft.Reg1},
		nft.Bitwise{Src: nft.Reg1, Dst: nft.Reg1, Mask: hostOrder(bits)},
		nft.Cmp{Src: nft.Reg1, Op: nft.NotEqual, Data: hostOrder(0)},
	}
}

func hostOrder(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

// A field is which address of a packet is meant.
type field int

const (
	source field = iota
	destination
)

// load loads an address of struct iphdr or struct ipv6hdr.
func (f field) load(family nft.Family, dst nft.Reg) nft.Payload {
	size, first := uint32(4), uint32(12)
	if family == nft.IPv6 {
		size, first = 16, 8
	}
	return nft.Payload{Dst: dst, Base: nft.NetworkHeader, Offset: first + uint32(f)*size, Len: size}
}

// dstPort loads the destination port of struct tcphdr, udphdr or sctphdr.
func dstPort(dst nft.Reg) nft.Payload {
	return nft.Payload{Dst: dst, Base: nft.TransportHeader, Offset: 2, Len: 2}
}

// toDNS matches DNS queries by a protocol (RFC 1035, section 4.2).
func toDNS(protocol byte) []nft.Expr {
	return []nft.Expr{
		nft.Meta{Key: nft.MetaL4Proto, Dst: nft.Reg1}, nft.Cmp{Src: nft.Reg1, Op: nft.Equal, Data: []byte{protocol}},
		dstPort(nft.Reg1), nft.Cmp{Src: nft.Reg1, Op: nft.Equal, Data: bigEndian(portDNS)},
	}
}

// match compares an address of the packet with a prefix. Whole bytes of it are
// compared without a mask, as nft does, so that rules which nft has saved and
// loaded are the same.
func match(f field, p netip.Prefix, op nft.CmpOp) []nft.Expr {
	addr := p.Masked().Addr().AsSlice()
	load := f.load(familyOf(p.Addr()), nft.Reg1)
	if n := p.Bits() / 8; n > 0 && p.Bits()%8 == 0 {
		load.Len = uint32(n)
		return []nft.Expr{load, nft.Cmp{Src: nft.Reg1, Op: op, Data: addr[:n]}}
	}
	exprs := []nft.Expr{load}
	if !p.IsSingleIP() {
		mask := make([]byte, len(addr))
		for i := range p.Bits() {
			mask[i/8] |= 0x80 >> (i % 8)
		}
		exprs = append(exprs, nft.Bitwise{Src: nft.Reg1, Dst: nft.Reg1, Mask: mask})
	}
	return append(exprs, nft.Cmp{Src: nft.Reg1, Op: op, Data: addr})
}
