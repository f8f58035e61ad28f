package model

import (
	"encoding/binary"
	"fmt"
	"net"
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

// A HardwareAddr is an Ethernet address. The zero value means none.
type HardwareAddr [6]byte

// LocalMAC makes a locally administered unicast address of 6 bytes.
func LocalMAC(b []byte) HardwareAddr {
	a := HardwareAddr(b)
	a[0] = a[0]&^0x01 | 0x02
	return a
}

// LinkLocal returns the address that the kernel gives to an interface with that MAC
// (RFC 4291, appendix A).
func (a HardwareAddr) LinkLocal() netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: a[0] ^ 2, a[1], a[2], 0xff, 0xfe, a[3], a[4], a[5]})
}

func (a HardwareAddr) String() string { return net.HardwareAddr(a[:]).String() }

// ParseHardwareAddr reads a unicast 48-bit Ethernet address.
func ParseHardwareAddr(s string) (HardwareAddr, error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != len(HardwareAddr{}) {
		return HardwareAddr{}, fmt.Errorf("%.40q is not a MAC address", s)
	}
	a := HardwareAddr(hw)
	switch {
	case a == HardwareAddr{}:
		return a, fmt.Errorf("MAC address %q is all zero", s)
	case a[0]&1 != 0:
		return a, fmt.Errorf("MAC address %q is a multicast address", s)
	}
	return a, nil
}

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
	if err := validID(containerID, maxContainerID); err != nil {
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

func (k Key) hash() [sha256.Size]byte { return sha256.Sum(k.String()) }

// Mark is the MAC address of the host end of k's veth pair: 46 bits of the
// owner's hash, locally administered and unicast. The kernel takes it in the
// message that creates the link, so ownership is there from the first instant.
func (k Key) Mark() HardwareAddr {
	h := k.hash()
	return LocalMAC(h[:6])
}

// Place is the byte that stands for k in a file of locks (flock.LockByte): its mark.
func (k Key) Place() (place int64) {
	for _, b := range k.Mark() {
		place = place<<8 | int64(b)
	}
	return place
}

// Place is the byte of a file of locks that stands for what the attachments of a
// network, or of a bridge, share. It is beyond those of attachments.
func Place(network, bridge string) int64 {
	h := Key{Network: network, IfName: bridge}.hash()
	return int64(binary.BigEndian.Uint64(h[:])>>2 | 1<<62)
}

// containerMAC is the MAC address of the container's interface where it can't
// follow from an address: of other bits of the hash than the mark.
func (k Key) containerMAC() HardwareAddr {
	h := k.hash()
	return LocalMAC(h[12:18])
}

// HostNames are the names that the host end of k's veth pair may have, in
// order of preference: the container ID's first 8 bytes, or a hash of the
// owner where another owner has that name.
func (k Key) HostNames() [2]string {
	short, h := k.ContainerID, k.hash()
	if len(short) > 8 {
		short = short[:8]
	}
	// 12 characters of the hash that the mark does not hold.
	return [2]string{"fn-" + short, fmt.Sprintf("fn-%x", h[6:12])}
}

// IFBName is the name of the device that limits what k's container sends.
func (k Key) IFBName() string {
	h := k.hash()
	return fmt.Sprintf("fb-%x", h[6:12])
}

// SharesContainer reports whether owner, which [Key.String] wrote, names an
// attachment of k's container.
func (k Key) SharesContainer(owner string) bool {
	other, ok := ParseKey(owner)
	return ok && other.ContainerID == k.ContainerID
}

// ParseKey reads what [Key.String] wrote.
func ParseKey(s string) (Key, bool) {
	parts := strings.Split(s, "/")
	if len(parts) != 3 {
		return Key{}, false
	}
	key, err := NewKey(parts[0], parts[1], parts[2])
	return key, err == nil
}

// ValidName accepts a CNI network name (SPEC 1.1.0, section 1): it starts with
// a letter or digit and goes on with those, underscores, dots and hyphens.
func ValidName(s string) error { return validID(s, maxNetworkName) }

// ValidContainerID accepts a CNI container ID, in the same way.
func ValidContainerID(s string) error { return validID(s, maxContainerID) }

func validID(s string, limit int) error {
	switch {
	case s == "":
		return fmt.Errorf("must not be empty")
	case len(s) > limit:
		return fmt.Errorf("%.20q... has %d bytes, more than %d", s, len(s), limit)
	}
	for i, c := range []byte(s) {
		alnum := c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if !alnum && (i == 0 || !strings.ContainsRune("_.-", rune(c))) {
			return fmt.Errorf("%q must be letters, digits, '_', '.' and '-', and start with a letter or digit", s)
		}
	}
	return nil
}

// ValidIfName accepts what the kernel accepts as an interface name
// (dev_valid_name of net/core/dev.c), less control and non-ASCII characters.
func ValidIfName(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("must not be empty")
	case len(s) >= IfNameSize:
		return fmt.Errorf("%.20q has %d bytes, more than %d", s, len(s), IfNameSize-1)
	case s == "." || s == "..":
		return fmt.Errorf("%q is not an interface name", s)
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.ContainsRune("/:%", rune(c)) {
			return fmt.Errorf("%q has a character that interface names can't have", s)
		}
	}
	return nil
}
