package nft

import "golang.org/x/sys/unix"

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
	Route  ChainType = "route"
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

func (ch Chain) path(c *codec) {
	c.text(unix.NFTA_CHAIN_TABLE, ch.Table.Name)
	c.text(unix.NFTA_CHAIN_NAME, ch.Name)
}

func (ch Chain) create() []request {
	return []request{{unix.NFT_MSG_NEWCHAIN, 0, ch.Table.Family, func(c *codec) {
		ch.path(c)
		if ch.Type == "" {
			return
		}
		c.text(unix.NFTA_CHAIN_TYPE, string(ch.Type))
		policy := Accept
		if ch.Drop {
			policy = Drop
		}
		number(c, unix.NFTA_CHAIN_POLICY, policy)
		c.nest(unix.NFTA_CHAIN_HOOK, func(n *codec) {
			number(n, unix.NFTA_HOOK_HOOKNUM, ch.Hook)
			number(n, unix.NFTA_HOOK_PRIORITY, ch.Priority)
		})
	}}}
}

func (ch Chain) remove() []request {
	return []request{{unix.NFT_MSG_DELCHAIN, 0, ch.Table.Family, ch.path}}
}

func (ch Chain) get() request {
	return request{unix.NFT_MSG_GETCHAIN, 0, ch.Table.Family, ch.path}
}

// flush takes the chain's rules away.
func (ch Chain) flush() request {
	return ch.rules(unix.NFT_MSG_DELRULE)
}
