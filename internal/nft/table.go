package nft

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A Family is an address family of nf_tables (NFPROTO_* of linux/netfilter.h).
type Family uint8

// The families.
const (
	Inet   Family = unix.NFPROTO_INET // IPv4 and IPv6
	IPv4   Family = unix.NFPROTO_IPV4
	Bridge Family = unix.NFPROTO_BRIDGE
	IPv6   Family = unix.NFPROTO_IPV6
)

// String is the family's name in nft's language.
func (f Family) String() string {
	switch f {
	case Inet:
		return "inet"
	case IPv4:
		return "ip"
	case Bridge:
		return "bridge"
	case IPv6:
		return "ip6"
	}
	return fmt.Sprintf("family %d", uint8(f))
}

// A Table holds chains and sets.
type Table struct {
	Family Family
	Name   string
}

func (t Table) name() string   { return t.Family.String() + " " + t.Name }
func (t Table) String() string { return "table " + t.name() }

func (t Table) create() []request {
	return []request{{unix.NFT_MSG_NEWTABLE, 0, t.Family, func(c *codec) {
		c.text(unix.NFTA_TABLE_NAME, t.Name)
		number(c, unix.NFTA_TABLE_FLAGS, uint32(0))
	}}}
}

func (t Table) named(msg uint16) request {
	return request{msg, 0, t.Family, func(c *codec) { c.text(unix.NFTA_TABLE_NAME, t.Name) }}
}

func (t Table) remove() []request { return []request{t.named(unix.NFT_MSG_DELTABLE)} }
func (t Table) get() request      { return t.named(unix.NFT_MSG_GETTABLE) }

// flush takes the rules of all chains away.
func (t Table) flush() request {
	return request{unix.NFT_MSG_DELRULE, 0, t.Family, func(c *codec) { c.text(unix.NFTA_RULE_TABLE, t.Name) }}
}
