package model

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"flatnet/internal/sha256"
)

// IfNameSize is IFNAMSIZ of linux/if.h: an interface name's bytes and the NUL.
const IfNameSize = 16

// maxNetworkName and maxContainerID bound what a [Key] is made of, so that an
// owner always fits into an interface alias (IFALIASZ, 256 bytes).
const (
	maxNetworkName = 64
	maxContainerID = 100
)

// A Key names an attachment: everything that DEL needs.
type Key struct {
	Network     string
	ContainerID string // CNI_CONTAINERID
	IfName      string // CNI_IFNAME
}

// NewKey returns the key of valid parts, or an error that names the bad one.
func NewKey(network, containerID, ifName string) (Key, error) {
	if err := ValidName(network); err != nil {
		return Key{}, fmt.Errorf("network name: %w", err)
	}
	if err := ValidContainerID(containerID); err != nil {
		return Key{}, fmt.Errorf("container ID: %w", err)
	}
	if err := ValidIfName(ifName); err != nil {
		return Key{}, fmt.Errorf("interface name: %w", err)
	}
	return Key{network, containerID, ifName}, nil
}

func (k Key) String() string {
	return k.Network + "/" + k.ContainerID + "/" + k.IfName
}

// ParseKey reads what [Key.String] wrote.
func ParseKey(s string) (Key, bool) {
	network, rest, _ := strings.Cut(s, "/")
	containerID, ifName, _ := strings.Cut(rest, "/")
	key, err := NewKey(network, containerID, ifName)
	return key, err == nil
}

// SharesContainer reports whether owner, which [Key.String] wrote, names an
// attachment of k's container.
func (k Key) SharesContainer(owner string) bool {
	other, ok := ParseKey(owner)
	return ok && other.ContainerID == k.ContainerID
}

// hash returns some bytes of k's hash.
func (k Key) hash(from, to int) []byte {
	h := sha256.Sum(k.String())
	return h[from:to]
}

// Mark is the MAC address of the host end of k's veth pair: 46 bits of the
// owner's hash, locally administered and unicast. The kernel takes it in the
// message that creates the link, so ownership is there from the first instant.
func (k Key) Mark() HardwareAddr { return LocalMAC(k.hash(0, 6)) }

// containerMAC is the MAC address of the container's interface where it can't
// follow from an address: of other bits of the hash than the mark.
func (k Key) containerMAC() HardwareAddr { return LocalMAC(k.hash(12, 18)) }

// HostNames are the names that the host end of k's veth pair may have, in
// order of preference: the container ID's first 8 bytes, or 12 characters of the hash
// that the mark does not have, where another owner has that name.
func (k Key) HostNames() [2]string {
	return [2]string{fmt.Sprintf("fn-%.8s", k.ContainerID), fmt.Sprintf("fn-%x", k.hash(6, 12))}
}

// IFBName is the name of the device that limits what k's container sends.
func (k Key) IFBName() string { return fmt.Sprintf("fb-%x", k.hash(6, 12)) }

// Place is the byte that stands for k in a file of locks (flock.LockByte).
func (k Key) Place() int64 { return int64(binary.BigEndian.Uint64(k.hash(0, 8)) >> 1) }

// Place is the byte of a file of locks that stands for what the attachments of a
// network, or of a bridge, share.
func Place(network, bridge string) int64 { return Key{Network: network, IfName: bridge}.Place() }

// ValidName accepts a CNI network name (SPEC 1.1.0, section 1): it starts with
// a letter or digit and goes on with those, underscores, dots and hyphens.
func ValidName(s string) error { return validID(s, maxNetworkName) }

// ValidContainerID accepts a CNI container ID, in the same way.
func ValidContainerID(s string) error { return validID(s, maxContainerID) }

func validID(s string, limit int) error {
	const low = (1<<10-1)<<'0' | 1<<'-' | 1<<'.' // bits of characters below 64
	const high = (1<<26-1)<<('A'-64) | (1<<26-1)<<('a'-64) | 1<<('_'-64)
	table, good := [4]uint64{low, high}, uint64(1)
	for i := range len(s) { // without branches, for a thousand leases have 64,000 characters
		good &= table[s[i]/64] >> (s[i] % 64)
	}
	bad := good == 0 || s != "" && strings.IndexByte("_.-", s[0]) >= 0
	return valid(s, limit, bad, "must be letters, digits, '_', '.' and '-', and start with a letter or digit")
}

// ValidIfName accepts what the kernel accepts as an interface name
// (dev_valid_name of net/core/dev.c), less control and non-ASCII characters.
func ValidIfName(s string) error {
	special := func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("/:%", r) }
	bad := s == "." || s == ".." || strings.ContainsFunc(s, special)
	return valid(s, IfNameSize-1, bad, `is not an interface name: it is "." or "..", or has a space, '/', ':', '%' `+
		"or a control or non-ASCII character")
}

func valid(s string, limit int, bad bool, rule string) error {
	switch {
	case s == "":
		return errors.New("must not be empty")
	case len(s) > limit:
		return fmt.Errorf("%.20q has %d bytes, more than %d", s, len(s), limit)
	case bad:
		return fmt.Errorf("%q %s", s, rule)
	}
	return nil
}

// An Owner is what a link of the host says of the attachment that it belongs to.
type Owner struct {
	Link      string // the link's name
	Key       Key    // zero unless the alias says it
	Mark      HardwareAddr
	Addresses []netip.Addr
}

const (
	// aliasWord begins the alias of each host end and bridge, so that people see
	// whose it is.
	aliasWord = "flatnet"
	// noAddress stands in an alias for no addresses at all.
	noAddress = "-"
	// SharedMark ends the alias of a bridge that several networks use.
	SharedMark = ", shared"
	// maxAlias is the longest alias that the kernel takes (IFALIASZ of linux/if.h).
	maxAlias = 255
)

// Alias spells out an owner and its addresses for IFLA_IFALIAS.
func (o Owner) Alias() string {
	return fmt.Sprintf("%s %s %s", aliasWord, o.Key, cmp.Or(JoinAddrs(o.Addresses), noAddress))
}

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
	unknown := Owner{Link: link, Mark: mark}
	key, addrs, ok := CutAlias(alias)
	if !ok || key.Mark() != mark {
		return unknown
	}
	o := Owner{Link: link, Mark: mark, Key: key}
	if addrs == noAddress {
		return o
	}
	for s := range strings.SplitSeq(addrs, ",") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return unknown
		}
		o.Addresses = append(o.Addresses, a)
	}
	return o
}

// CutAlias returns what a link's alias says: a key, if it is one of flatnet's, and the
// addresses after it.
func CutAlias(alias string) (key Key, addrs string, ok bool) {
	word, rest, _ := strings.Cut(alias, " ")
	owner, addrs, _ := strings.Cut(rest, " ")
	key, ok = ParseKey(owner)
	return key, addrs, ok && word == aliasWord
}

// BridgeAlias is the alias of a bridge that is made for a network.
func BridgeAlias(network string) string { return aliasWord + " " + network }

// MadeFor returns the network that flatnet made a bridge for, by the bridge's alias.
func MadeFor(alias string) (network string, ok bool) {
	return strings.CutPrefix(strings.TrimSuffix(alias, SharedMark), BridgeAlias(""))
}
