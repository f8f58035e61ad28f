package nft

import (
	"bytes"
	"errors"

	"golang.org/x/sys/unix"
)

// A CmpOp is a comparison (enum nft_cmp_ops).
type CmpOp uint32

// The comparisons. All but the first two are of numbers in network byte order.
const (
	Equal        CmpOp = iota // NFT_CMP_EQ
	NotEqual                  // NFT_CMP_NEQ
	Less                      // NFT_CMP_LT
	LessEqual                 // NFT_CMP_LTE
	Greater                   // NFT_CMP_GT
	GreaterEqual              // NFT_CMP_GTE
)

// A Cmp ends the rule unless Src compares to Data.
type Cmp struct {
	Src  Reg
	Op   CmpOp
	Data []byte
}

func (Cmp) expr() string { return "cmp" }

func (e Cmp) pass(c *codec) Expr {
	e.Src = number(c, unix.NFTA_CMP_SREG, e.Src)
	e.Op = number(c, unix.NFTA_CMP_OP, e.Op)
	e.Data = c.value(unix.NFTA_CMP_DATA, e.Data)
	return e
}

var errBitwise = errors.New("bitwise operation other than AND")

// A Bitwise sets Dst to Src & Mask.
type Bitwise struct {
	Src, Dst Reg
	Mask     []byte
}

func (Bitwise) expr() string { return "bitwise" }

func (e Bitwise) pass(c *codec) Expr {
	e.Src = number(c, unix.NFTA_BITWISE_SREG, e.Src)
	e.Dst = number(c, unix.NFTA_BITWISE_DREG, e.Dst)
	size := number(c, unix.NFTA_BITWISE_LEN, uint32(len(e.Mask)))
	e.Mask = c.value(unix.NFTA_BITWISE_MASK, e.Mask)
	zero := make([]byte, len(e.Mask))
	if xor := c.value(unix.NFTA_BITWISE_XOR, zero); size != uint32(len(e.Mask)) || !bytes.Equal(xor, zero) {
		c.fail(errBitwise)
	}
	return e
}

// A Lookup ends the rule unless the set holds what Src holds (or with Invert,
// if it does). With Dst it loads a map's data, with Verdict it ends the rule
// with a verdict map's.
type Lookup struct {
	Set     string
	Src     Reg
	Dst     Reg
	Verdict bool
	Invert  bool
}

func (Lookup) expr() string { return "lookup" }

func (e Lookup) pass(c *codec) Expr {
	e.Src = number(c, unix.NFTA_LOOKUP_SREG, e.Src)
	e.Verdict = e.Verdict || c.has(unix.NFTA_LOOKUP_DREG)
	if e.Dst != 0 || e.Verdict {
		e.Dst = number(c, unix.NFTA_LOOKUP_DREG, e.Dst)
		e.Verdict = e.Dst == verdictReg
	}
	e.Set = c.text(unix.NFTA_LOOKUP_SET, e.Set)
	e.Invert = c.flag(unix.NFTA_LOOKUP_FLAGS, unix.NFT_LOOKUP_F_INV, e.Invert)
	return e
}
