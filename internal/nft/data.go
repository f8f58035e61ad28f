package nft

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A Reg is a register of a rule's virtual machine (enum nft_registers). There
// are 64 bytes, named in words of 4 or of 16 bytes.
type Reg uint32

// The 16-byte registers. Reg1 is also words 0 to 3, and so on.
const (
	verdictReg Reg = iota // NFT_REG_VERDICT
	Reg1                  // NFT_REG_1
	Reg2                  // NFT_REG_2
	Reg3                  // NFT_REG_3
	Reg4                  // NFT_REG_4
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

// A VerdictCode is a NF_* verdict or a NFT_* one (enum nft_verdicts).
type VerdictCode int32

// The verdicts.
const (
	Drop   VerdictCode = 0  // NF_DROP
	Accept VerdictCode = 1  // NF_ACCEPT
	Jump   VerdictCode = -3 // NFT_JUMP, to Verdict.Chain
	Goto   VerdictCode = -4 // NFT_GOTO, to Verdict.Chain
	Return VerdictCode = -5 // NFT_RETURN
)

// A Verdict is what becomes of a packet: the expression that ends a rule, or
// what an element of a verdict map holds.
type Verdict struct {
	Code  VerdictCode
	Chain string // of Jump and Goto only
}

// data passes over the inside of a nft_data_attributes nest.
func (v Verdict) data(c *codec) Verdict {
	c.nest(unix.NFTA_DATA_VERDICT, func(n *codec) {
		v.Code = number(n, unix.NFTA_VERDICT_CODE, v.Code)
		if v.Chain != "" || n.has(unix.NFTA_VERDICT_CHAIN) {
			v.Chain = n.text(unix.NFTA_VERDICT_CHAIN, v.Chain)
		}
	})
	return v
}

// value passes over a nft_data_attributes nest that holds a value.
func (c *codec) value(typ uint16, v []byte) []byte {
	c.nest(typ, func(n *codec) { v = n.octets(unix.NFTA_DATA_VALUE, v) })
	return v
}

const (
	// userDataSize is NFT_USERDATA_MAXLEN, which the kernel enforces.
	userDataSize = 256
	// commentTag is the type of a comment in nft's own user data, which is a
	// series of {type, length, value}: NFTNL_UDATA_RULE_COMMENT and
	// NFTNL_UDATA_SET_ELEM_COMMENT of libnftnl's udata.h.
	commentTag = 0
)

// comment passes over user data that holds a comment as nft writes and shows
// it. An empty one is left out. Other programs keep what they like there: user
// data of another form has no comment.
func (c *codec) comment(typ uint16, s string) string {
	if c.w != nil {
		if s == "" {
			return s
		}
		b := append([]byte{commentTag, byte(len(s) + 1)}, s...)
		if b = append(b, 0); len(b) > userDataSize {
			c.fail(fmt.Errorf("comment of %d bytes is too long: %.20q", len(s), s))
			return s
		}
		c.w.Bytes(typ, b)
		return s
	}
	for b, _ := c.take(typ); len(b) > 0; {
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return ""
		}
		value := b[2 : 2+int(b[1])]
		if b[0] == commentTag && len(value) > 0 {
			return string(value[:len(value)-1])
		}
		b = b[2+len(value):]
	}
	return ""
}
