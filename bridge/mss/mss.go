// Package mss has the rules by which TCP fits a tunnel: what is too large for it would be
// lost wherever a firewall on the way drops the ICMP messages that say so.
package mss

import (
	"encoding/binary"
	"slices"

	"flatnet/internal/nft"
	"flatnet/internal/nl"

	"golang.org/x/sys/unix"
)

// priority is NF_IP_PRI_MANGLE of linux/netfilter_ipv4.h.
const priority = -150

// Chain is where the rules are, less its table and the end of its name.
func Chain() nft.Chain {
	return nft.Chain{Name: "mss", Type: nft.Filter, Hook: nft.Forward, Priority: priority}
}

// Rules lower the maximum segment size (RFC 9293, section 3.7.1) in what opens a connection,
// to and from the containers behind an interface, to what fits both ways of the connection.
// A smaller one is left. For the default network,
//
//	iifname "flatnet-br0" oifname != "flatnet-br0" tcp flags syn tcp option maxseg size set rt mtu
//	iifname != "flatnet-br0" oifname "flatnet-br0" tcp flags syn tcp option maxseg size set rt mtu
func Rules(iface string) [][]nft.Expr {
	rule := func(from, to nft.CmpOp) []nft.Expr {
		return slices.Concat(nft.CompareName(nft.MetaIifName, from, iface), nft.CompareName(nft.MetaOifName, to, iface),
			nft.Protocol(unix.IPPROTO_TCP), syn(), clamp())
	}
	return [][]nft.Expr{rule(nft.Equal, nft.NotEqual), rule(nft.NotEqual, nft.Equal)}
}

// syn matches the SYN flag, a bit of byte 13 of struct tcphdr.
func syn() []nft.Expr {
	flags := nft.Payload{Base: nft.TransportHeader, Offset: 13, Len: 1}
	return nft.CompareBits(flags.Load(nft.Reg1), []byte{2}, nft.NotEqual, []byte{0})
}

// clamp writes the segment size that the routes allow into the option of kind 2, which has
// it in its bytes 2 and 3. The kernel leaves a smaller one (nft_exthdr_tcp_set_eval of
// net/netfilter/nft_exthdr.c). All three are part of nf_tables itself since Linux 4.18.
func clamp() []nft.Expr {
	return []nft.Expr{
		expr("rt", word(unix.NFTA_RT_KEY, unix.NFT_RT_TCPMSS), word(unix.NFTA_RT_DREG, uint32(nft.Reg1))),
		expr("byteorder", word(unix.NFTA_BYTEORDER_SREG, uint32(nft.Reg1)), word(unix.NFTA_BYTEORDER_DREG, uint32(nft.Reg1)),
			word(unix.NFTA_BYTEORDER_OP, unix.NFT_BYTEORDER_HTON), word(unix.NFTA_BYTEORDER_LEN, 2), word(unix.NFTA_BYTEORDER_SIZE, 2)),
		expr("exthdr", word(unix.NFTA_EXTHDR_SREG, uint32(nft.Reg1)), nl.Attr(unix.NFTA_EXTHDR_TYPE, []byte{2}),
			word(unix.NFTA_EXTHDR_OFFSET, 2), word(unix.NFTA_EXTHDR_LEN, 2), word(unix.NFTA_EXTHDR_OP, unix.NFT_EXTHDR_OP_TCPOPT)),
	}
}

func expr(name string, attrs ...[]byte) nft.Expr {
	return nft.Expr{Name: name, Data: slices.Concat(attrs...)}
}

func word(typ uint16, v uint32) []byte { return nl.Attr(typ, binary.BigEndian.AppendUint32(nil, v)) }
