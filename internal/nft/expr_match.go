package nft

import (
	"bytes"
	"errors"

	"golang.org/x/sys/unix"

	"flatnet/internal/nl"
)

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

var errLookup = errors.New("lookup in a verdict map, or with unknown flags")

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
	var flags uint32
	if e.Invert {
		flags = unix.NFT_LOOKUP_F_INV
	}
	e.Src = nl.Number(c, unix.NFTA_LOOKUP_SREG, e.Src)
	e.Dst = nl.Optional(c, unix.NFTA_LOOKUP_DREG, e.Dst)
	e.Set = c.Text(unix.NFTA_LOOKUP_SET, e.Set)
	flags = nl.Optional(c, unix.NFTA_LOOKUP_FLAGS, flags)
	e.Invert = flags == unix.NFT_LOOKUP_F_INV
	if c.Reading() && (e.Dst == verdictReg || flags&^unix.NFT_LOOKUP_F_INV != 0) {
		c.Fail(errLookup)
	}
	if e.Dst == absent {
		e.Dst = 0
	}
	return e
}
