package ipam

import (
	"net/netip"
	"slices"

	"flatnet/bridge/model"
)

// Sets are the range sets of a network: an attachment gets one address out of
// each. The zero value has none, which is enough for all but leasing.
type Sets struct {
	sets [][]Range
	all  []Range // of all sets, in order
}

// NewSets returns the sets, or a [model.ErrInvalid] if there is none, one is
// empty or mixes IPv4 and IPv6, or two ranges overlap.
func NewSets(sets ...[]Range) (Sets, error) {
	if len(sets) == 0 {
		return Sets{}, model.Errorf(model.ErrInvalid, "no ranges to lease from")
	}
	var s Sets
	for i, set := range sets {
		if len(set) == 0 {
			return Sets{}, model.Errorf(model.ErrInvalid, "range set %d is empty", i)
		}
		for _, r := range set {
			if !r.subnet.IsValid() {
				return Sets{}, model.Errorf(model.ErrInvalid, "range set %d has a range without a subnet", i)
			}
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
		var subnets []netip.Prefix
		for _, r := range s.all {
			if !slices.Contains(subnets, r.subnet) {
				subnets = append(subnets, r.subnet)
			}
		}
		return 0, model.Errorf(model.ErrInvalid, "address %s is in no subnet of the network %v", a, subnets)
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
			return nil, model.Errorf(model.ErrInvalid, "addresses %s and %s are both of range set %v, which gives one", bySet[i], a, s.sets[i])
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
