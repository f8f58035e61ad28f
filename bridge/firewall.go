package bridge

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"flatnet/internal/nft"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
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
	if err := checkGroup(l, group); err != nil || l.Group == group || l.Index == 0 { // a network without a gateway
		return err
	}
	if err := c.SetLink(rtnl.LinkChange{Index: l.Index, Group: group}); err != nil {
		return fmt.Errorf("put %s into the group %d: %w", l.Name, group, err)
	}
	return nil
}

func checkGroup(l rtnl.Link, group uint32) error {
	switch l.Group {
	case group, 0, groupIsolated, groupOpen:
		return nil
	}
	return fmt.Errorf("interface %s is in the group %d and must be in %d: %w", l.Name, l.Group, group, ErrConflict)
}

// A Firewall is what one subnet of a network has in nf_tables, in the network's
// own table. One without a Subnet is what the network's bridge has there, in both
// families, whatever addresses the containers have or give themselves.
type Firewall struct {
	Network  string
	Bridge   string // or the interface that leads into its VLAN
	Subnet   netip.Prefix
	Gateway  netip.Addr     // invalid: none
	Flat     []netip.Prefix // destinations never masqueraded
	IPMasq   bool
	Internal bool
	Isolated bool
	// PortIsolated keeps the network's containers from reaching each other
	// through the host.
	PortIsolated bool `json:",omitempty"`
	// PublishedOnly drops what others send to the containers, except to published ports.
	PublishedOnly bool `json:",omitempty"`
	// ForwardAccept inserts an accept rule into foreign chains that block the network.
	ForwardAccept bool `json:",omitempty"`
	ServesDNS     bool `json:",omitempty"` // at the gateway
}

// Priorities of linux/netfilter_ipv4.h.
const (
	beforeNAT  = -150 // NF_IP_PRI_MANGLE: destinations are still as they were sent
	dstNAT     = -100 // NF_IP_PRI_NAT_DST: where other people's rules are, too
	dstNATOwn  = -99
	dstNATLast = -98
	filter     = 0   // NF_IP_PRI_FILTER
	srcNAT     = 100 // NF_IP_PRI_NAT_SRC
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

func (f Firewall) table(family nft.Family) nft.Table { return table(family, f.Network) }

// place is the subnet, or the bridge of a firewall without one.
func (f Firewall) place() string {
	if f.Subnet.IsValid() {
		return f.Subnet.String()
	}
	return f.Bridge
}

func (f Firewall) samePlace(o Firewall) bool { return f.place() == o.place() }

// set gives the firewall the network's settings, which another one has.
func (f Firewall) set(o Firewall) Firewall {
	o.Subnet, o.Gateway = f.Subnet, f.Gateway
	return o
}

// changed lists the keys of the configuration in which two firewalls differ.
func (f Firewall) changed(o Firewall) (keys []string) {
	for _, c := range []struct {
		key  string
		same bool
	}{
		{"bridge", f.Bridge == o.Bridge}, {"gateway", f.Gateway == o.Gateway},
		{"ipMasq", f.IPMasq == o.IPMasq}, {"noMasq", slices.Equal(f.Flat, o.Flat)},
		{"internal", f.Internal == o.Internal}, {"isolation", f.Isolated == o.Isolated},
		{"portIsolation", f.PortIsolated == o.PortIsolated}, {"inbound", f.PublishedOnly == o.PublishedOnly},
		{"forwardAccept", f.ForwardAccept == o.ForwardAccept}, {"dnsEnabled", f.ServesDNS == o.ServesDNS},
	} {
		if !c.same {
			keys = append(keys, c.key)
		}
	}
	return keys
}

// hasRules says whether there are rules of the firewall, such as they are.
func (f Firewall) hasRules(have []nft.Rule) bool {
	return slices.ContainsFunc(f.chains(nil, have), func(ch chain) bool {
		return slices.ContainsFunc(have, func(r nft.Rule) bool { return r.Table == ch.Table && r.Chain == ch.Name })
	})
}

// base makes a base chain for a purpose, under a name that nft can read.
func (f Firewall) base(family nft.Family, purpose string, typ nft.ChainType, hook nft.Hook, priority int32) chain {
	name := strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.ContainsRune("_.-/", c) {
			return c
		}
		return '_'
	}, f.place())
	return chain{Chain: nft.Chain{Table: f.table(family), Name: purpose + "-" + name, Type: typ, Hook: hook, Priority: priority}}
}

// with returns the chain with further rules of the firewall.
func (f Firewall) with(ch chain, rules ...[]nft.Expr) chain {
	for _, exprs := range rules {
		ch.rules = append(ch.rules, nft.Rule{Table: ch.Table, Chain: ch.Name, Exprs: exprs, Comment: f.comment()})
	}
	return ch
}

// Purposes of chains, with which their names begin.
const (
	masquerading = "masquerade"
	isolating    = "isolation"
	forwarding   = "forward"
)

// chains are all of the firewall's, which may be without rules. all are the
// network's firewalls that have it beside them, and have its rules as they are:
// by both it is known in which families the network has subnets.
func (f Firewall) chains(all []Firewall, have []nft.Rule) []chain {
	if f.Subnet.IsValid() {
		return append(f.gatewayDNS(), f.postrouting(), f.prerouting())
	}
	served := map[nft.Family]bool{}
	for _, o := range all {
		if o.Network == f.Network && o.Subnet.IsValid() {
			served[familyOf(o.Subnet.Addr())] = true
		}
	}
	for _, r := range have {
		if r.Table == f.table(r.Table.Family) && strings.HasPrefix(r.Chain, isolating+"-") {
			served[r.Table.Family] = true
		}
	}
	unknown := len(served) == 0
	return []chain{f.forward(nft.IPv4, unknown || served[nft.IPv4]), f.forward(nft.IPv6, unknown || served[nft.IPv6])}
}

// postrouting masquerades. For the default network,
//
//	oifname "flatnet-br0" iifgroup 10870/31 iifname != "flatnet-br0" masquerade
//	oifname "flatnet-br0" iifname "flatnet-br0" ip saddr 10.87.1.0/24 ip daddr 10.87.1.0/24 masquerade
//	ip saddr 10.87.1.0/24 oifname != "flatnet-br0" ip daddr != 10.87.1.0/24 ip daddr != 10.87.0.0/16
//	ip daddr != 224.0.0.0/4 ip daddr != 169.254.0.0/16 ip daddr != 255.255.255.255 masquerade
//
// The first two are for what a container sends to a published port: its answer
// must come back here instead of going to the container directly, or against
// the isolation. What bridges merely forward has no input interface here, even
// with br_netfilter.
func (f Firewall) postrouting() chain {
	toBridge, fromBridge := ifName(nft.MetaOifName, nft.Equal, f.Bridge), ifName(nft.MetaIifName, nft.Equal, f.Bridge)
	fromOthers := oneGroup(nft.MetaIifGroup, groupIsolated)
	if f.Isolated {
		fromOthers = slices.Concat(anyGroup(nft.MetaIifGroup), ifName(nft.MetaIifName, nft.NotEqual, f.Bridge))
	}
	inside := slices.Concat(match(source, f.Subnet, nft.Equal), match(destination, f.Subnet, nft.Equal))
	if f.PortIsolated { // an answer from another subnet would not pass, either
		inside = nil
	}
	rules := [][]nft.Expr{masquerade(toBridge, fromOthers), masquerade(toBridge, fromBridge, inside)}
	switch {
	case f.Internal: // no route back to anything outside, not even to other addresses of the host
		rules = append(rules, accept(toBridge, fromBridge), masquerade(toBridge, match(source, f.Subnet, nft.NotEqual)))
	case f.IPMasq:
		rules = append(rules, masquerade(f.outward()))
	}
	return f.with(f.base(familyOf(f.Subnet.Addr()), masquerading, nft.NAT, nft.Postrouting, srcNAT), rules...)
}

// outward matches what is to have the host's address. What goes back to the
// bridge is for another subnet of the network.
func (f Firewall) outward() []nft.Expr {
	exprs := match(source, f.Subnet, nft.Equal)
	exprs = append(exprs, ifName(nft.MetaOifName, nft.NotEqual, f.Bridge)...)
	exprs = append(exprs, match(destination, f.Subnet, nft.NotEqual)...)
	is4 := f.Subnet.Addr().Is4()
	for _, p := range slices.Concat(f.Flat, local(is4)) {
		if p.Addr().Is4() == is4 {
			exprs = append(exprs, match(destination, p, nft.NotEqual)...)
		}
	}
	return exprs
}

// local are multicast and link-local destinations and limited broadcast, which
// are never masqueraded (RFC 1112, RFC 3927, RFC 4291, RFC 919).
func local(is4 bool) []netip.Prefix {
	if is4 {
		return []netip.Prefix{
			netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("169.254.0.0/16"),
			netip.MustParsePrefix("255.255.255.255/32"),
		}
	}
	return []netip.Prefix{netip.MustParsePrefix("ff00::/8"), netip.MustParsePrefix("fe80::/10")}
}

// prerouting drops, before published ports are translated, what goes to the
// subnet's own addresses from another network, but for the gateway, which is
// the host itself. For the default network,
//
//	iifgroup 10870/31 iifname != "flatnet-br0" ip daddr 10.87.1.0/24 ip daddr != 10.87.1.1 drop
//
// With portIsolation it also drops what comes from the bridge itself and takes
// the way through the host, except to the subnet's broadcast address.
//
// And since published ports need route_localnet on the bridge, it takes care
// that no container gets at the host's 127.0.0.0/8 by it.
func (f Firewall) prerouting() chain {
	fromBridge := ifName(nft.MetaIifName, nft.Equal, f.Bridge)
	var rules [][]nft.Expr
	if f.Subnet.Addr().Is4() {
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
	if f.PortIsolated {
		if f.Subnet.Addr().Is4() {
			to = append(to, match(destination, netip.PrefixFrom(lastOf(f.Subnet), 32), nft.NotEqual)...)
		}
		rules = append(rules, drop(fromBridge, to))
	}
	return f.with(f.base(familyOf(f.Subnet.Addr()), isolating, nft.Filter, nft.Prerouting, beforeNAT), rules...)
}

// gatewayDNS keeps queries to port 53 of the gateway from being translated to a
// port that a container has published on all addresses: they are for the network's
// own DNS server, or for nobody. Translating them to where they go is what makes
// the kernel look no further. For the default network, before and in output,
//
//	ip daddr 10.87.1.1 udp dport 53 dnat to 10.87.1.1
//	ip daddr 10.87.1.1 tcp dport 53 dnat to 10.87.1.1
func (f Firewall) gatewayDNS() (chains []chain) {
	if !f.Gateway.IsValid() {
		return nil
	}
	family := familyOf(f.Gateway)
	var rules [][]nft.Expr
	for _, protocol := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		rules = append(rules, slices.Concat(
			match(destination, netip.PrefixFrom(f.Gateway, f.Gateway.BitLen()), nft.Equal), toDNS(protocol),
			[]nft.Expr{nft.Immediate{Dst: nft.Reg1, Data: f.Gateway.AsSlice()}, nft.Translate{Family: family, Addr: nft.Reg1}}))
	}
	for _, hook := range []struct {
		name string
		hook nft.Hook
	}{{"dns-prerouting", nft.Prerouting}, {"dns-output", nft.Output}} {
		chains = append(chains, f.with(f.base(family, hook.name, nft.NAT, hook.hook, dstNATOwn), rules...))
	}
	return chains
}

// lastOf is the last address of an IPv4 subnet.
func lastOf(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	n := binary.BigEndian.Uint32(a[:]) | uint32(1<<(32-p.Bits())-1)
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
}

// forward keeps an internal network to itself and the host, whatever addresses
// its containers use. In a family in which the network has no subnet it keeps
// the bridge apart from the other networks', as prerouting does with subnets:
//
//	iifgroup 10870/31 iifname != "flatnet-br0" oifname "flatnet-br0" drop
//	iifname "flatnet-br0" oifgroup 10870/31 oifname != "flatnet-br0" drop
//
// And where only published ports may be reached,
//
//	iifname != "flatnet-br0" oifname "flatnet-br0" ct state established,related accept
//	iifname != "flatnet-br0" oifname "flatnet-br0" ct status dnat accept
//	iifname != "flatnet-br0" oifname "flatnet-br0" drop
func (f Firewall) forward(family nft.Family, served bool) chain {
	from, notFrom := ifName(nft.MetaIifName, nft.Equal, f.Bridge), ifName(nft.MetaIifName, nft.NotEqual, f.Bridge)
	to, notTo := ifName(nft.MetaOifName, nft.Equal, f.Bridge), ifName(nft.MetaOifName, nft.NotEqual, f.Bridge)
	var rules [][]nft.Expr
	if f.Internal {
		rules = append(rules, drop(from, notTo), drop(notFrom, to))
	}
	if !served {
		others := func(key nft.MetaKey) []nft.Expr { return oneGroup(key, groupIsolated) }
		if f.Isolated {
			others = anyGroup
		}
		rules = append(rules, drop(others(nft.MetaIifGroup), notFrom, to), drop(from, others(nft.MetaOifGroup), notTo))
	}
	if !served && f.PortIsolated {
		rules = append(rules, drop(from, to))
	}
	if f.PublishedOnly {
		rules = append(rules,
			accept(notFrom, to, ctBits(nft.CtState, ctEstablished|ctRelated)),
			accept(notFrom, to, ctBits(nft.CtStatus, ctDNAT)),
			drop(notFrom, to))
	}
	return f.with(f.base(family, forwarding, nft.Filter, nft.Forward, filter), rules...)
}
