package ipam

import (
	"cmp"
	"net/netip"
	"slices"

	"flatnet/bridge/model"
)

// A Range is a stretch of one subnet whose addresses are leased. It exists
// only validated, see [NewRange]; the zero value is rejected by [NewSets].
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
		return invalidRange("range without a subnet")
	case base.Is4In6() || base.IsMulticast() || base.IsLoopback() || base.IsUnspecified():
		return invalidRange("subnet %s is not one of hosts", subnet)
	case subnet != subnet.Masked():
		return invalidRange("subnet %s has host bits set, %s has not", subnet, subnet.Masked())
	case base.BitLen()-subnet.Bits() < 1:
		return invalidRange("subnet %s has no room for a gateway and a container", subnet)
	}
	first, last := hosts(subnet)
	r := Range{subnet, cmp.Or(start, first), cmp.Or(end, last), cmp.Or(gateway, first)}
	linkLocal := base.Is6() && r.gateway.Is6() && r.gateway.IsLinkLocalUnicast() && r.gateway.Zone() == ""
	switch {
	case !subnet.Contains(r.start):
		return invalidRange("range start %s is not in subnet %s", r.start, subnet)
	case !subnet.Contains(r.end):
		return invalidRange("range end %s is not in subnet %s", r.end, subnet)
	case !subnet.Contains(r.gateway) && !linkLocal:
		return invalidRange("range gateway %s is not in subnet %s", r.gateway, subnet)
	case r.end.Less(r.start):
		return invalidRange("range end %s is before its start %s", r.end, r.start)
	case !r.isHost(r.gateway) && !linkLocal:
		return invalidRange("gateway %s is no host's address in subnet %s", r.gateway, subnet)
	}
	r.start = slices.MaxFunc([]netip.Addr{r.start, first}, netip.Addr.Compare)
	r.end = slices.MinFunc([]netip.Addr{r.end, last}, netip.Addr.Compare)
	if r.end.Less(r.start) || r.start == r.end && r.start == r.gateway {
		return invalidRange("range %s of subnet %s has no address to lease", r, subnet)
	}
	return r, nil
}

func invalidRange(format string, args ...any) (Range, error) {
	return Range{}, model.Errorf(model.ErrInvalid, format, args...)
}

// Subnet returns the subnet that the range's addresses are used in.
func (r Range) Subnet() netip.Prefix { return r.subnet }

// Gateway returns the subnet's gateway.
func (r Range) Gateway() netip.Addr { return r.gateway }

// String returns the first and the last address.
func (r Range) String() string { return r.start.String() + "-" + r.end.String() }

func (r Range) contains(a netip.Addr) bool {
	return r.subnet.Contains(a) && !a.Less(r.start) && !r.end.Less(a)
}

func (r Range) isHost(a netip.Addr) bool {
	first, last := hosts(r.subnet)
	return !a.Less(first) && !last.Less(a)
}

// hosts returns the first and the last address that a host in subnet may have:
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
