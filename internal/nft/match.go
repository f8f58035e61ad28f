package nft

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Expressions that rules are put together of. Every kernel with nf_tables has
// them built in, but for masquerade and ct.

// FamilyOf returns the family of an address.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// MasqueradeIf, DropIf and AcceptIf return a rule's expressions: the conditions, and
// then what is done.
func MasqueradeIf(conditions ...[]Expr) []Expr { return If(Masquerade{}, conditions...) }
func DropIf(conditions ...[]Expr) []Expr       { return If(Verdict{Code: Drop}, conditions...) }
func AcceptIf(conditions ...[]Expr) []Expr     { return If(Verdict{Code: Accept}, conditions...) }

// If returns the conditions' expressions followed by end.
func If(end Expr, conditions ...[]Expr) (exprs []Expr) {
	for _, c := range conditions {
		exprs = append(exprs, c...)
	}
	return append(exprs, end)
}

// Compare compares what an expression loads into Reg1 with data.
func Compare(load Expr, op CmpOp, data []byte) []Expr {
	return []Expr{load, Cmp{Src: Reg1, Op: op, Data: data}}
}

// CompareBits is Compare under a mask.
func CompareBits(load Expr, mask []byte, op CmpOp, data []byte) []Expr {
	return []Expr{load, Bitwise{Src: Reg1, Dst: Reg1, Mask: mask}, Cmp{Src: Reg1, Op: op, Data: data}}
}

// CompareName compares the name of an interface, CompareMeta a number in host order.
func CompareName(key MetaKey, op CmpOp, name string) []Expr {
	return Compare(Meta{Key: key, Dst: Reg1}, op, Name(name))
}

func CompareMeta(key MetaKey, op CmpOp, n uint32) []Expr {
	return Compare(Meta{Key: key, Dst: Reg1}, op, HostOrder(n))
}

// Protocol matches packets of an IPPROTO_*.
func Protocol(protocol byte) []Expr {
	return Compare(Meta{Key: MetaL4Proto, Dst: Reg1}, Equal, []byte{protocol})
}

// Bits of a packet's connection: NF_CT_STATE_BIT of net/netfilter/nf_conntrack.h
// and IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h.
const (
	CtEstablished = 1 << 1
	CtRelated     = 1 << 2
	CtDNAT        = 1 << 5
)

// CtBits matches packets of connections that have any of the bits.
func CtBits(key CtKey, bits uint32) []Expr {
	return CompareBits(Ct{Key: key, Dst: Reg1}, HostOrder(bits), NotEqual, HostOrder(0))
}

// HostOrder and BigEndian encode numbers as the kernel compares them.
func HostOrder(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
func BigEndian(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

// A Side chooses an address of a packet.
type Side int

const (
	Source Side = iota
	Destination
)

// Load loads an address of struct iphdr or struct ipv6hdr.
func (s Side) Load(family Family, dst Reg) Payload {
	size, first := uint32(4), uint32(12)
	if family == IPv6 {
		size, first = 16, 8
	}
	return Payload{Dst: dst, Base: NetworkHeader, Offset: first + uint32(s)*size, Len: size}
}

// In compares an address of the packet with a prefix. Whole bytes of it are compared
// without a mask, as nft does, so that rules which nft has saved and loaded are the
// same.
func (s Side) In(p netip.Prefix, op CmpOp) []Expr {
	addr := p.Masked().Addr().AsSlice()
	load := s.Load(FamilyOf(p.Addr()), Reg1)
	if n := p.Bits() / 8; n > 0 && p.Bits()%8 == 0 {
		load.Len = uint32(n)
		return Compare(load, op, addr[:n])
	}
	mask := make([]byte, len(addr))
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return CompareBits(load, mask, op, addr)
}

// Is compares an address of the packet with one.
func (s Side) Is(a netip.Addr, op CmpOp) []Expr {
	return s.In(netip.PrefixFrom(a, a.BitLen()), op)
}

// DstPort loads the destination port of struct tcphdr, udphdr or sctphdr.
func DstPort(dst Reg) Payload {
	return Payload{Dst: dst, Base: TransportHeader, Offset: 2, Len: 2}
}

// ToPort matches packets to a port of a protocol.
func ToPort(protocol byte, port uint16) []Expr {
	return append(Protocol(protocol), Compare(DstPort(Reg1), Equal, BigEndian(port))...)
}

// DNS is the port of DNS (RFC 1035, section 4.2).
const DNS = 53

// DNSProtocols are those that DNS is served by.
func DNSProtocols() []byte { return []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} }
