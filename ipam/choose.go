package ipam

import (
	"fmt"
	"net/netip"
	"sync"

	"flatnet/bridge/model"
)

// A chooser chooses the addresses of one attachment in a locked folder.
type chooser struct {
	sets   Sets
	folder folder
	leases *leases
	locals model.Locals                  // nil: the host has no address
	owners func() ([]model.Owner, error) // called when needed, and once
}

func (s *Store) chooser(f folder, l *leases, locals model.Locals) chooser {
	return chooser{s.cfg.Sets, f, l, locals, sync.OnceValues(s.owners)}
}

// choose returns one address of each set for an attachment that had old, which
// the leases no longer list. It gives up a stale lease only where its address is
// wanted, or where a set has no other address.
func (c chooser) choose(want, old []netip.Addr) ([]netip.Addr, error) {
	l := c.leases
	if len(c.sets.sets) == 0 {
		return nil, fmt.Errorf("network %s has no ranges to lease from: %w", l.network, model.ErrInvalid)
	}
	addrs, err := c.sets.assign(want)
	if err != nil {
		return nil, err
	}
	for _, a := range want {
		if err := c.claim(a); err != nil {
			return nil, err
		}
	}
	for _, a := range old {
		set, err := c.sets.leasable(a)
		if err != nil || addrs[set].IsValid() {
			continue
		}
		host, err := c.local(a)
		if err != nil {
			return nil, err
		}
		if !host.Prefix.IsValid() {
			addrs[set] = a
		}
	}
	last := make([]netip.Addr, len(addrs))
	copy(last, l.last)
	l.last = last
	for set := range addrs {
		if addrs[set].IsValid() {
			continue
		}
		a, err := c.next(set)
		if err != nil {
			return nil, err
		}
		addrs[set], last[set] = a, a
	}
	return addrs, nil
}

// claim makes a wanted address free, or says why it can't be had.
func (c chooser) claim(a netip.Addr) error {
	switch host, err := c.local(a); {
	case err != nil:
		return err
	case host.Prefix.IsValid() && host.Prefix.IsSingleIP():
		return fmt.Errorf("address %s is the host's own, on interface %s: %w", a, host.Link, model.ErrTaken)
	case host.Prefix.IsValid():
		return fmt.Errorf("address %s is the host's own, by a local route to %s on interface %s: %w", a, host.Prefix, host.Link, model.ErrTaken)
	}
	if name, ok := c.leases.holder[a]; ok {
		stale, err := c.stale()
		if err != nil {
			return err
		}
		if holder := c.leases.byName[name]; !stale(holder) {
			return fmt.Errorf("address %s is leased to %s: %w", a, holder.key, model.ErrTaken)
		}
		c.leases.take(a)
	}
	if c.folder.flyingTo(a) { // the file has lost its lease
		return fmt.Errorf("address %s is being given to another container: %w", a, model.ErrBusy)
	}
	return nil
}

// next returns the free address of a set that next-fit comes to first. If there
// is none, it is the first that a stale lease holds, which was leased first.
func (c chooser) next(set int) (netip.Addr, error) {
	a, err := c.find(set, func(lease) bool { return false })
	if a.IsValid() || err != nil {
		return a, err
	}
	stale, err := c.stale()
	if err != nil {
		return a, fmt.Errorf("no free address, and it is unknown which leases are stale: %w", err)
	}
	if a, err = c.find(set, stale); err == nil && !a.IsValid() {
		err = fmt.Errorf("network %s has leased all of %v: %w", c.leases.network, c.sets.sets[set], model.ErrExhausted)
	}
	c.leases.take(a)
	return a, err
}

// find returns the first address after the set's last that is neither the
// host's nor in flight, and that has no lease or one that may be taken. It is
// invalid if there is none.
func (c chooser) find(set int, takable func(lease) bool) (netip.Addr, error) {
	var failed error
	a, _ := c.sets.next(set, c.leases.last[set], func(a netip.Addr) netip.Addr {
		name, leased := c.leases.holder[a]
		if leased && !takable(c.leases.byName[name]) || c.folder.flyingTo(a) {
			return a
		}
		host, err := c.local(a)
		switch {
		case err != nil:
			failed = err
		case host.Prefix.IsValid():
			return lastOf(host.Prefix)
		}
		return netip.Addr{}
	})
	if failed != nil {
		return netip.Addr{}, failed
	}
	return a, nil
}

func (c chooser) local(a netip.Addr) (model.Local, error) {
	if c.locals == nil {
		return model.Local{}, nil
	}
	return c.locals(a)
}

// stale returns what reports whether a lease's owner is gone.
func (c chooser) stale() (func(lease) bool, error) {
	owners, err := c.owners()
	if err != nil {
		return nil, err
	}
	return c.leases.stale(c.folder, owners), nil
}
