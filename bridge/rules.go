package bridge

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"flatnet/internal/nft"

	"golang.org/x/sys/unix"
)

// Each network has a table of its own in each family, made with its first
// attachment and deleted with its last: no rule of one network can be lost to
// another's removal.

// table is the network's table: "flatnet" for the network of that name.
func table(family nft.Family, network string) nft.Table {
	if network == "flatnet" {
		return nft.Table{Family: family, Name: network}
	}
	return nft.Table{Family: family, Name: "flatnet-" + network}
}

// srcNAT is NF_IP_PRI_NAT_SRC of linux/netfilter_ipv4.h.
const srcNAT = 100

// multicast and link-local destinations are never masqueraded (RFC 1112, RFC
// 3927, RFC 4291).
func local(is4 bool) []netip.Prefix {
	if is4 {
		return []netip.Prefix{netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("169.254.0.0/16")}
	}
	return []netip.Prefix{netip.MustParsePrefix("ff00::/8"), netip.MustParsePrefix("fe80::/10")}
}

// chain is the postrouting chain of one subnet. nft takes no colon in a name.
func (m Masquerade) chain() nft.Chain {
	family := nft.IPv4
	if m.Subnet.Addr().Is6() {
		family = nft.IPv6
	}
	return nft.Chain{
		Table: table(family, m.Network),
		Name:  "masquerade-" + strings.ReplaceAll(m.Subnet.String(), ":", "_"),
		Type:  nft.NAT, Hook: nft.Postrouting, Priority: srcNAT,
	}
}

// rule is, for the default network,
//
//	ip saddr 10.87.1.0/24 ip daddr != 10.87.1.0/24 ip daddr != 10.87.0.0/16
//	ip daddr != 224.0.0.0/4 ip daddr != 169.254.0.0/16 masquerade
//
// of expressions that every kernel with nf_tables has, but for masq itself.
func (m Masquerade) rule() nft.Rule {
	is4 := m.Subnet.Addr().Is4()
	saddr, daddr := uint32(12), uint32(16) // struct iphdr
	if !is4 {
		saddr, daddr = 8, 24 // struct ipv6hdr
	}
	exprs := match(saddr, m.Subnet, nft.Equal)
	exprs = append(exprs, match(daddr, m.Subnet, nft.NotEqual)...)
	for _, p := range append(m.Flat[:len(m.Flat):len(m.Flat)], local(is4)...) {
		exprs = append(exprs, match(daddr, p, nft.NotEqual)...)
	}
	ch := m.chain()
	return nft.Rule{
		Table: ch.Table, Chain: ch.Name, Exprs: append(exprs, nft.Masquerade{}),
		Comment: "flatnet network " + m.Network,
	}
}

// match compares the address at an offset of the network header with a prefix.
func match(offset uint32, p netip.Prefix, op nft.CmpOp) []nft.Expr {
	addr := p.Masked().Addr().AsSlice()
	mask := make([]byte, len(addr))
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []nft.Expr{
		nft.Payload{Dst: nft.Reg1, Base: nft.NetworkHeader, Offset: offset, Len: uint32(len(addr))},
		nft.Bitwise{Src: nft.Reg1, Dst: nft.Reg1, Mask: mask},
		nft.Cmp{Src: nft.Reg1, Op: op, Data: addr},
	}
}

// masquerade makes the rules that are not there as they should be. As a rule
// all are, and then nothing is sent but the question.
func (h *Host) masquerade(wanted []Masquerade) error {
	return h.withNFT(len(wanted) > 0, func(c *nft.Conn) error {
		var b nft.Batch
		for _, m := range wanted {
			ok, err := m.stands(c)
			if err != nil {
				return err
			}
			if !ok {
				ch := m.chain()
				b.Add(ch.Table, ch)
				b.Flush(ch)
				b.Add(m.rule())
			}
		}
		return c.Commit(&b)
	})
}

// stands says whether the chain holds the rule and nothing else.
func (m Masquerade) stands(c *nft.Conn) (bool, error) {
	ch := m.chain()
	rules, err := c.Rules(ch.Table, ch.Name)
	return len(rules) == 1 && rules[0].Equal(m.rule()), err
}

func (h *Host) checkMasquerade(wanted []Masquerade) error {
	return h.withNFT(len(wanted) > 0, func(c *nft.Conn) (err error) {
		for _, m := range wanted {
			ok, serr := m.stands(c)
			if serr == nil && !ok {
				serr = changed("masquerade rule for %s is missing in %s", m.Subnet, m.chain())
			}
			err = errors.Join(err, serr)
		}
		return err
	})
}

// removeRules deletes the network's tables.
func (h *Host) removeRules(network string) error {
	err := h.withNFT(true, func(c *nft.Conn) error {
		var b nft.Batch
		for _, family := range []nft.Family{nft.IPv4, nft.IPv6} {
			t := table(family, network)
			has, err := c.Has(t)
			if err != nil {
				return err
			}
			if has {
				b.Delete(t)
			}
		}
		return c.Commit(&b)
	})
	// What is not there, or can't be, needs no removal.
	if errors.Is(err, ErrUnsupported) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// withNFT runs fn with a socket to nf_tables, if there is need of one.
func (h *Host) withNFT(need bool, fn func(*nft.Conn) error) error {
	if !need {
		return nil
	}
	c, err := h.nft()
	if err == nil {
		defer c.Close()
		err = fn(c)
	}
	if errors.Is(err, nft.ErrUnsupported) {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return err
}
