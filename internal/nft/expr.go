package nft

import (
	"golang.org/x/sys/unix"

	"flatnet/internal/nl"
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
