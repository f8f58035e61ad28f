package model

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
)

// An Owner is what a link of the host says of the attachment that it belongs to.
type Owner struct {
	Link      string // the link's name
	Key       Key    // zero unless the alias says it
	Mark      HardwareAddr
	Addresses []netip.Addr
}

// AliasWord begins the alias of each host end and bridge, so that people see
// whose it is.
const AliasWord = "flatnet"

// noAddress stands in an alias for no addresses at all.
const noAddress = "-"

// Alias spells out an owner and its addresses for IFLA_IFALIAS.
func (o Owner) Alias() string {
	addrs := cmp.Or(JoinAddrs(o.Addresses), noAddress)
	return fmt.Sprintf("%s %s %s", AliasWord, o.Key, addrs)
}

// maxAlias is the longest alias that the kernel takes (IFALIASZ of linux/if.h).
const maxAlias = 255

// checkAlias reports an owner with so many addresses that the alias can't hold it all.
func (o Owner) checkAlias() error {
	if n := len(o.Alias()); n > maxAlias {
		return Errorf(ErrInvalid, "%s with %d addresses needs an interface alias of %d bytes, and Linux takes %d; "+
			"choose a shorter network name or fewer addresses", o.Key, len(o.Addresses), n, maxAlias)
	}
	return nil
}

// ParseOwner reads what a link's MAC and alias say. The key stays zero if the
// alias is not flatnet's, or is of another owner than the mark.
func ParseOwner(link string, mark HardwareAddr, alias string) Owner {
	o := Owner{Link: link, Mark: mark}
	word, rest, _ := strings.Cut(alias, " ")
	owner, addrs, _ := strings.Cut(rest, " ")
	key, ok := ParseKey(owner)
	if word != AliasWord || !ok || key.Mark() != mark {
		return o
	}
	if addrs != noAddress {
		for s := range strings.SplitSeq(addrs, ",") {
			a, err := netip.ParseAddr(s)
			if err != nil {
				return Owner{Link: link, Mark: mark}
			}
			o.Addresses = append(o.Addresses, a)
		}
	}
	o.Key = key
	return o
}

// MadeFor returns the network that flatnet made a bridge for, by the bridge's alias.
func MadeFor(alias string) (network string, ok bool) {
	return strings.CutPrefix(strings.TrimSuffix(alias, SharedMark), AliasWord+" ")
}

// BridgeAlias is the alias of a bridge that is made for a network.
func BridgeAlias(network string) string { return AliasWord + " " + network }

// SharedMark ends the alias of a bridge that several networks use.
const SharedMark = ", shared"
