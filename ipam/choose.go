package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"flatnet/bridge/model"
)

// A chooser chooses the addresses of one attachment in a locked folder.
type chooser struct {
	sets   Sets
	folder folder
	leases *leases
	local  []model.Local                       // the host's own addresses, as far as they were asked for
	stale  func() (map[netip.Addr]bool, error) // evaluated when needed, and once
}

func (s *Store) chooser(f folder, l *leases, local []model.Local) chooser {
	stale := sync.OnceValues(func() (map[netip.Addr]bool, error) { return l.stale(f, s.owners) })
	return chooser{s.cfg.Sets, f, l, local, stale}
}

// choose returns one address of each set for an attachment that had old, which
// the leases no longer list. It gives up a stale lease only where its address is
// wanted, or where a set has no other address.
func (c chooser) choose(want, old []netip.Addr) ([]netip.Addr, error) {
	if len(c.sets.sets) == 0 {
		return nil, model.Errorf(model.ErrInvalid, "network %s has no ranges to lease from", c.leases.network)
	}
	addrs, err := c.sets.assign(want)
	if err != nil {
		return nil, err
	}
	for _, a := range want {
		if err := c.makeFree(a); err != nil {
			return nil, err
		}
	}
	for _, a := range old {
		if set, err := c.sets.leasable(a); err == nil && !addrs[set].IsValid() && !c.localOf(a).Prefix.IsValid() {
			addrs[set] = a
		}
	}
	last := make([]netip.Addr, len(addrs))
	copy(last, c.leases.last)
	c.leases.last = last
	for set := range addrs {
		if !addrs[set].IsValid() {
			if addrs[set], err = c.next(set); err != nil {
				return nil, err
			}
			last[set] = addrs[set]
		}
	}
	return addrs, nil
}

// makeFree takes an address from a stale lease. One that the host or another
// attachment has is a [model.ErrTaken].
func (c chooser) makeFree(a netip.Addr) error {
	if l := c.localOf(a); l.Prefix.IsValid() {
		return model.Errorf(model.ErrTaken, "address %s is the host's own (%s on interface %s)", a, l.Prefix, l.Link)
	}
	if name, ok := c.leases.byAddr[a]; ok {
		stale, err := c.stale()
		if err != nil {
			return err
		}
		if !stale[a] {
			return model.Errorf(model.ErrTaken, "address %s is leased to %s", a, c.leases.byName[name].key)
		}
		c.leases.removeAddr(a)
	}
	if c.folder.inFlight(a) { // the file has lost its lease
		return model.Errorf(model.ErrBusy, "address %s is being given to another container", a)
	}
	return nil
}

// next returns the free address of a set that next-fit comes to first. If there
// is none, it takes the first one of a stale lease, which was leased first.
func (c chooser) next(set int) (netip.Addr, error) {
	if a := c.find(set, nil); a.IsValid() {
		return a, nil
	}
	stale, err := c.stale()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("no free address, and it is unknown which leases are stale: %w", err)
	}
	a := c.find(set, stale)
	if !a.IsValid() {
		return a, model.Errorf(model.ErrExhausted, "network %s has leased all of %v", c.leases.network, c.sets.sets[set])
	}
	c.leases.removeAddr(a)
	return a, nil
}

// find returns the first address after the set's last that is neither the
// host's nor in flight, and not leased or stale. It is invalid if there is none.
func (c chooser) find(set int, stale map[netip.Addr]bool) netip.Addr {
	return c.sets.next(set, c.leases.last[set], func(a netip.Addr) netip.Addr {
		if l := c.localOf(a); l.Prefix.IsValid() {
			return lastOf(l.Prefix)
		}
		if _, leased := c.leases.byAddr[a]; leased && !stale[a] || c.folder.inFlight(a) {
			return a
		}
		return netip.Addr{}
	})
}

// localOf returns the part of the host's own addresses that a lies in, or zero.
func (c chooser) localOf(a netip.Addr) model.Local {
	for _, l := range c.local {
		if l.Prefix.Contains(a) {
			return l
		}
	}
	return model.Local{}
}

// stale returns the leased addresses whose attachment is gone: no link has its
// mark, its key or one of its addresses, and no ADD is about to make one. The
// caller has locked the folder, so that no ADD begins meanwhile. Those in flight
// are listed before the links, for the link of one that ends meanwhile is there.
func (l *leases) stale(f folder, owners func() ([]model.Owner, error)) (map[netip.Addr]bool, error) {
	inFlight, err := f.flights()
	links, oerr := owners()
	if err := errors.Join(err, oerr); err != nil {
		return nil, err
	}
	marks, keys, addrs := map[model.HardwareAddr]bool{}, map[model.Key]bool{}, map[netip.Addr]bool{}
	for _, o := range links {
		marks[o.Mark], keys[o.Key] = true, true
		// The key alone would not do: a tool that dropped the details may have
		// made the lease that of another interface.
		if o.Key.Network == l.network {
			for _, a := range o.Addresses {
				addrs[a] = true
			}
		}
	}
	stale := map[netip.Addr]bool{}
	for _, le := range l.byName {
		live := marks[le.key.Mark()] || keys[le.key] || inFlight[le.key.Place()] ||
			slices.ContainsFunc(le.addrs, func(a netip.Addr) bool { return addrs[a] })
		for _, a := range le.addrs {
			stale[a] = !live
		}
	}
	return stale, nil
}
