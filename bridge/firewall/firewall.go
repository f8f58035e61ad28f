// Package firewall makes the rules of one network, in tables of its own (see
// [host.Table]): masquerading, isolation from other networks, and what keeps an
// internal network to itself.
package firewall

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/bridge/mss"
	"flatnet/internal/nft"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// Priorities of linux/netfilter_ipv4.h.
const (
	beforeNAT = -150 // NF_IP_PRI_MANGLE: destinations are still as they were sent
	dnsNAT    = -99  // between the ports of one address and those of all, see package ports
	filter    = 0    // NF_IP_PRI_FILTER
	srcNAT    = 100  // NF_IP_PRI_NAT_SRC
)

// isolating begins the names of chains that each subnet has.
const isolating = "isolation"

// rules are a network's, as they are derived from what its attachments share.
type rules struct {
	*model.Shared
	iface  string // that containers are behind: the bridge, or what leads into the VLAN
	served map[nft.Family]bool
}

// chains returns all chains of the network, which may be without rules. have are its
// rules as they are: by both it is known in which families the network has subnets.
func chains(s *model.Shared, have []nft.Rule) (all []nft.Ruleset) {
	r := rules{s, s.GatewayName(), map[nft.Family]bool{}}
	add := func(family nft.Family, place string, ch nft.Chain, rules [][]nft.Expr) {
		ch.Table = host.Table(family, r.Name)
		ch.Name += "-" + strings.Map(readable, place)
		set := nft.Ruleset{Chain: ch}
		set.Append(r.comment(), rules...)
		all = append(all, set)
	}
	for _, sub := range s.Served {
		family, place := nft.FamilyOf(sub.Addr()), sub.Prefix.String()
		r.served[family] = true
		if sub.Gateway.IsValid() {
			dns := gatewayDNS(sub.Gateway, r.DNSPort)
			add(family, place, nft.Chain{Name: "dns-prerouting", Type: nft.NAT, Hook: nft.Prerouting, Priority: dnsNAT}, dns)
			add(family, place, nft.Chain{Name: "dns-output", Type: nft.NAT, Hook: nft.Output, Priority: dnsNAT}, dns)
		}
		masquerade := nft.Chain{Name: "masquerade", Type: nft.NAT, Hook: nft.Postrouting, Priority: srcNAT}
		isolation := nft.Chain{Name: isolating, Type: nft.Filter, Hook: nft.Prerouting, Priority: beforeNAT}
		add(family, place, masquerade, r.postrouting(sub))
		add(family, place, isolation, r.prerouting(sub))
	}
	for _, rule := range have {
		if strings.HasPrefix(rule.Chain, isolating+"-") {
			r.served[rule.Table.Family] = true
		}
	}
	if len(r.served) == 0 { // leased by another plugin, in any family
		r.served = map[nft.Family]bool{nft.IPv4: true, nft.IPv6: true}
	}
	forward := nft.Chain{Name: "forward", Type: nft.Filter, Hook: nft.Forward, Priority: filter}
	add(nft.IPv4, r.iface, forward, r.forward(nft.IPv4))
	add(nft.IPv6, r.iface, forward, r.forward(nft.IPv6))
	var fitting [][]nft.Expr
	if r.Spans && !r.Internal {
		fitting = mss.Rules(r.iface)
	}
	add(nft.IPv4, r.iface, mss.Chain(), fitting)
	add(nft.IPv6, r.iface, mss.Chain(), fitting)
	return all
}

// readable returns a character that nft can read in the name of a chain.
func readable(c rune) rune {
	if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.ContainsRune("_.-/", c) {
		return c
	}
	return '_'
}

// comment is that of the network's own rules. It names what the rules themselves
// don't show, so that a change is seen.
func (r rules) comment() string {
	comment := "flatnet network " + r.Name
	if r.ForwardAccept {
		comment += ", forwardAccept"
	}
	if r.ForwardAccept && r.ServesDNS && r.IsGateway {
		comment += ", dns"
	}
	return comment
}

// others matches, by the group of an interface, the bridges of the networks that are
// to be kept apart from this one: all, or else those that are isolated.
func (r rules) others(key nft.MetaKey) []nft.Expr {
	if r.Isolated {
		return host.Bridges(key, nft.Equal)
	}
	return nft.Compare(nft.Meta(key, nft.Reg1), nft.Equal, nft.HostOrder(model.GroupIsolated))
}

func (r rules) from(op nft.CmpOp) []nft.Expr { return nft.CompareName(nft.MetaIifName, op, r.iface) }
func (r rules) to(op nft.CmpOp) []nft.Expr   { return nft.CompareName(nft.MetaOifName, op, r.iface) }

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
func (r rules) postrouting(sub model.Subnet) [][]nft.Expr {
	toBridge, fromBridge := r.to(nft.Equal), r.from(nft.Equal)
	fromOthers := r.others(nft.MetaIifGroup)
	if r.Isolated {
		fromOthers = append(fromOthers, r.from(nft.NotEqual)...)
	}
	inside := slices.Concat(nft.Source.In(sub.Prefix, nft.Equal), nft.Destination.In(sub.Prefix, nft.Equal))
	if r.PortIsolated { // an answer from another subnet would not pass, either
		inside = nil
	}
	rules := [][]nft.Expr{nft.MasqueradeIf(toBridge, fromOthers), nft.MasqueradeIf(toBridge, fromBridge, inside)}
	switch {
	case r.Internal: // no route back to anything outside, not even to other addresses of the host
		rules = append(rules, nft.AcceptIf(toBridge, fromBridge),
			nft.MasqueradeIf(toBridge, nft.Source.In(sub.Prefix, nft.NotEqual)))
	case r.IPMasq:
		rules = append(rules, r.outward(sub)...)
	}
	return rules
}

// maxExprs is less than a rule may have (NFT_RULE_MAXEXPRS of linux/netfilter/nf_tables.h).
const maxExprs = 100

// outward masquerades what is to have the host's address. What goes back to the bridge is for
// another subnet of the network. Destinations that one rule has no room for are accepted, each
// by a rule of its own before it:
//
//	ip saddr 10.87.1.0/24 oifname != "flatnet-br0" ip daddr 10.99.2.0/24 accept
func (r rules) outward(sub model.Subnet) (rules [][]nft.Expr) {
	from := slices.Clip(append(nft.Source.In(sub.Prefix, nft.Equal), r.to(nft.NotEqual)...))
	exprs := from
	for _, p := range slices.Concat([]netip.Prefix{sub.Prefix}, r.Flat, local) {
		switch {
		case p.Addr().Is4() != sub.Addr().Is4():
		case len(exprs) < maxExprs:
			exprs = append(exprs, nft.Destination.In(p, nft.NotEqual)...)
		default:
			rules = append(rules, nft.AcceptIf(from, nft.Destination.In(p, nft.Equal)))
		}
	}
	return append(rules, nft.MasqueradeIf(exprs))
}

// local are multicast and link-local destinations and limited broadcast, which
// are never masqueraded (RFC 1112, RFC 3927, RFC 919, RFC 4291).
var local = []netip.Prefix{
	netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("ff00::/8"), netip.MustParsePrefix("fe80::/10"),
}

// loopback4 is RFC 1122's.
var loopback4 = netip.MustParsePrefix("127.0.0.0/8")

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
func (r rules) prerouting(sub model.Subnet) (rules [][]nft.Expr) {
	fromBridge, is4 := r.from(nft.Equal), sub.Addr().Is4()
	if is4 {
		rules = append(rules,
			nft.DropIf(fromBridge, nft.Destination.In(loopback4, nft.Equal)),
			nft.DropIf(fromBridge, nft.Source.In(loopback4, nft.Equal)))
	}
	to := nft.Destination.In(sub.Prefix, nft.Equal)
	if sub.Gateway.IsValid() {
		to = append(to, nft.Destination.Is(sub.Gateway, nft.NotEqual)...)
	}
	rules = append(rules, nft.DropIf(r.others(nft.MetaIifGroup), r.from(nft.NotEqual), to))
	if r.PortIsolated {
		if is4 {
			to = append(to, nft.Destination.Is(model.LastOf(sub.Prefix), nft.NotEqual)...)
		}
		rules = append(rules, nft.DropIf(fromBridge, to))
	}
	return rules
}

// gatewayDNS keeps queries to port 53 of the gateway from being translated to a
// port that a container has published on all addresses: they are for the network's
// own DNS server, or for none. Translating them to where they go is what makes
// the kernel look no further. For the default network, before and in output,
//
//	ip daddr 10.87.1.1 udp dport 53 dnat to 10.87.1.1
//	ip daddr 10.87.1.1 tcp dport 53 dnat to 10.87.1.1
//
// A server that listens on another port gets them there.
func gatewayDNS(gateway netip.Addr, port uint16) (rules [][]nft.Expr) {
	toItself := []nft.Expr{nft.Immediate(nft.Reg1, gateway.AsSlice()), nft.Translate(nft.FamilyOf(gateway), nft.Reg1, 0)}
	if port != 0 {
		toItself = []nft.Expr{nft.Immediate(nft.Reg1, gateway.AsSlice()), nft.Immediate(nft.Reg2, nft.BigEndian(port)),
			nft.Translate(nft.FamilyOf(gateway), nft.Reg1, nft.Reg2)}
	}
	for _, protocol := range nft.DNSProtocols() {
		rules = append(rules, slices.Concat(
			nft.Destination.Is(gateway, nft.Equal), nft.ToPort(protocol, nft.DNS), toItself))
	}
	return rules
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
func (r rules) forward(family nft.Family) (rules [][]nft.Expr) {
	from, notFrom, to, notTo := r.from(nft.Equal), r.from(nft.NotEqual), r.to(nft.Equal), r.to(nft.NotEqual)
	if r.Internal {
		rules = append(rules, nft.DropIf(from, notTo), nft.DropIf(notFrom, to))
	}
	if !r.served[family] {
		rules = append(rules, nft.DropIf(r.others(nft.MetaIifGroup), notFrom, to),
			nft.DropIf(from, r.others(nft.MetaOifGroup), notTo))
	}
	if !r.served[family] && r.PortIsolated {
		rules = append(rules, nft.DropIf(from, to))
	}
	if r.PublishedOnly {
		rules = append(rules,
			nft.AcceptIf(notFrom, to, nft.CtBits(nft.CtState, nft.CtEstablished|nft.CtRelated)),
			nft.AcceptIf(notFrom, to, nft.CtBits(nft.CtStatus, nft.CtDNAT)),
			nft.DropIf(notFrom, to))
	}
	return rules
}

// Missing returns the chains that are not as they should be, by what the network has in
// its tables. ipv6 is whether the kernel has IPv6: else there is nothing to keep apart.
func missing(c *nft.Conn, s *model.Shared, ipv6 bool) ([]nft.Ruleset, error) {
	var have []nft.Rule
	for _, family := range []nft.Family{nft.IPv4, nft.IPv6} {
		rules, err := c.Rules(host.Table(family, s.Name), "")
		if err != nil {
			return nil, err
		}
		have = append(have, rules...)
	}
	return slices.DeleteFunc(nft.Missing(chains(s, have), have), func(r nft.Ruleset) bool {
		return r.Table.Family == nft.IPv6 && !ipv6
	}), nil
}

// Put adds to tx the network's chains that are not as they should be. As a rule all
// are. The chain that only keeps bridges without addresses apart in IPv6 is left out
// where it is refused.
func Put(tx *host.Tx, s *model.Shared, ipv6 bool) error {
	chains, err := missing(tx.Conn, s, ipv6)
	for _, ch := range chains {
		optional := ch.Table.Family == nft.IPv6 && ch.Hook == nft.Forward && !s.Internal && !s.PublishedOnly
		tx.Optional = tx.Optional || optional
		if !(optional && tx.NoOptional) {
			tx.Put(ch)
		}
	}
	return err
}

// edition is the digest of the rules that this version makes of some networks: see
// TestEdition.
const edition = "7e9a1cc9"

// PutUnseen is Put of what an earlier ADD has not seen to be complete, and nobody has
// changed since (see [host.Tx.Stands]). record has all that the rules are derived from. A
// kernel without IPv6 may have it later, so what is seen without is not noted.
func PutUnseen(tx *host.Tx, h *host.Host, s *model.Shared, record string) error {
	text := edition + record
	tables := []nft.Table{host.Table(nft.IPv4, s.Name), host.Table(nft.IPv6, s.Name)}
	if record != "" && tx.Stands(tables[0], text) && tx.Stands(tables[1], text) {
		return nil
	}
	ipv6 := HasIPv6(h)
	err := Put(tx, s, ipv6)
	if record != "" && ipv6 {
		tx.Seen(tables[0], text)
		tx.Seen(tables[1], text)
	}
	return err
}

// HasIPv6 reports whether the kernel has IPv6.
func HasIPv6(h *host.Host) bool {
	_, err := h.Forwards(unix.AF_INET6, rtnl.AllInterfaces)
	return !errors.Is(err, unix.EOPNOTSUPP)
}

// Required reports whether the network can't do without nf_tables: else only its
// isolation from others is missing where the kernel has none.
func Required(s *model.Shared) bool { return s.IPMasq || s.Internal || s.PublishedOnly }

// Faults lists the chains that are not as they should be.
func Faults(c *nft.Conn, s *model.Shared, ipv6 bool) ([]model.Fault, error) {
	chains, err := missing(c, s, ipv6)
	return host.ChainFaults(chains), err
}

// Tables are all that a network may have, also of other parts.
func Tables(network string) (tables []nft.Table) {
	for _, family := range []nft.Family{nft.IPv4, nft.IPv6, nft.Bridge, nft.Netdev} {
		tables = append(tables, host.Table(family, network))
	}
	return tables
}

// Remove adds to tx the removal of the network's tables, with everything that depends
// on them.
func Remove(tx *host.Tx, network string) error {
	there, err := nft.Existing(tx.Conn, Tables(network)...)
	for _, t := range there {
		tx.Delete(t)
	}
	return err
}
