package nft

import (
	"golang.org/x/sys/unix"

	"flatnet/internal/nl"
)

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
