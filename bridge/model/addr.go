package model

import (
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// A Subnet is a subnet of a network.
type Subnet struct {
	netip.Prefix
	Gateway netip.Addr // invalid: none; in the subnet, or link-local
}

// An Address is one leased address: its Prefix has the subnet's length.
type Address = Subnet

// gatewayPrefix returns the gateway with the length of its subnet, or of the link's
// for one that is link-local (RFC 4291, section 2.5.6).
func (s Subnet) gatewayPrefix() netip.Prefix {
	if s.gatewayOutside() {
		return netip.PrefixFrom(s.Gateway, 64)
	}
	return netip.PrefixFrom(s.Gateway, s.Bits())
}

// gatewayOutside reports a link-local gateway of another subnet.
func (s Subnet) gatewayOutside() bool {
	return s.Gateway.Is6() && s.Gateway.IsLinkLocalUnicast() && !s.Contains(s.Gateway)
}

// firstOf returns the first address of a family, that of is4 or IPv6; zero: there is none.
func firstOf(addrs []Address, is4 bool) Address {
	i := slices.IndexFunc(addrs, func(a Address) bool { return a.Addr().Is4() == is4 })
	if i < 0 {
		return Address{}
	}
	return addrs[i]
}

// Unspecified returns the unspecified address of a's family.
func Unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// JoinAddrs returns addresses as a list separated by commas; an invalid one is empty.
func JoinAddrs(addrs []netip.Addr) string {
	var b []byte
	for _, a := range addrs {
		b = append(a.AppendTo(b), ',')
	}
	return strings.TrimSuffix(string(b), ",")
}

// LastOf returns the last address of a prefix.
func LastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

// A HardwareAddr is an Ethernet address. The zero value means none.
type HardwareAddr [6]byte

// LocalMAC makes a locally administered unicast address of 6 bytes.
func LocalMAC(b []byte) HardwareAddr {
	a := HardwareAddr(b)
	a[0] = a[0]&^0x01 | 0x02
	return a
}

// addressMAC is the MAC that goes with an address unless another is asked for.
// Since an address always comes with the same MAC, neighbour caches stay right when
// the address gets a new owner. An IPv4 address is in it as it is, an IPv6 address as
// a hash (FNV-1a), since those of several subnets may differ in their prefixes only.
func addressMAC(a netip.Addr) HardwareAddr {
	mac := HardwareAddr{0x0a, 0x57} // locally administered, unicast
	if a.Is4() {
		copy(mac[2:], a.AsSlice())
		return mac
	}
	h := fnv.New64a()
	h.Write(a.AsSlice())
	copy(mac[1:], h.Sum(nil))
	return mac
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
	switch {
	case err != nil || len(hw) != len(HardwareAddr{}):
		return HardwareAddr{}, fmt.Errorf("%.40q is not a MAC address", s)
	case HardwareAddr(hw) == HardwareAddr{}:
		return HardwareAddr{}, fmt.Errorf("MAC address %q is all zero", s)
	case hw[0]&1 != 0:
		return HardwareAddr{}, fmt.Errorf("MAC address %q is a multicast address", s)
	}
	return HardwareAddr(hw), nil
}
