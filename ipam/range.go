package ipam

import (
	"cmp"
	"net/netip"
	"slices"

	"flatnet/bridge/model"
)

// A Range is a stretch of one subnet whose addresses are leased. It exists
// only validated, see [NewRange].
type Range struct {
	subnet              netip.Prefix
	start, end, gateway netip.Addr
	first, last         netip.Addr // that a host in the subnet may have
}

// NewRange returns the range of subnet from start to end, both included. A
// zero start or end is the subnet's first or last address that a host may
// have, a zero gateway the first one, which is never leased. A /31 and a /127
// have no other addresses than those of their two hosts (RFC 3021, RFC 6164). The
// gateway of an IPv6 subnet may be a link-local address.
// Every error is a [model.ErrInvalid].
func NewRange(subnet netip.Prefix, start, end, gateway netip.Addr) (Range, error) {
	if err := checkSubnet(subnet); err != nil {
		return Range{}, err
	}
	first, last := hosts(subnet)
	r := Range{subnet, cmp.Or(start, first), cmp.Or(end, last), cmp.Or(gateway, first), first, last}
	if err := r.check(); err != nil {
		return Range{}, err
	}
	if r.start.Less(first) {
		r.start = first
	}
	if last.Less(r.end) {
		r.end = last
	}
	if r.end.Less(r.start) || r.start == r.end && r.start == r.gateway {
		return Range{}, invalid("range %s of subnet %s has no address to lease", r, subnet)
	}
	return r, nil
}

// checkSubnet reports an error unless hosts may have addresses of the subnet.
func checkSubnet(subnet netip.Prefix) error {
	base := subnet.Addr()
	switch {
	case !subnet.IsValid():
		return invalid("range without a subnet")
	case base.Is4In6() || base.IsMulticast() || base.IsLoopback() || base.IsUnspecified():
		return invalid("subnet %s is not one of hosts", subnet)
	case subnet != subnet.Masked():
		return invalid("subnet %s has host bits set, %s has not", subnet, subnet.Masked())
	case base.BitLen()-subnet.Bits() < 1:
		return invalid("subnet %s has no room for a gateway and a container", subnet)
	}
	return nil
}

// check reports an error unless the subnet has the range and its gateway.
func (r *Range) check() error {
	linkLocal := r.subnet.Addr().Is6() && r.gateway.Is6() && r.gateway.IsLinkLocalUnicast() && r.gateway.Zone() == ""
	switch {
	case !r.subnet.Contains(r.start):
		return invalid("range start %s is not in subnet %s", r.start, r.subnet)
	case !r.subnet.Contains(r.end):
		return invalid("range end %s is not in subnet %s", r.end, r.subnet)
	case !r.subnet.Contains(r.gateway) && !linkLocal:
		return invalid("range gateway %s is not in subnet %s", r.gateway, r.subnet)
	case r.end.Less(r.start):
		return invalid("range end %s is before its start %s", r.end, r.start)
	case !r.isHost(r.gateway) && !linkLocal:
		return invalid("gateway %s is no host's address in subnet %s", r.gateway, r.subnet)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return model.Errorf(model.ErrInvalid, format, args...)
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

func (r Range) isHost(a netip.Addr) bool { return !a.Less(r.first) && !r.last.Less(a) }

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

// NewSets returns the sets, or a [model.ErrInvalid] if one is empty or mixes IPv4
// and IPv6, or two ranges overlap.
func NewSets(sets ...[]Range) (s Sets, err error) {
	for i, set := range sets {
		if len(set) == 0 {
			return Sets{}, model.Errorf(model.ErrInvalid, "range set %d is empty", i)
		}
		for _, r := range set {
			if r.start.Is4() != set[0].start.Is4() {
				return Sets{}, model.Errorf(model.ErrInvalid, "range set %d mixes IPv4 and IPv6", i)
			}
			for _, o := range s.all {
				if r.contains(o.start) || o.contains(r.start) {
					return Sets{}, model.Errorf(model.ErrInvalid, "ranges %s and %s overlap", o, r)
				}
			}
			s.all = append(s.all, r)
		}
		s.sets = append(s.sets, slices.Clone(set))
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
			if !ok && r.subnet.Contains(a) {
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
		return 0, model.Errorf(model.ErrInvalid, "address %s is in no subnet of the ranges %v", a, s.all)
	case s.isGateway(a):
		return 0, model.Errorf(model.ErrInvalid, "address %s is a gateway of the network", a)
	case !r.isHost(a):
		return 0, model.Errorf(model.ErrInvalid, "address %s is no host's address in subnet %s", a, r.subnet)
	}
	return set, nil
}

// isGateway looks at all ranges, for one's gateway may lie in another.
func (s Sets) isGateway(a netip.Addr) bool {
	return slices.ContainsFunc(s.all, func(r Range) bool { return r.gateway == a })
}

// assign sorts addresses by set. A set that none is for gets an invalid one.
func (s Sets) assign(want []netip.Addr) ([]netip.Addr, error) {
	bySet := make([]netip.Addr, len(s.sets))
	for _, a := range want {
		i, err := s.leasable(a)
		if err != nil {
			return nil, err
		}
		if bySet[i].IsValid() && bySet[i] != a {
			return nil, model.Errorf(model.ErrInvalid,
				"addresses %s and %s are both of range set %v, which gives one", bySet[i], a, s.sets[i])
		}
		bySet[i] = a
	}
	return bySet, nil
}

// next is next-fit: it returns the first free address of a set after the last that
// was leased, or an invalid one. used returns the last of the addresses from a on
// that are not free, or an invalid one if a is free. It takes one step more than
// there are stretches of used addresses, whatever the ranges' sizes.
func (s Sets) next(set int, last netip.Addr, used func(a netip.Addr) netip.Addr) netip.Addr {
	ranges := s.sets[set]
	at := slices.IndexFunc(ranges, func(r Range) bool { return r.contains(last) })
	if at < 0 {
		at, last = 0, netip.Addr{}
	}
	// The range of the last one comes twice: its end first, its beginning at the end.
	for i := range len(ranges) + 1 {
		r := ranges[(at+i)%len(ranges)]
		from, to := r.start, r.end
		if i == 0 && last.IsValid() {
			from = last.Next()
		}
		if i == len(ranges) {
			to = last
		}
		for a := from; a.IsValid() && !to.Less(a); a = a.Next() {
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
