package bridge

import (
	"fmt"
	"net/netip"
	"strings"

	"flatnet/internal/nft"
	"flatnet/rtnl"
)

// Each bridge of flatnet is in one of two groups of interfaces (ip-link(8)), by
// which the rules of one network know the bridges of all others. So no network
// has a rule in another's table. They differ in the last bit.
const (
	groupIsolated = 10870
	groupOpen     = 10871
)

func groupOf(isolated bool) uint32 {
	if isolated {
		return groupIsolated
	}
	return groupOpen
}

// ensureGroup puts the interface that containers are behind into its group,
// unless somebody else has chosen another one.
func ensureGroup(c *rtnl.Conn, l rtnl.Link, group uint32) error {
	switch l.Group {
	case group:
		return nil
	case 0, groupIsolated, groupOpen:
	default:
		return fmt.Errorf("interface %s is in the group %d and must be in %d: %w", l.Name, l.Group, group, ErrConflict)
	}
	if l.Index == 0 {
		return nil // a network without a gateway
	}
	if err := c.SetLink(rtnl.LinkChange{Index: l.Index, Group: group}); err != nil {
		return fmt.Errorf("put %s into the group %d: %w", l.Name, group, err)
	}
	return nil
}

// A Firewall is what one subnet of a network has in nf_tables, in the network's
// own table. All that distinguishes it shows in its postrouting chain.
type Firewall struct {
	Network  string
	Bridge   string // or the interface that leads into its VLAN
	Subnet   netip.Prefix
	Gateway  netip.Addr     // invalid: none
	Flat     []netip.Prefix // destinations never masqueraded
	IPMasq   bool
	Internal bool
	Isolated bool
	// ForwardAccept inserts an accept rule into foreign chains that block the network.
	ForwardAccept bool `json:",omitempty"`
	ServesDNS     bool `json:",omitempty"` // at the gateway
}

// Priorities of linux/netfilter_ipv4.h.
const (
	beforeNAT = -150 // NF_IP_PRI_MANGLE: destinations are still as they were sent
	dstNAT    = -100 // NF_IP_PRI_NAT_DST
	filter    = 0    // NF_IP_PRI_FILTER
	srcNAT    = 100  // NF_IP_PRI_NAT_SRC
)

// A chain is a base chain with all of its rules.
type chain struct {
	nft.Chain
	rules []nft.Rule
}

func familyOf(a netip.Addr) nft.Family {
	if a.Is4() {
		return nft.IPv4
	}
	return nft.IPv6
}

func (f Firewall) table() nft.Table { return table(familyOf(f.Subnet.Addr()), f.Network) }

// base makes a base chain for a purpose. nft takes no colon in a name.
func (f Firewall) base(purpose string, typ nft.ChainType, hook nft.Hook, priority int32, rules ...[]nft.Expr) chain {
	ch := chain{Chain: nft.Chain{
		Table: f.table(), Name: purpose + "-" + strings.ReplaceAll(f.Subnet.String(), ":", "_"),
		Type: typ, Hook: hook, Priority: priority,
	}}
	for _, exprs := range rules {
		ch.rules = append(ch.rules, nft.Rule{
			Table: ch.Table, Chain: ch.Name, Exprs: exprs, Comment: f.comment(),
		})
	}
	return ch
}

// chains are all of them; that of forward has rules only in an internal network.
func (f Firewall) chains() []chain { return []chain{f.postrouting(), f.prerouting(), f.forward()} }

// postrouting masquerades. For the default network,
//
//	oifname "flatnet-br0" iifgroup 10870/31 masquerade
//	ip saddr 10.87.1.0/24 ip daddr != 10.87.1.0/24 ip daddr != 10.87.0.0/16
//	ip daddr != 224.0.0.0/4 ip daddr != 169.254.0.0/16 masquerade
//
// The first rule is for what a container sends to a published port: its answer
// must come back here instead of going to the container directly, or against
// the isolation. What bridges merely forward has no input interface here, even
// with br_netfilter.
func (f Firewall) postrouting() chain {
	toBridge := ifName(nft.MetaOifName, nft.Equal, f.Bridge)
	var rules [][]nft.Expr
	if f.Isolated {
		rules = append(rules, masquerade(toBridge, anyGroup(nft.MetaIifGroup)))
	} else {
		rules = append(rules,
			masquerade(toBridge, oneGroup(nft.MetaIifGroup, groupIsolated)),
			masquerade(toBridge, ifName(nft.MetaIifName, nft.Equal, f.Bridge)))
	}
	switch {
	case f.Internal: // no route back to anything outside, not even to other addresses of the host
		rules = append(rules, masquerade(toBridge, match(source, f.Subnet, nft.NotEqual)))
	case f.IPMasq:
		rules = append(rules, masquerade(f.outward()))
	}
	return f.base("masquerade", nft.NAT, nft.Postrouting, srcNAT, rules...)
}

// outward matches what is to have the host's address.
func (f Firewall) outward() []nft.Expr {
	exprs := match(source, f.Subnet, nft.Equal)
	exprs = append(exprs, match(destination, f.Subnet, nft.NotEqual)...)
	for _, p := range append(f.Flat[:len(f.Flat):len(f.Flat)], local(f.Subnet.Addr().Is4())...) {
		exprs = append(exprs, match(destination, p, nft.NotEqual)...)
	}
	return exprs
}

// local are multicast and link-local destinations, which are never masqueraded
// (RFC 1112, RFC 3927, RFC 4291).
func local(is4 bool) []netip.Prefix {
	if is4 {
		return []netip.Prefix{netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("169.254.0.0/16")}
	}
	return []netip.Prefix{netip.MustParsePrefix("ff00::/8"), netip.MustParsePrefix("fe80::/10")}
}

// prerouting drops, before published ports are translated, what goes to the
// subnet's own addresses from another network, but for the gateway, which is
// the host itself. For the default network,
//
//	iifgroup 10870/31 iifname != "flatnet-br0" ip daddr 10.87.1.0/24 ip daddr != 10.87.1.1 drop
//
// And since published ports need route_localnet on the bridge, it takes care
// that no container gets at the host's 127.0.0.0/8 by it.
func (f Firewall) prerouting() chain {
	var rules [][]nft.Expr
	if f.Subnet.Addr().Is4() {
		fromBridge := ifName(nft.MetaIifName, nft.Equal, f.Bridge)
		rules = append(rules,
			drop(fromBridge, match(destination, loopback4, nft.Equal)),
			drop(fromBridge, match(source, loopback4, nft.Equal)))
	}
	from := oneGroup(nft.MetaIifGroup, groupIsolated)
	if f.Isolated {
		from = anyGroup(nft.MetaIifGroup)
	}
	to := match(destination, f.Subnet, nft.Equal)
	if f.Gateway.IsValid() {
		to = append(to, match(destination, netip.PrefixFrom(f.Gateway, f.Gateway.BitLen()), nft.NotEqual)...)
	}
	rules = append(rules, drop(from, ifName(nft.MetaIifName, nft.NotEqual, f.Bridge), to))
	return f.base("isolation", nft.Filter, nft.Prerouting, beforeNAT, rules...)
}

// forward keeps an internal network to itself and the host; another network has
// no rules there.
func (f Firewall) forward() chain {
	var rules [][]nft.Expr
	if f.Internal {
		rules = [][]nft.Expr{
			drop(ifName(nft.MetaIifName, nft.Equal, f.Bridge), ifName(nft.MetaOifName, nft.NotEqual, f.Bridge)),
			drop(ifName(nft.MetaIifName, nft.NotEqual, f.Bridge), ifName(nft.MetaOifName, nft.Equal, f.Bridge)),
		}
	}
	return f.base("internal", nft.Filter, nft.Forward, filter, rules...)
}
