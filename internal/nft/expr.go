package nft

import (
	"bytes"
	"errors"

	"flatnet/internal/nl"

	"golang.org/x/sys/unix"
)

// An Expr is an expression of a rule. The kernel gives rules back with the
// registers under other names (see [Reg32]), with defaults spelled out and
// with what follows from other attributes; here they are read as they were
// written, so that they can be compared. An expression that has more to it than
// its type here is read as an [Other].
type Expr interface {
	expr() string // NFTA_EXPR_NAME
	pass(*nl.Codec) Expr
}

// An Other is an expression that this package can't express.
type Other struct {
	Name string
	Data []byte // the inside of NFTA_EXPR_DATA
}

func (o Other) expr() string        { return o.Name }
func (o Other) pass(*nl.Codec) Expr { return o }

func passExpr(c *nl.Codec, e Expr) Expr {
	if c.Reading() {
		return readExpr(c.Text(unix.NFTA_EXPR_NAME, ""), c.Bytes(unix.NFTA_EXPR_DATA, nil))
	}
	c.Text(unix.NFTA_EXPR_NAME, e.expr())
	if o, ok := e.(Other); ok {
		c.Bytes(unix.NFTA_EXPR_DATA, o.Data)
	} else {
		c.Nest(unix.NFTA_EXPR_DATA, func(n *nl.Codec) { e.pass(n) })
	}
	return e
}

func readExpr(name string, data []byte) Expr {
	for _, e := range []Expr{
		Meta{}, Payload{}, Immediate{}, Ct{}, Fib{}, Cmp{}, Bitwise{}, Lookup{}, Translate{}, Masquerade{},
	} {
		if e.expr() != name {
			continue
		}
		complete := false
		err := nl.Decode(data, func(n *nl.Codec) {
			e = e.pass(n)
			complete = n.OnlyZeros()
		})
		if err == nil && complete {
			return e
		}
	}
	return Other{name, data}
}

// value passes over a nft_data_attributes nest that contains a value, or is left
// out if that is empty.
func value[T string | []byte](c *nl.Codec, typ uint16, v T) T {
	if c.Reading() || len(v) > 0 {
		c.Nest(typ, func(n *nl.Codec) { v = T(n.Bytes(unix.NFTA_DATA_VALUE, []byte(v))) })
	}
	return v
}

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
	MetaIifGroup MetaKey = unix.NFT_META_IIFGROUP // input interface's group (ip-link(8)), 4 bytes in host byte order
	MetaOifGroup MetaKey = unix.NFT_META_OIFGROUP // output interface's group
)

// A Meta loads a property into Dst.
type Meta struct {
	Key MetaKey
	Dst Reg
}

func (Meta) expr() string { return "meta" }

func (e Meta) pass(c *nl.Codec) Expr {
	e.Key = nl.Number(c, unix.NFTA_META_KEY, e.Key)
	e.Dst = nl.Number(c, unix.NFTA_META_DREG, e.Dst)
	return e
}

// A Header is where a [Payload] counts from (enum nft_payload_bases).
type Header uint32

// The headers.
const (
	LinkHeader      Header = iota // NFT_PAYLOAD_LL_HEADER
	NetworkHeader                 // NFT_PAYLOAD_NETWORK_HEADER
	TransportHeader               // NFT_PAYLOAD_TRANSPORT_HEADER
)

// A Payload loads bytes of the packet into Dst.
type Payload struct {
	Dst    Reg
	Base   Header
	Offset uint32
	Len    uint32
}

func (Payload) expr() string { return "payload" }

func (e Payload) pass(c *nl.Codec) Expr {
	e.Dst = nl.Number(c, unix.NFTA_PAYLOAD_DREG, e.Dst)
	e.Base = nl.Number(c, unix.NFTA_PAYLOAD_BASE, e.Base)
	e.Offset = nl.Number(c, unix.NFTA_PAYLOAD_OFFSET, e.Offset)
	e.Len = nl.Number(c, unix.NFTA_PAYLOAD_LEN, e.Len)
	return e
}

// An Immediate loads constant bytes into Dst. A constant verdict is a
// [Verdict].
type Immediate struct {
	Dst  Reg
	Data []byte
}

func (Immediate) expr() string { return "immediate" }

func (e Immediate) pass(c *nl.Codec) Expr {
	e.Dst = nl.Number(c, unix.NFTA_IMMEDIATE_DREG, e.Dst)
	if c.Reading() && e.Dst == verdictReg {
		return Verdict{}.pass(c)
	}
	e.Data = value(c, unix.NFTA_IMMEDIATE_DATA, e.Data)
	return e
}

// A CtKey is a property of a packet's connection (enum nft_ct_keys).
type CtKey uint32

// The properties, of 4 bytes in host byte order.
const (
	CtState  CtKey = unix.NFT_CT_STATE  // bits: 1 invalid, 2 established, 4 related, 8 new
	CtStatus CtKey = unix.NFT_CT_STATUS // IPS_* of linux/netfilter/nf_conntrack_common.h
)

// A Ct loads a property of the packet's connection into Dst. It needs
// CONFIG_NFT_CT.
type Ct struct {
	Key CtKey
	Dst Reg
}

func (Ct) expr() string { return "ct" }

func (e Ct) pass(c *nl.Codec) Expr {
	e.Key = nl.Number(c, unix.NFTA_CT_KEY, e.Key)
	e.Dst = nl.Number(c, unix.NFTA_CT_DREG, e.Dst)
	return e
}

// A Fib loads the type of the packet's destination address (RTN_*, 4 bytes in
// host byte order) into Dst. It needs CONFIG_NFT_FIB_IPV4 or CONFIG_NFT_FIB_IPV6.
type Fib struct {
	Dst Reg
}

func (Fib) expr() string { return "fib" }

func (e Fib) pass(c *nl.Codec) Expr {
	c.Constant(unix.NFTA_FIB_FLAGS, unix.NFTA_FIB_F_DADDR)
	c.Constant(unix.NFTA_FIB_RESULT, unix.NFT_FIB_RESULT_ADDRTYPE)
	e.Dst = nl.Number(c, unix.NFTA_FIB_DREG, e.Dst)
	return e
}

// A CmpOp is a comparison (enum nft_cmp_ops).
type CmpOp uint32

// The comparisons.
const (
	Equal    CmpOp = iota // NFT_CMP_EQ
	NotEqual              // NFT_CMP_NEQ
)

// A Cmp ends the rule unless Src compares to Data.
type Cmp struct {
	Src  Reg
	Op   CmpOp
	Data []byte
}

func (Cmp) expr() string { return "cmp" }

func (e Cmp) pass(c *nl.Codec) Expr {
	e.Src = nl.Number(c, unix.NFTA_CMP_SREG, e.Src)
	e.Op = nl.Number(c, unix.NFTA_CMP_OP, e.Op)
	e.Data = value(c, unix.NFTA_CMP_DATA, e.Data)
	return e
}

var errBitwise = errors.New("bitwise operation other than AND")

// A Bitwise sets Dst to Src & Mask.
type Bitwise struct {
	Src, Dst Reg
	Mask     []byte
}

func (Bitwise) expr() string { return "bitwise" }

func (e Bitwise) pass(c *nl.Codec) Expr {
	e.Src = nl.Number(c, unix.NFTA_BITWISE_SREG, e.Src)
	e.Dst = nl.Number(c, unix.NFTA_BITWISE_DREG, e.Dst)
	size := nl.Number(c, unix.NFTA_BITWISE_LEN, uint32(len(e.Mask)))
	e.Mask = value(c, unix.NFTA_BITWISE_MASK, e.Mask)
	zero := make([]byte, len(e.Mask))
	if xor := value(c, unix.NFTA_BITWISE_XOR, zero); size != uint32(len(e.Mask)) || !bytes.Equal(xor, zero) {
		c.Fail(errBitwise)
	}
	return e
}

var errLookup = errors.New("lookup in a verdict map")

// A Lookup ends the rule unless the set has the key that is in Src (or with Invert,
// if it does). With Dst it loads a map's data.
type Lookup struct {
	Set    string
	Src    Reg
	Dst    Reg
	Invert bool
}

func (Lookup) expr() string { return "lookup" }

func (e Lookup) pass(c *nl.Codec) Expr {
	const absent = ^verdictReg
	if c.Reading() {
		e.Dst = absent
	}
	e.Src = nl.Number(c, unix.NFTA_LOOKUP_SREG, e.Src)
	e.Dst = nl.Optional(c, unix.NFTA_LOOKUP_DREG, e.Dst)
	e.Set = c.Text(unix.NFTA_LOOKUP_SET, e.Set)
	e.Invert = c.Flag(unix.NFTA_LOOKUP_FLAGS, unix.NFT_LOOKUP_F_INV, e.Invert)
	if c.Reading() && e.Dst == verdictReg {
		c.Fail(errLookup)
	}
	if e.Dst == absent {
		e.Dst = 0
	}
	return e
}

// A VerdictCode is a NF_* verdict or a NFT_* one (enum nft_verdicts).
type VerdictCode int32

// The verdicts.
const (
	Drop   VerdictCode = 0  // NF_DROP
	Accept VerdictCode = 1  // NF_ACCEPT
	Goto   VerdictCode = -4 // NFT_GOTO, to Verdict.Chain
)

// A Verdict ends a rule and decides about the packet.
type Verdict struct {
	Code  VerdictCode
	Chain string // of Goto only
}

func (Verdict) expr() string { return "immediate" }

func (v Verdict) pass(c *nl.Codec) Expr {
	nl.Number(c, unix.NFTA_IMMEDIATE_DREG, verdictReg)
	c.Nest(unix.NFTA_IMMEDIATE_DATA, func(data *nl.Codec) {
		data.Nest(unix.NFTA_DATA_VERDICT, func(n *nl.Codec) {
			v.Code = nl.Number(n, unix.NFTA_VERDICT_CODE, v.Code)
			v.Chain = n.Text(unix.NFTA_VERDICT_CHAIN, v.Chain)
		})
	})
	return v
}

// A Translate gives the packet's connection another destination, in prerouting and
// output (dnat). It needs CONFIG_NFT_NAT.
type Translate struct {
	Family Family // IPv4 or IPv6
	Addr   Reg    // contains the address
	Port   Reg    // contains the port, in network byte order; 0 leaves it
}

func (Translate) expr() string { return "nat" }

func (e Translate) pass(c *nl.Codec) Expr {
	c.Constant(unix.NFTA_NAT_TYPE, unix.NFT_NAT_DNAT)
	e.Family = nl.Number(c, unix.NFTA_NAT_FAMILY, e.Family)
	e.Addr = nl.Optional(c, unix.NFTA_NAT_REG_ADDR_MIN, e.Addr)
	e.Port = nl.Optional(c, unix.NFTA_NAT_REG_PROTO_MIN, e.Port)
	if c.Reading() {
		// The kernel spells out that the range ends where it begins, and below as flags
		// which of the registers are given.
		c.Constant(unix.NFTA_NAT_REG_ADDR_MAX, uint32(e.Addr))
		c.Constant(unix.NFTA_NAT_REG_PROTO_MAX, uint32(e.Port))
	}
	c.Flag(unix.NFTA_NAT_FLAGS, unix.NF_NAT_RANGE_MAP_IPS|unix.NF_NAT_RANGE_PROTO_SPECIFIED, false)
	return e
}

// A Masquerade gives the packet's connection the source address of the
// interface that it leaves by, in postrouting. It needs CONFIG_NFT_MASQ.
type Masquerade struct{}

func (Masquerade) expr() string { return "masq" }

func (e Masquerade) pass(*nl.Codec) Expr { return e }
