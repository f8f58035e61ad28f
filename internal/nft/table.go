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
	return strings.NewReplacer("IP6", "IPV6", "IP", "IPV4").Replace(strings.ToUpper(f.String()))
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
