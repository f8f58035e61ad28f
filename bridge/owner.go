package bridge

import (
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

// aliasWord begins the alias of each host end and bridge, so that people see
// whose it is.
const aliasWord = "flatnet"

// noAddress stands in an alias for no addresses at all.
const noAddress = "-"

// alias spells out an owner and its addresses for IFLA_IFALIAS.
func (o Owner) alias() string {
	addrs := make([]string, len(o.Addresses))
	for i, a := range o.Addresses {
		addrs[i] = a.String()
	}
	if len(addrs) == 0 {
		addrs = []string{noAddress}
	}
	return fmt.Sprintf("%s %s %s", aliasWord, o.Key, strings.Join(addrs, ","))
}

// maxAlias is the longest alias that the kernel takes (IFALIASZ of linux/if.h).
const maxAlias = 255

// checkAlias reports an owner with so many addresses that the alias can't hold it all.
func (o Owner) checkAlias() error {
	if n := len(o.alias()); n > maxAlias {
		return fmt.Errorf("%s with %d addresses needs an interface alias of %d bytes, and Linux takes %d; "+
			"choose a shorter network name or fewer addresses: %w", o.Key, len(o.Addresses), n, maxAlias, ErrInvalid)
	}
	return nil
}

// parseKey reads what [Key.String] wrote.
func parseKey(s string) (Key, bool) {
	parts := strings.Split(s, "/")
	if len(parts) != 3 {
		return Key{}, false
	}
	key, err := NewKey(parts[0], parts[1], parts[2])
	return key, err == nil
}

// parseOwner reads what a link's MAC and alias say. The key stays zero if the
// alias is not flatnet's, or is of another owner than the mark.
func parseOwner(link string, mark HardwareAddr, alias string) Owner {
	o := Owner{Link: link, Mark: mark}
	word, rest, _ := strings.Cut(alias, " ")
	owner, addrs, _ := strings.Cut(rest, " ")
	key, ok := parseKey(owner)
	if word != aliasWord || !ok || key.Mark() != mark {
		return o
	}
	if addrs == noAddress {
		o.Key = key
		return o
	}
	for s := range strings.SplitSeq(addrs, ",") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return o
		}
		o.Addresses = append(o.Addresses, a)
	}
	o.Key = key
	return o
}
