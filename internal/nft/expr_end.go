package nft

import (
	"errors"

	"golang.org/x/sys/unix"

	"flatnet/internal/nl"
)

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

var errNAT = errors.New("flags of an address translation")

func (Translate) expr() string { return "nat" }

func (e Translate) pass(c *nl.Codec) Expr {
	c.Constant(unix.NFTA_NAT_TYPE, unix.NFT_NAT_DNAT)
	e.Family = nl.Number(c, unix.NFTA_NAT_FAMILY, e.Family)
	e.Addr = nl.Optional(c, unix.NFTA_NAT_REG_ADDR_MIN, e.Addr)
	e.Port = nl.Optional(c, unix.NFTA_NAT_REG_PROTO_MIN, e.Port)
	if c.Reading() {
		// The kernel spells out that the range ends where it begins, and which of the
		// registers are given.
		c.Constant(unix.NFTA_NAT_REG_ADDR_MAX, uint32(e.Addr))
		c.Constant(unix.NFTA_NAT_REG_PROTO_MAX, uint32(e.Port))
		flags := nl.Number(c, unix.NFTA_NAT_FLAGS, uint32(0))
		if flags&^(unix.NF_NAT_RANGE_MAP_IPS|unix.NF_NAT_RANGE_PROTO_SPECIFIED) != 0 {
			c.Fail(errNAT)
		}
	}
	return e
}

// A Masquerade gives the packet's connection the source address of the
// interface that it leaves by, in postrouting. It needs CONFIG_NFT_MASQ.
type Masquerade struct{}

func (Masquerade) expr() string { return "masq" }

func (e Masquerade) pass(*nl.Codec) Expr { return e }
