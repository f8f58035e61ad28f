package nft

import (
	"golang.org/x/sys/unix"

	"flatnet/internal/nl"
)

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

func (ch Chain) define(c *nl.Codec) {
	if ch.Type != "" {
		ch.pass(c)
	} else {
		ch.identify(c)
	}
}

// pass leaves the table's family out, which is in the header.
func (ch Chain) pass(c *nl.Codec) Chain {
	policy := Accept
	if ch.Drop {
		policy = Drop
	}
	ch.Table.Name = c.Text(unix.NFTA_CHAIN_TABLE, ch.Table.Name)
	ch.Name = c.Text(unix.NFTA_CHAIN_NAME, ch.Name)
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
