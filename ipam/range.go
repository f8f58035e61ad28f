package ipam

import (
	"fmt"
	"net/netip"

	"flatnet/bridge/model"
)

// A Range is a stretch of one subnet whose addresses are leased. It exists
// only validated, see [NewRange]; the zero value is refused by [NewSets].
type Range struct {
	subnet              netip.Prefix
	start, end, gateway netip.Addr
}

// NewRange returns the range of subnet from start to end, both included. A
// zero start or end is the subnet's first or last address that a host may
// have, a zero gateway the first one, which is never leased. A /31 and a /127
// have no other addresses than those of their two hosts (RFC 3021, RFC 6164). The
// gateway of an IPv6 subnet may be a link-local address.
// Every error is a [model.ErrInvalid].
func NewRange(subnet netip.Prefix, start, end, gateway netip.Addr) (Range, error) {
	base := subnet.Addr()
	switch {
	case !subnet.IsValid():
		return Range{}, fmt.Errorf("range without a subnet: %w", model.ErrInvalid)
	case base.Is4In6() || base.IsMulticast() || base.IsLoopback() || base.IsUnspecified():
		return Range{}, fmt.Errorf("subnet %s is not one of hosts: %w", subnet, model.ErrInvalid)
	case subnet != subnet.Masked():
		return Range{}, fmt.Errorf("subnet %s has host bits set, %s has not: %w", subnet, subnet.Masked(), model.ErrInvalid)
	case base.BitLen()-subnet.Bits() < 1:
		return Range{}, fmt.Errorf("subnet %s has no room for a gateway and a container: %w", subnet, model.ErrInvalid)
	}
	first, last := hosts(subnet)
	linkLocal := gateway.Is6() && gateway.IsLinkLocalUnicast() && gateway.Zone() == "" && base.Is6()
	r := Range{subnet, or(start, first), or(end, last), or(gateway, first)}
	for _, a := range []struct {
		name string
		addr netip.Addr
	}{{"start", r.start}, {"end", r.end}, {"gateway", r.gateway}} {
		if !subnet.Contains(a.addr) && !(linkLocal && a.addr == gateway) {
			return Range{}, fmt.Errorf("range %s %s is not in subnet %s: %w", a.name, a.addr, subnet, model.ErrInvalid)
		}
	}
	if r.end.Less(r.start) {
		return Range{}, fmt.Errorf("range end %s is before its start %s: %w", r.end, r.start, model.ErrInvalid)
	}
	if !r.isHost(r.gateway) && !linkLocal {
		return Range{}, fmt.Errorf("gateway %s is no host's address in subnet %s: %w", r.gateway, subnet, model.ErrInvalid)
	}
	if r.start.Less(first) {
		r.start = first
	}
	if last.Less(r.end) {
		r.end = last
	}
	if r.end.Less(r.start) || r.start == r.end && r.start == r.gateway {
		return Range{}, fmt.Errorf("range %s of subnet %s has no address to lease: %w", r, subnet, model.ErrInvalid)
	}
	return r, nil
}

// Subnet is the subnet that the range's addresses are used in.
func (r Range) Subnet() netip.Prefix { return r.subnet }

// Gateway is the subnet's gateway.
func (r Range) Gateway() netip.Addr { return r.gateway }

// String gives the first and the last address.
func (r Range) String() string { return r.start.String() + "-" + r.end.String() }

func (r Range) contains(a netip.Addr) bool {
	return r.subnet.Contains(a) && !a.Less(r.start) && !r.end.Less(a)
}

func (r Range) isHost(a netip.Addr) bool {
	first, last := hosts(r.subnet)
	return !a.Less(first) && !last.Less(a)
}

// hosts gives the first and the last address that a host in subnet may have:
// neither the network's own address (in IPv6 the subnet-router anycast
// address, RFC 4291, section 2.6.1) nor IPv4's broadcast address.
func hosts(subnet netip.Prefix) (first, last netip.Addr) {
	first, last = subnet.Addr(), lastOf(subnet)
	if first.BitLen()-subnet.Bits() == 1 {
		return first, last
	}
	if last.Is4() {
		last = last.Prev()
	}
	return first.Next(), last
}

// lastOf returns the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

func or(a, instead netip.Addr) netip.Addr {
	if a.IsValid() {
		return a
	}
	return instead
}
