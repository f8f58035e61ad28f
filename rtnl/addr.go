package rtnl

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"slices"
	"time"

	"flatnet/internal/nl"

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
	return dump(c, "addresses", unix.RTM_GETADDR, decodeAddr, ifAddr(index, netip.Prefix{}, 0))
}

// AddAddress adds an address. Without dad it is usable at once: IPv6 does no
// duplicate address detection for it (IFA_F_NODAD). One that exists is EEXIST.
func (c *Conn) AddAddress(l Link, p netip.Prefix, dad bool) error {
	var flags byte = unix.IFA_F_NODAD
	if dad {
		flags = 0
	}
	return c.wrap(c.create(unix.RTM_NEWADDR, ifAddr(l.Index, p, flags)), "give %s the address %s", l.Name, p)
}

// DeleteAddress deletes an address. One that does not exist is no error.
func (c *Conn) DeleteAddress(l Link, p netip.Prefix) error {
	err := c.do(unix.RTM_DELADDR, 0, ifAddr(l.Index, p, 0))
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil
	}
	return c.wrap(err, "take the address %s from %s", p, l.Name)
}

// WatchIPv6 subscribes to changes of IPv6 addresses (RTNLGRP_IPV6_IFADDR). The
// connection can then be used only for [Conn.Changed].
func (c *Conn) WatchIPv6() error { return c.nl.Join(unix.RTNLGRP_IPV6_IFADDR) }

// Changed waits for IPv6 addresses that were added or have changed, at most until
// the end.
func (c *Conn) Changed(end time.Time) ([]Addr, error) {
	c.nl.Until(end)
	msgs, err := c.nl.Receive()
	msgs = slices.DeleteFunc(msgs, func(m netlink.Message) bool { return m.Header.Type != unix.RTM_NEWADDR })
	return decodeAll(msgs, decodeAddr), err
}

// broadcast returns the directed broadcast address of an IPv4 prefix.
func broadcast(p netip.Prefix) []byte {
	a := binary.BigEndian.Uint32(p.Addr().AsSlice())
	return binary.BigEndian.AppendUint32(nil, a|math.MaxUint32>>p.Bits())
}

// ifAddr is struct ifaddrmsg of linux/if_addr.h, of universe scope, and the
// attributes of an address. That of the zero prefix is of both families.
func ifAddr(index int, p netip.Prefix, flags byte) []byte {
	b := make([]byte, unix.SizeofIfAddrmsg)
	native.PutUint32(b[4:], uint32(index))
	if !p.IsValid() {
		return b
	}
	a := p.Addr()
	b[0], b[1], b[2] = family(a), byte(p.Bits()), flags
	b = slices.Concat(b, nl.Attr(unix.IFA_LOCAL, a.AsSlice()), nl.Attr(unix.IFA_ADDRESS, a.AsSlice()))
	if a.Is4() && p.Bits() < 31 { // RFC 3021: a /31 has no broadcast address.
		b = append(b, nl.Attr(unix.IFA_BROADCAST, broadcast(p))...)
	}
	return b
}

func decodeAddr(b []byte) (Addr, error) {
	h, r := read(b, unix.SizeofIfAddrmsg)
	a := Addr{
		Index: int(native.Uint32(h[4:])),
		// IPv6 has IFA_LOCAL only on point-to-point links.
		Prefix: r.prefix(h, cmp.Or(r.addr(unix.IFA_LOCAL), r.addr(unix.IFA_ADDRESS))),
		Flags:  uint32(h[2]) | r.u32(unix.IFA_FLAGS), // the header has the lowest 8 of them
	}
	return a, r.Err()
}
