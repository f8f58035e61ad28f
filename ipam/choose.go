package ipam

import (
	"fmt"
	"net/netip"
	"sync"

	"flatnet/bridge"
)

// choose returns one address of each set for an attachment that had old, which
// l has no more. It gives up stale leases in l only where a set has no more.
func (s *Store) choose(f folder, l *leases, want, old []netip.Addr) ([]netip.Addr, error) {
	sets := s.cfg.Sets
	if len(sets.sets) == 0 {
		return nil, fmt.Errorf("network %s has no ranges to lease from: %w", s.cfg.Network, bridge.ErrInvalid)
	}
	addrs, err := sets.assign(want)
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if name, ok := l.holder[a]; ok {
			return nil, fmt.Errorf("address %s is leased to %s: %w", a, l.byName[name].key, bridge.ErrTaken)
		}
	}
	for _, a := range old {
		if set, err := sets.leasable(a); err == nil && !addrs[set].IsValid() {
			addrs[set] = a
		}
	}
	last := make([]netip.Addr, len(addrs))
	copy(last, l.last)
	l.last = last
	owners := sync.OnceValues(s.owners)
	for set := range addrs {
		if addrs[set].IsValid() {
			continue
		}
		a, ok := sets.next(set, last[set], func(a netip.Addr) bool { return l.holder[a] == "" })
		if !ok {
			if a, err = s.reclaim(f, l, set, owners); err != nil {
				return nil, err
			}
		}
		addrs[set], last[set] = a, a
	}
	return addrs, nil
}

// reclaim gives up one stale lease in l, that which next-fit comes to first
// and so was leased first, and returns the address of a set that it had.
func (s *Store) reclaim(f folder, l *leases, set int, owners func() ([]bridge.Owner, error)) (netip.Addr, error) {
	links, err := owners()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("no free address, and which leases are stale is not known: %w", err)
	}
	isStale := l.stale(f, links)
	a, ok := s.cfg.Sets.next(set, l.last[set], func(a netip.Addr) bool { return isStale(l.byName[l.holder[a]]) })
	if !ok {
		return a, fmt.Errorf("network %s has leased all of %v: %w", s.cfg.Network, s.cfg.Sets.sets[set], bridge.ErrExhausted)
	}
	l.remove(l.holder[a])
	return a, nil
}
