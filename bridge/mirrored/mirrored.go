// Package mirrored makes published ports reachable in WSL2's mirrored networking
// (networkingMode=mirrored), where Windows and the distribution have the same addresses.
//
// There, ip rules come before the one of the table local (AddMirroredLoopbackRoutingRules
// of WSL's src/linux/init/NetworkManager.cpp, IPv4 only):
//
//	0: from all iif loopback0 ipproto tcp lookup local   (also udp, also for each mirrored interface)
//	1: from all ipproto tcp lookup 127                   (127.0.0.1, by loopback0 to Windows; also udp)
//	1: from all ipproto tcp lookup 128                   (the host's addresses, to Windows; also udp)
//	2: from all lookup local
//
// So packets to 127.0.0.1 come from Windows by loopback0, and are translated here. And what
// a container answers to the host itself would go to Windows: connections that the host
// opens to a published port get a mark, their answers get it as well, and an ip rule of
// ours leads packets with the mark to the table local. Connections that Windows opens have
// none, for their answers are to go there. Other bits of marks are not touched.
//
// The chains are in the table of published ports (see package ports), and go with it. The
// ip rule goes when they are gone. All of it is added only where there is an interface
// loopback0 and a rule that leads to the table 127.
package mirrored

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/bridge/ports"
	"flatnet/internal/iprule"
	"flatnet/internal/nft"
	"flatnet/internal/nl"

	"golang.org/x/sys/unix"
)

const (
	loopback0 = "loopback0" // by which Windows and the distribution reach each other's 127.0.0.1
	windows   = 127         // the routing table that leads there

	// mark is a bit that neither Podman, Kubernetes, Docker, Tailscale, Mullvad nor
	// wg-quick uses.
	mark     = 1 << 28
	ruleText = "ip rule fwmark 0x10000000/0x10000000 lookup local"
)

// Priorities of linux/netfilter_ipv4.h: destinations are translated at dstNAT, and by
// package ports until two after that.
const (
	mangle = -150 // NF_IP_PRI_MANGLE
	dstNAT = -100 // NF_IP_PRI_NAT_DST
)

// translating returns the chain by which packets from Windows to 127.0.0.1 reach a port:
//
//	chain mirrored {
//		type nat hook prerouting priority dstnat
//		iifname "loopback0" ip daddr 127.0.0.0/8 dnat to meta l4proto . ip daddr . th dport map @somewhere
//		iifname "loopback0" ip daddr 127.0.0.0/8 dnat to meta l4proto . th dport map @everywhere
//	}
func translating() nft.Ruleset {
	table, translate, _ := ports.IPv4()
	r := nft.Ruleset{Chain: nft.Chain{Table: table, Name: "mirrored", Type: nft.NAT, Hook: nft.Prerouting, Priority: dstNAT}}
	to := nft.Destination.In(netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8), nft.Equal) // RFC 1122
	for _, end := range translate {
		r.Append(comment, slices.Concat(nft.CompareName(nft.MetaIifName, nft.Equal, loopback0), to, end))
	}
	return r
}

const comment = "flatnet"

// marking returns the chains by which answers to the host itself stay on it:
//
//	chain mirrored-output {
//		type filter hook output priority -97
//		ip daddr . ip daddr @selves ct status dnat ct mark set ct mark | 0x10000000
//	}
//	chain mirrored-answer {
//		type filter hook prerouting priority mangle
//		iifgroup 10870/31 ct mark & 0x10000000 != 0 meta mark set meta mark | 0x10000000
//	}
func marking() []nft.Ruleset {
	table, _, toTarget := ports.IPv4()
	out := nft.Ruleset{Chain: nft.Chain{Table: table, Name: "mirrored-output", Type: nft.Filter, Hook: nft.Output, Priority: dstNAT + 3}}
	out.Append(comment, slices.Concat(toTarget, nft.CtBits(nft.CtStatus, nft.CtDNAT), or(nft.Ct(ctMark, nft.Reg1), setCtMark())))
	in := nft.Ruleset{Chain: nft.Chain{Table: table, Name: "mirrored-answer", Type: nft.Filter, Hook: nft.Prerouting, Priority: mangle}}
	in.Append(comment, slices.Concat(host.Bridges(nft.MetaIifGroup, nft.Equal), nft.CtBits(ctMark, mark),
		or(nft.Meta(metaMark, nft.Reg1), setMark())))
	return []nft.Ruleset{out, in}
}

const (
	ctMark   nft.CtKey   = unix.NFT_CT_MARK
	metaMark nft.MetaKey = unix.NFT_META_MARK
)

// or adds the mark to what is loaded into the first register.
func or(load, store nft.Expr) []nft.Expr {
	data := func(typ uint16, v uint32) []byte {
		return nl.Nest(typ, nl.Attr(unix.NFTA_DATA_VALUE, nft.HostOrder(v)))
	}
	set := nft.Expr{Name: "bitwise", Data: slices.Concat(
		number(unix.NFTA_BITWISE_SREG, uint32(nft.Reg1)), number(unix.NFTA_BITWISE_DREG, uint32(nft.Reg1)),
		number(unix.NFTA_BITWISE_LEN, 4), data(unix.NFTA_BITWISE_MASK, ^uint32(mark)), data(unix.NFTA_BITWISE_XOR, mark))}
	return []nft.Expr{load, set, store}
}

func setCtMark() nft.Expr {
	return nft.Expr{Name: "ct", Data: slices.Concat(
		number(unix.NFTA_CT_KEY, unix.NFT_CT_MARK), number(unix.NFTA_CT_SREG, uint32(nft.Reg1)))}
}

func setMark() nft.Expr {
	return nft.Expr{Name: "meta", Data: slices.Concat(
		number(unix.NFTA_META_KEY, unix.NFT_META_MARK), number(unix.NFTA_META_SREG, uint32(nft.Reg1)))}
}

func number(typ uint16, v uint32) []byte { return nl.Attr(typ, binary.BigEndian.AppendUint32(nil, v)) }

// concerns reports whether attachments have ports that mirrored mode is in the way of.
func concerns(all []*model.Attachment) bool {
	return slices.ContainsFunc(all, func(a *model.Attachment) bool {
		return slices.ContainsFunc(a.Ports, func(p model.Publication) bool { return p.Host.Addr().Is4() })
	})
}

// mode reports whether WSL2's mirrored mode is on, with the host's ip rules if it is.
func mode(h *host.Host) (on bool, rules []iprule.Rule, err error) {
	l, err := h.LinkByName(loopback0)
	if err != nil || l.Index == 0 {
		return false, nil, err
	}
	rules, err = iprule.List(unix.AF_INET)
	return mirroring(rules), rules, err
}

// Put adds what the published ports of attachments lack in mirrored mode, if it is on. It
// is called after their ports are published. A kernel without CONFIG_NFT_CT does not show
// whose connection an answer belongs to: the host and Windows have the same addresses. That
// is only a warning, since Windows, the LAN and other containers reach the ports without.
func Put(h *host.Host, all ...*model.Attachment) error {
	if !concerns(all) {
		return nil
	}
	on, _, err := mode(h)
	if !on || err != nil {
		return err
	}
	without, err := h.Transact(func(tx *host.Tx) error {
		tx.Optional = true
		return fill(tx, !tx.NoOptional)
	})
	if err == nil && without.NoOptional {
		h.Say(fmt.Errorf("WSL2's mirrored mode: published ports are not reachable from within WSL by 127.0.0.1 and the host's addresses, "+
			"only from Windows, the LAN and containers: %w", without.Lacks))
	}
	return errors.Join(err, Settle(h))
}

// fill adds the missing chains to tx, if ports are published.
func fill(tx *host.Tx, marked bool) error {
	missing, err := missing(tx.Conn, marked)
	for _, r := range missing {
		tx.Put(r)
	}
	return err
}

// missing returns the chains that are not as they should be, unless no port is published.
func missing(c *nft.Conn, marked bool) ([]nft.Ruleset, error) {
	wanted := []nft.Ruleset{translating()}
	if marked {
		wanted = append(wanted, marking()...)
	}
	rules, err := c.Rules(wanted[0].Table, "")
	if err != nil || len(rules) == 0 {
		return nil, err
	}
	return nft.Missing(wanted, rules), nil
}

// settling is how often [Settle] looks again whether another process has published the
// first port, or removed the last one, meanwhile.
const settling = 16

// Settle adds the ip rule if there are chains that it serves, or else removes it. It is
// called after each change of these, so that the last one to change them sees to it; who
// acted on an older state finds that out and does it again.
func Settle(h *host.Host) error {
	if l, err := h.LinkByName(loopback0); err != nil || l.Index == 0 {
		return err
	}
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.Close()
	rules, err := h.Rules()
	if err != nil {
		return nil // and so there are no chains
	}
	chain := marking()[1].Chain
	is, err := rules.Has(chain)
	for range settling {
		if err != nil {
			return err
		}
		was := is
		if err = c.set(was); err == nil {
			is, err = rules.Has(chain)
		}
		if err == nil && is == was {
			return nil
		}
	}
	return errors.Join(err, model.Errorf(model.ErrBusy, "published ports kept changing during %d attempts; try again", settling))
}

// Faults lists what [Put] mends for attachments. What the kernel can't do is no fault.
func Faults(h *host.Host, all ...*model.Attachment) ([]model.Fault, error) {
	if !concerns(all) {
		return nil, nil
	}
	on, rules, err := mode(h)
	if !on || err != nil {
		return nil, err
	}
	c, err := h.Rules()
	if err != nil {
		return nil, err
	}
	marked := true
	err = h.Try(func(tx *host.Tx) error { return fill(tx, true) })
	if errors.Is(err, model.ErrUnsupported) {
		marked, err = false, nil
	}
	chains, merr := missing(c, marked)
	found := host.ChainFaults(chains)
	if marked && !added(rules) {
		found = append(found, model.Fault{Thing: ruleText, State: model.Missing})
	}
	return found, errors.Join(err, merr)
}
