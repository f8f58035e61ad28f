package ipam

import (
	"cmp"
	"net/netip"
	"slices"

	"flatnet/bridge/model"
)

// A Range is a stretch of one subnet whose addresses are leased. It exists
// only validated and complete, see [NewRange].
type Range model.Range

// NewRange validates a range. A zero Start or End becomes the subnet's first or
// last address that a host may have, a zero Gateway the first one, which is never
// leased. A /31 and a /127 have no other addresses than those of their two hosts
// (RFC 3021, RFC 6164). The gateway of an IPv6 subnet may be a link-local address.
// Every error is a [model.ErrInvalid].
func NewRange(r model.Range) (Range, error) {
	base := r.Subnet.Addr()
	switch {
	case !r.Subnet.IsValid():
		return Range{}, invalid("range without a subnet")
	case base.Is4In6() || base.IsMulticast() || base.IsLoopback() || base.IsUnspecified():
		return Range{}, invalid("subnet %s is not one of hosts", r.Subnet)
	case r.Subnet != r.Subnet.Masked():
		return Range{}, invalid("subnet %s has host bits set, %s has not", r.Subnet, r.Subnet.Masked())
	case base.BitLen()-r.Subnet.Bits() < 1:
		return Range{}, invalid("subnet %s has no room for a gateway and a container", r.Subnet)
	}
	first, last := hosts(r.Subnet)
	r.Start, r.End, r.Gateway = cmp.Or(r.Start, first), cmp.Or(r.End, last), cmp.Or(r.Gateway, first)
	linkLocal := base.Is6() && r.Gateway.Is6() && r.Gateway.IsLinkLocalUnicast() && r.Gateway.Zone() == ""
	switch {
	case !r.Subnet.Contains(r.Start):
		return Range{}, invalid("range start %s is not in subnet %s; choose one that is, or leave it out", r.Start, r.Subnet)
	case !r.Subnet.Contains(r.End):
		return Range{}, invalid("range end %s is not in subnet %s; choose one that is, or leave it out", r.End, r.Subnet)
	case !r.Subnet.Contains(r.Gateway) && !linkLocal:
		return Range{}, invalid("range gateway %s is not in subnet %s; choose one that is, or leave it out", r.Gateway, r.Subnet)
	case r.End.Less(r.Start):
		return Range{}, invalid("range end %s is before its start %s", r.End, r.Start)
	case !isHost(r.Gateway, r.Subnet) && !linkLocal:
		return Range{}, invalid("gateway %s is no host's address in subnet %s", r.Gateway, r.Subnet)
	}
	if r.Start.Less(first) {
		r.Start = first
	}
	if last.Less(r.End) {
		r.End = last
	}
	if r.End.Less(r.Start) || r.Start == r.End && r.Start == r.Gateway {
		return Range{}, invalid("range %s of subnet %s has no address to lease", Range(r), r.Subnet)
	}
	return Range(r), nil
}

func invalid(format string, args ...any) error {
	return model.Errorf(model.ErrInvalid, format, args...)
}

// String returns the first and the last address.
func (r Range) String() string { return r.Start.String() + "-" + r.End.String() }

func (r Range) contains(a netip.Addr) bool {
	return r.Subnet.Contains(a) && !a.Less(r.Start) && !r.End.Less(a)
}

func isHost(a netip.Addr, subnet netip.Prefix) bool {
	first, last := hosts(subnet)
	return !a.Less(first) && !last.Less(a)
}

// hosts returns the first and the last address that a host in subnet may have:
// neither the network's own address (in IPv6 the subnet-router anycast
// address, RFC 4291, section 2.6.1) nor IPv4's broadcast address.
func hosts(subnet netip.Prefix) (first, last netip.Addr) {
	first, last = subnet.Addr(), model.LastOf(subnet)
	if first.BitLen()-subnet.Bits() == 1 {
		return first, last
	}
	if last.Is4() {
		last = last.Prev()
	}
	return first.Next(), last
}

// Sets are the range sets of a network: an attachment gets one address out of
// each. The zero value has none, which is enough for all but leasing.
type Sets struct {
	sets [][]Range
	all  []Range // of all sets, in order
}

// maxRanges bounds the ranges of a network, each of which is compared with all others.
const maxRanges = 1 << 10

// NewSets returns the sets, or a [model.ErrInvalid] if a range is refused (see
// [NewRange]), a set is empty or mixes IPv4 and IPv6, or two ranges overlap.
func NewSets(sets [][]model.Range) (s Sets, err error) {
	for i, set := range sets {
		if len(set) == 0 {
			return Sets{}, invalid("range set %d is empty", i)
		}
		known := len(s.all)
		for _, plain := range set {
			if len(s.all) == maxRanges {
				return Sets{}, invalid("more than %d ranges", maxRanges)
			}
			r, err := NewRange(plain)
			if err != nil {
				return Sets{}, err
			}
			for _, o := range s.all {
				if r.contains(o.Start) || o.contains(r.Start) {
					return Sets{}, invalid("ranges %s and %s overlap", o, r)
				}
			}
			s.all = append(s.all, r)
			if r.Start.Is4() != s.all[known].Start.Is4() {
				return Sets{}, invalid("range set %d mixes IPv4 and IPv6", i)
			}
		}
		s.sets = append(s.sets, s.all[known:])
	}
	return s, nil
}

// Ranges returns the ranges of all sets, in order. The caller must not change them.
func (s Sets) Ranges() []Range { return s.all }

// locate finds the set and the range that an address belongs to: the range
// that it lies in, else the first whose subnet it lies in, because start and
// end restrict only what is leased unasked.
func (s Sets) locate(a netip.Addr) (set int, found Range, ok bool) {
	for i := range s.sets {
		for _, r := range s.sets[i] {
			if r.contains(a) {
				return i, r, true
			}
			if !ok && r.Subnet.Contains(a) {
				set, found, ok = i, r, true
			}
		}
	}
	return set, found, ok
}

// leasable returns the set of an address that a container may ask for.
func (s Sets) leasable(a netip.Addr) (set int, err error) {
	set, r, ok := s.locate(a)
	switch {
	case !ok:
		return 0, invalid("address %s is in no subnet of the ranges %v; request one of these, or none", a, s.all)
	case s.isGateway(a):
		return 0, invalid("address %s is a gateway of the network; request another one, or none", a)
	case !isHost(a, r.Subnet):
		return 0, invalid("address %s is no host's address in subnet %s", a, r.Subnet)
	}
	return set, nil
}

// isGateway looks at all ranges, for one's gateway may lie in another.
func (s Sets) isGateway(a netip.Addr) bool {
	return slices.ContainsFunc(s.all, func(r Range) bool { return r.Gateway == a })
}

// assign sorts addresses by set. A set that none is for gets an invalid one; further ones
// of a set follow after all sets.
func (s Sets) assign(want []netip.Addr) ([]netip.Addr, error) {
	addrs := make([]netip.Addr, len(s.sets))
	for _, a := range want {
		i, err := s.leasable(a)
		switch {
		case err != nil:
			return nil, err
		case !addrs[i].IsValid():
			addrs[i] = a
		case !slices.Contains(addrs, a):
			addrs = append(addrs, a)
		}
	}
	return addrs, nil
}

// next is next-fit: it returns the first free address of a set after the last that
// was leased, or an invalid one. used returns the last of the addresses from a on
// that are not free, or an invalid one if a is free. It takes one step more than
// there are stretches of used addresses, whatever the ranges' sizes.
func (s Sets) next(set int, last netip.Addr, used func(a netip.Addr) netip.Addr) netip.Addr {
	ranges := s.sets[set]
	if at := slices.IndexFunc(ranges, func(r Range) bool { return r.contains(last) }); at >= 0 {
		// That range comes twice: its end first, its beginning at the end.
		first, again := ranges[at], ranges[at]
		first.Start, again.End = last.Next(), last
		ranges = slices.Concat([]Range{first}, ranges[at+1:], ranges[:at], []Range{again})
	}
	for _, r := range ranges {
		for a := r.Start; a.IsValid() && !r.End.Less(a); a = a.Next() {
			if s.isGateway(a) {
				continue
			}
			end := used(a)
			if !end.IsValid() {
				return a
			}
			a = end
		}
	}
	return netip.Addr{}
}
