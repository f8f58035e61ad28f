package rtnl

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// An Addr is an address of a link (linux/if_addr.h).
type Addr struct {
	Index  int // the link's
	Prefix netip.Prefix
	Flags  uint32 // IFA_F_*
}

// Addresses lists the addresses of a link, or of all links if index is 0, in
// both families.
func (c *Conn) Addresses(index int) ([]Addr, error) {
	all, err := dump(c, unix.RTM_GETADDR, ifAddr(unix.AF_UNSPEC, 0, 0, index), decodeAddr)
	if err != nil || index == 0 {
		return all, err
	}
	// Kernels before 4.20 list those of every link.
	var own []Addr
	for _, a := range all {
		if a.Index == index {
			own = append(own, a)
		}
	}
	return own, nil
}

// AddAddress adds an address. Without dad it is usable at once: IPv6 does no
// duplicate address detection for it (IFA_F_NODAD). One that is there is EEXIST.
func (c *Conn) AddAddress(index int, p netip.Prefix, dad bool) error {
	var flags byte = unix.IFA_F_NODAD
	if dad {
		flags = 0
	}
	b, err := encodeAddr(index, p, flags)
	return c.ack(unix.RTM_NEWADDR, netlink.Create|netlink.Excl, b, err)
}

// DeleteAddress deletes an address. One that is not there is EADDRNOTAVAIL.
func (c *Conn) DeleteAddress(index int, p netip.Prefix) error {
	b, err := encodeAddr(index, p, 0)
	return c.ack(unix.RTM_DELADDR, 0, b, err)
}

// WatchIPv6 makes a connection, which is then good for nothing else, hear of
// changes to IPv6 addresses (RTNLGRP_IPV6_IFADDR).
func (c *Conn) WatchIPv6() error { return c.nl.Join(unix.RTNLGRP_IPV6_IFADDR) }

// Changed waits for IPv6 addresses that were added or have changed, at most until
// the end.
func (c *Conn) Changed(end time.Time) ([]Addr, error) {
	c.nl.Until(end)
	msgs, err := c.nl.Receive()
	var addrs []Addr
	for _, m := range msgs {
		if m.Header.Type != unix.RTM_NEWADDR {
			continue
		}
		if a, derr := decodeAddr(m.Data); derr == nil {
			addrs = append(addrs, a)
		}
	}
	return addrs, err
}

func encodeAddr(index int, p netip.Prefix, flags byte) ([]byte, error) {
	a := p.Addr()
	return encode(ifAddr(family(a), byte(p.Bits()), flags, index), func(ae *netlink.AttributeEncoder) {
		ae.Bytes(unix.IFA_LOCAL, a.AsSlice())
		ae.Bytes(unix.IFA_ADDRESS, a.AsSlice())
		// RFC 3021: a /31 has no broadcast address.
		if a.Is4() && p.Bits() < 31 {
			ae.Bytes(unix.IFA_BROADCAST, Broadcast(p).AsSlice())
		}
	})
}

// Broadcast is the directed broadcast address of an IPv4 prefix.
func Broadcast(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func isIP(family byte) bool { return family == unix.AF_INET || family == unix.AF_INET6 }

// ifAddr is struct ifaddrmsg of linux/if_addr.h, of universe scope.
func ifAddr(family, bits, flags byte, index int) []byte {
	b := make([]byte, unix.SizeofIfAddrmsg)
	b[0], b[1], b[2] = family, bits, flags
	native.PutUint32(b[4:], uint32(index))
	return b
}

func decodeAddr(b []byte) (Addr, error) {
	h, ad, err := split(b, unix.SizeofIfAddrmsg)
	if err != nil {
		return Addr{}, fmt.Errorf("address: %w", err)
	}
	// A dump of AF_UNSPEC lists those of MCTP and Phonet, too.
	if !isIP(h[0]) {
		return Addr{}, fmt.Errorf("address of family %d", h[0])
	}
	a := Addr{Index: int(native.Uint32(h[4:])), Flags: uint32(h[2])}
	var local, address netip.Addr
	for ad.Next() {
		switch ad.Type() {
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(ad.Bytes())
		case unix.IFA_ADDRESS:
			address, _ = netip.AddrFromSlice(ad.Bytes())
		case unix.IFA_FLAGS:
			a.Flags = ad.Uint32()
		}
	}
	if err := ad.Err(); err != nil {
		return Addr{}, fmt.Errorf("address of link %d: %w", a.Index, err)
	}
	// IPv6 has IFA_LOCAL only on point-to-point links.
	if !local.IsValid() {
		local = address
	}
	a.Prefix = netip.PrefixFrom(local, int(h[1]))
	if !a.Prefix.IsValid() || family(local) != h[0] {
		return Addr{}, fmt.Errorf("address of link %d: no valid address with length %d", a.Index, h[1])
	}
	return a, nil
}
