package nft

import (
	"cmp"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"flatnet/internal/nl"
)

// A Family is an address family of nf_tables (NFPROTO_* of linux/netfilter.h).
type Family uint32

// The families.
const (
	Inet   Family = unix.NFPROTO_INET // IPv4 and IPv6
	IPv4   Family = unix.NFPROTO_IPV4
	Bridge Family = unix.NFPROTO_BRIDGE
	IPv6   Family = unix.NFPROTO_IPV6
)

// String is the family's name in nft's language.
func (f Family) String() string {
	names := map[Family]string{Inet: "inet", IPv4: "ip", Bridge: "bridge", IPv6: "ip6"}
	return cmp.Or(names[f], fmt.Sprintf("family %d", uint32(f)))
}

// option is the family's name in CONFIG_ options.
func (f Family) option() string {
	return cmp.Or(map[Family]string{IPv4: "IPV4", IPv6: "IPV6"}[f], strings.ToUpper(f.String()))
}

// A Table contains chains and sets.
type Table struct {
	Family Family
	Name   string
}

func (t Table) name() string   { return t.Family.String() + " " + t.Name }
func (t Table) String() string { return "table " + t.name() }

func (t Table) kind() (uint16, Family) { return unix.NFT_MSG_NEWTABLE, t.Family }
func (t Table) identify(c *nl.Codec)   { c.Text(unix.NFTA_TABLE_NAME, t.Name) }

func (t Table) define(c *nl.Codec) {
	t.identify(c)
	nl.Number(c, unix.NFTA_TABLE_FLAGS, uint32(0))
}

// A Hook is where packets enter a base chain (enum nf_inet_hooks; the numbers
// of the bridge family's NF_BR_* are the same).
type Hook uint32

// The hooks.
const (
	Prerouting  Hook = unix.NF_INET_PRE_ROUTING
	Input       Hook = unix.NF_INET_LOCAL_IN
	Forward     Hook = unix.NF_INET_FORWARD
	Output      Hook = unix.NF_INET_LOCAL_OUT
	Postrouting Hook = unix.NF_INET_POST_ROUTING
)

// A ChainType is the type of a base chain.
type ChainType string

// The types of base chains.
const (
	Filter ChainType = "filter"
	NAT    ChainType = "nat"
)

// A Chain is a list of rules. With a Type it is a base chain, which packets
// enter at a hook; without, rules jump to it.
type Chain struct {
	Table Table
	Name  string

	Type     ChainType
	Hook     Hook
	Priority int32 // lowest first; NF_IP_PRI_* of linux/netfilter_ipv4.h
	Drop     bool  // the policy: what reaches the end is dropped instead of accepted
}

func (ch Chain) String() string { return "chain " + ch.Table.name() + " " + ch.Name }

func (ch Chain) kind() (uint16, Family) { return unix.NFT_MSG_NEWCHAIN, ch.Table.Family }

func (ch Chain) identify(c *nl.Codec) {
	c.Text(unix.NFTA_CHAIN_TABLE, ch.Table.Name)
	c.Text(unix.NFTA_CHAIN_NAME, ch.Name)
}

func (ch Chain) define(c *nl.Codec) { ch.pass(c) }

// pass leaves the table's family out, which is in the header.
func (ch Chain) pass(c *nl.Codec) Chain {
	ch.Table.Name = c.Text(unix.NFTA_CHAIN_TABLE, ch.Table.Name)
	ch.Name = c.Text(unix.NFTA_CHAIN_NAME, ch.Name)
	if !c.Reading() && ch.Type == "" {
		return ch
	}
	policy := Accept
	if ch.Drop {
		policy = Drop
	}
	ch.Type = ChainType(c.Text(unix.NFTA_CHAIN_TYPE, string(ch.Type)))
	ch.Drop = nl.Number(c, unix.NFTA_CHAIN_POLICY, policy) == Drop
	c.Nest(unix.NFTA_CHAIN_HOOK, func(n *nl.Codec) {
		ch.Hook = nl.Number(n, unix.NFTA_HOOK_HOOKNUM, ch.Hook)
		ch.Priority = nl.Number(n, unix.NFTA_HOOK_PRIORITY, ch.Priority)
	})
	return ch
}

func readChain(family Family, c *nl.Codec) []Chain {
	return []Chain{Chain{Table: Table{Family: family}}.pass(c)}
}
