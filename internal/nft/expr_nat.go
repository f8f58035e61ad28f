package nft

import "golang.org/x/sys/unix"

// NATFlags are how ports and addresses are chosen (NF_NAT_RANGE_*).
type NATFlags uint32

// The flags.
const (
	Random      NATFlags = unix.NF_NAT_RANGE_PROTO_RANDOM
	FullyRandom NATFlags = unix.NF_NAT_RANGE_PROTO_RANDOM_FULLY
	Persistent  NATFlags = unix.NF_NAT_RANGE_PERSISTENT

	// implied follow from the registers that are given; the kernel adds them.
	implied NATFlags = unix.NF_NAT_RANGE_MAP_IPS | unix.NF_NAT_RANGE_PROTO_SPECIFIED
)

// A Translate gives the packet's connection another source (in postrouting and
// input) or destination (in prerouting and output). It needs CONFIG_NFT_NAT.
type Translate struct {
	Dest   bool   // the destination, NFT_NAT_DNAT; else the source, NFT_NAT_SNAT
	Family Family // IPv4 or IPv6
	Addr   Reg    // holds the address; 0 leaves it
	Port   Reg    // holds the port, in network byte order; 0 leaves it
	Flags  NATFlags
}

func (Translate) expr() string { return "nat" }

func (e Translate) pass(c *codec) Expr {
	typ := uint32(unix.NFT_NAT_SNAT)
	if e.Dest {
		typ = unix.NFT_NAT_DNAT
	}
	e.Dest = number(c, unix.NFTA_NAT_TYPE, typ) == unix.NFT_NAT_DNAT
	e.Family = number(c, unix.NFTA_NAT_FAMILY, e.Family)
	e.Addr = optional(c, unix.NFTA_NAT_REG_ADDR_MIN, e.Addr)
	e.Port = optional(c, unix.NFTA_NAT_REG_PROTO_MIN, e.Port)
	// The kernel spells out that the range ends where it begins.
	c.implied(unix.NFTA_NAT_REG_ADDR_MAX, uint32(e.Addr))
	c.implied(unix.NFTA_NAT_REG_PROTO_MAX, uint32(e.Port))
	e.Flags = optional(c, unix.NFTA_NAT_FLAGS, e.Flags) &^ implied
	return e
}

// A Masquerade gives the packet's connection the source address of the
// interface that it leaves by, in postrouting. It needs CONFIG_NFT_MASQ.
type Masquerade struct {
	Flags NATFlags
}

func (Masquerade) expr() string { return "masq" }

func (e Masquerade) pass(c *codec) Expr {
	e.Flags = optional(c, unix.NFTA_MASQ_FLAGS, e.Flags)
	return e
}
