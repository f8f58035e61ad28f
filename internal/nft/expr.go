package nft

import (
	"bytes"
	"slices"

	"flatnet/internal/nl"

	"golang.org/x/sys/unix"
)

// An Expr is an expression of a rule: one that this package makes, or any that the kernel
// gives back.
type Expr struct {
	Name string // NFTA_EXPR_NAME
	Data []byte // the attributes inside of NFTA_EXPR_DATA
}

func expr(name string, attrs ...[]byte) Expr { return Expr{name, slices.Concat(attrs...)} }

func readExpr(r nl.Reader) Expr {
	return Expr{r.Text(unix.NFTA_EXPR_NAME), r.Octets(unix.NFTA_EXPR_DATA)}
}

func (e Expr) encode() []byte {
	return nl.Nest(unix.NFTA_LIST_ELEM, nl.Text(unix.NFTA_EXPR_NAME, e.Name), nl.Nest(unix.NFTA_EXPR_DATA, e.Data))
}

// Equal reports whether two expressions do the same.
func (e Expr) Equal(o Expr) bool {
	return e.Name == o.Name && slices.Equal(e.canonical(0), o.canonical(0))
}

// dst is the attribute of the register that something of the packet is loaded into:
// NFTA_META_DREG, NFTA_PAYLOAD_DREG, NFTA_CT_DREG and NFTA_FIB_DREG.
const dst = unix.NFTA_META_DREG

// Loads reports whether two expressions load the same of the packet, into whatever
// register.
func (e Expr) Loads(o Expr) bool {
	return e.Name == o.Name && slices.Equal(e.canonical(dst), o.canonical(dst))
}

// Compared returns the bytes that a comparison has; nil if the expression is none.
func (e Expr) Compared() []byte {
	if e.Name != "cmp" {
		return nil
	}
	_, r := nl.Read(e.Data, 0)
	return r.Nest(unix.NFTA_CMP_DATA).Octets(unix.NFTA_DATA_VALUE)
}

// canonical returns the attributes other than one type in a form in which those that the
// kernel gives back are the same as those that it was given: encoded one by one, and
// sorted. The kernel has an order of its own, and spells out defaults, which are zeros; a
// newer one may have more of these. Only in a lookup, a register 0 is no default: the
// verdict. What is malformed stays as it is.
func (e Expr) canonical(without uint16) (encoded []string) {
	_, r := nl.Read(e.Data, 0)
	if r.Err() != nil {
		return []string{string(e.Data)}
	}
	r.Each(func(typ uint16, payload []byte) {
		zero := len(bytes.Trim(payload, "\x00")) == 0
		if typ != without && (!zero || e.Name == "lookup" && typ == unix.NFTA_LOOKUP_DREG) {
			encoded = append(encoded, string(nl.Attr(typ, payload)))
		}
	})
	slices.Sort(encoded)
	return encoded
}

// value encodes a nft_data_attributes nest that contains a value. An empty one is left out.
func value(typ uint16, v []byte) []byte { return nl.Nest(typ, nl.Attr(unix.NFTA_DATA_VALUE, v)) }

// A Reg is a register of a rule's virtual machine (enum nft_registers). There
// are 64 bytes, named in words of 4 or of 16 bytes.
type Reg uint32

// The first 16-byte registers. Reg1 is also words 0 to 3, and so on.
const (
	verdictReg Reg = iota // NFT_REG_VERDICT
	Reg1                  // NFT_REG_1
	Reg2                  // NFT_REG_2
)

// Reg32 is the register that starts at a 4-byte word, 0 to 15: where the
// further fields of a concatenation go. Like the kernel's own dumps it names
// the first words of the 16-byte registers NFT_REG_1 to NFT_REG_4, so that
// each register has one name only.
func Reg32(word uint32) Reg {
	if word%4 == 0 {
		return Reg1 + Reg(word/4)
	}
	return unix.NFT_REG32_00 + Reg(word)
}

// A MetaKey is a property of a packet beside its bytes (enum nft_meta_keys).
type MetaKey uint32

// The properties.
const (
	MetaProtocol MetaKey = unix.NFT_META_PROTOCOL // ETH_P_*, 2 bytes in network byte order
	MetaIifName  MetaKey = unix.NFT_META_IIFNAME  // see [Name]
	MetaOifName  MetaKey = unix.NFT_META_OIFNAME  // see [Name]
	MetaL4Proto  MetaKey = unix.NFT_META_L4PROTO  // IPPROTO_*, 1 byte
	MetaIifType  MetaKey = unix.NFT_META_IIFTYPE  // ARPHRD_*, 2 bytes in host order
	MetaIifGroup MetaKey = unix.NFT_META_IIFGROUP // input interface's group (ip-link(8)), 4 bytes in host byte order
	MetaOifGroup MetaKey = unix.NFT_META_OIFGROUP // output interface's group
)

// Meta loads a property into a register.
func Meta(key MetaKey, into Reg) Expr {
	return expr("meta", number(unix.NFTA_META_KEY, key), number(unix.NFTA_META_DREG, into))
}

// A Header is where a [Payload] counts from (enum nft_payload_bases).
type Header uint32

// The headers.
const (
	LinkHeader      Header = iota // NFT_PAYLOAD_LL_HEADER
	NetworkHeader                 // NFT_PAYLOAD_NETWORK_HEADER
	TransportHeader               // NFT_PAYLOAD_TRANSPORT_HEADER
)

// A Payload is bytes of the packet.
type Payload struct {
	Base   Header
	Offset uint32
	Len    uint32
}

// Load loads the bytes into a register.
func (p Payload) Load(into Reg) Expr {
	return expr("payload", number(unix.NFTA_PAYLOAD_DREG, into), number(unix.NFTA_PAYLOAD_BASE, p.Base),
		number(unix.NFTA_PAYLOAD_OFFSET, p.Offset), number(unix.NFTA_PAYLOAD_LEN, p.Len))
}

// Immediate loads constant bytes into a register.
func Immediate(into Reg, data []byte) Expr {
	return expr("immediate", number(unix.NFTA_IMMEDIATE_DREG, into), value(unix.NFTA_IMMEDIATE_DATA, data))
}

// A CtKey is a property of a packet's connection (enum nft_ct_keys).
type CtKey uint32

// The properties, of 4 bytes in host byte order.
const (
	CtState  CtKey = unix.NFT_CT_STATE  // bits: 1 invalid, 2 established, 4 related, 8 new
	CtStatus CtKey = unix.NFT_CT_STATUS // IPS_* of linux/netfilter/nf_conntrack_common.h
)

// Ct loads a property of the packet's connection into a register. It needs
// CONFIG_NFT_CT.
func Ct(key CtKey, into Reg) Expr {
	return expr("ct", number(unix.NFTA_CT_KEY, key), number(unix.NFTA_CT_DREG, into))
}

// Fib loads the type of the packet's destination address (RTN_*, 4 bytes in host byte
// order) into a register. It needs CONFIG_NFT_FIB_IPV4 or CONFIG_NFT_FIB_IPV6.
func Fib(into Reg) Expr {
	return expr("fib", number(unix.NFTA_FIB_FLAGS, uint32(unix.NFTA_FIB_F_DADDR)),
		number(unix.NFTA_FIB_RESULT, uint32(unix.NFT_FIB_RESULT_ADDRTYPE)), number(unix.NFTA_FIB_DREG, into))
}

// A CmpOp is a comparison (enum nft_cmp_ops).
type CmpOp uint32

// The comparisons.
const (
	Equal    CmpOp = iota // NFT_CMP_EQ
	NotEqual              // NFT_CMP_NEQ
)

// Cmp ends the rule unless a register compares to data.
func Cmp(src Reg, op CmpOp, data []byte) Expr {
	return expr("cmp", number(unix.NFTA_CMP_SREG, src), number(unix.NFTA_CMP_OP, op), value(unix.NFTA_CMP_DATA, data))
}

// Bitwise applies a mask to a register.
func Bitwise(reg Reg, mask []byte) Expr {
	return expr("bitwise", number(unix.NFTA_BITWISE_SREG, reg), number(unix.NFTA_BITWISE_DREG, reg),
		number(unix.NFTA_BITWISE_LEN, uint32(len(mask))),
		value(unix.NFTA_BITWISE_MASK, mask), value(unix.NFTA_BITWISE_XOR, make([]byte, len(mask))))
}

// Lookup ends the rule unless the set of a name has the key that is in a register, and
// LookupNot if it does. LookupData loads the map's data for the key as well.
func Lookup(set string, src Reg) Expr { return LookupData(set, src, verdictReg) }

func LookupNot(set string, src Reg) Expr {
	e := Lookup(set, src)
	e.Data = append(e.Data, number(unix.NFTA_LOOKUP_FLAGS, uint32(unix.NFT_LOOKUP_F_INV))...)
	return e
}

func LookupData(set string, src, into Reg) Expr {
	return expr("lookup", number(unix.NFTA_LOOKUP_SREG, src), nonzero(unix.NFTA_LOOKUP_DREG, into),
		nl.Text(unix.NFTA_LOOKUP_SET, set))
}

// A VerdictCode is a NF_* verdict or a NFT_* one (enum nft_verdicts).
type VerdictCode int32

// The verdicts.
const (
	Drop   VerdictCode = 0  // NF_DROP
	Accept VerdictCode = 1  // NF_ACCEPT
	Goto   VerdictCode = -4 // NFT_GOTO
)

// Verdict ends a rule and decides about the packet, with the name of the chain that [Goto]
// needs. The kernel gives the inner nest back without NLA_F_NESTED.
func Verdict(code VerdictCode, chain string) Expr {
	verdict := slices.Concat(number(unix.NFTA_VERDICT_CODE, code), nl.Text(unix.NFTA_VERDICT_CHAIN, chain))
	return expr("immediate", number(unix.NFTA_IMMEDIATE_DREG, verdictReg),
		nl.Nest(unix.NFTA_IMMEDIATE_DATA, nl.Attr(unix.NFTA_DATA_VERDICT, verdict)))
}

// Translate gives the packet's connection another destination, in prerouting and output
// (dnat): an address in a register and a port, in network byte order, in another; 0 leaves
// the port. It needs CONFIG_NFT_NAT. Ends of ranges and flags are those that the kernel
// would add.
func Translate(family Family, addr, port Reg) Expr {
	flags := uint32(unix.NF_NAT_RANGE_MAP_IPS)
	if port != 0 {
		flags |= unix.NF_NAT_RANGE_PROTO_SPECIFIED
	}
	return expr("nat", number(unix.NFTA_NAT_TYPE, uint32(unix.NFT_NAT_DNAT)), number(unix.NFTA_NAT_FAMILY, family),
		number(unix.NFTA_NAT_REG_ADDR_MIN, addr), number(unix.NFTA_NAT_REG_ADDR_MAX, addr),
		nonzero(unix.NFTA_NAT_REG_PROTO_MIN, port), nonzero(unix.NFTA_NAT_REG_PROTO_MAX, port),
		number(unix.NFTA_NAT_FLAGS, flags))
}

// Masquerade gives the packet's connection the source address of the interface that it
// leaves by, in postrouting. It needs CONFIG_NFT_MASQ.
func Masquerade() Expr { return expr("masq") }
