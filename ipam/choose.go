package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"flatnet/bridge/model"
	"flatnet/internal/lockdir"
)

// A pool is the addresses of a network in its locked folder.
type pool struct {
	sets   Sets
	dir    *lockdir.Dir // nil: there is none
	leases *leases
	local  []model.Local                       // the host's own addresses, as far as they were asked for
	stale  func() (map[netip.Addr]bool, error) // evaluated when needed, and once
}

// inPool calls choose in the locked folder, until it returns none of the host's own
// addresses; p.local are those that it returned before, and those of want. So the
// host is asked about a few addresses and not about each candidate, and while nothing
// is locked. An error ends it.
func (s *Store) inPool(want []netip.Addr, locals model.Locals, choose func(p *pool) ([]netip.Addr, error)) error {
	var local []model.Local
	addrs := want
	for first := true; ; first = false {
		known := len(local)
		for _, a := range addrs {
			if !first && slices.Contains(want, a) {
				continue
			}
			l, err := locals(a)
			if err != nil {
				return err
			}
			if l.Prefix.IsValid() {
				local = append(local, l)
			}
		}
		if !first && len(local) == known {
			return nil
		}
		p, err := s.open(true)
		if err != nil {
			return err
		}
		p.local = local
		addrs, err = choose(p)
		p.dir.Leave()
		if err != nil {
			return err
		}
	}
}

// choose returns one address of each set, and all that are wanted, for an attachment that
// had old, which the leases no longer list, and before had what is free of had. It gives
// up a stale lease only where its address is wanted, or where a set has no other address.
func (p *pool) choose(want, old, had []netip.Addr) ([]netip.Addr, error) {
	if len(p.sets.sets) == 0 {
		return nil, model.Errorf(model.ErrInvalid, "network %s has no ranges to lease from", p.leases.network)
	}
	addrs, err := p.sets.assign(want)
	if err != nil {
		return nil, err
	}
	for _, a := range want {
		if err := p.makeFree(a); err != nil {
			return nil, err
		}
	}
	for _, a := range old {
		if set, err := p.sets.leasable(a); err == nil && !addrs[set].IsValid() && !p.localOf(a).Prefix.IsValid() {
			addrs[set] = a
		}
	}
	for _, a := range had {
		if set, ok := p.vacant(a); ok && !addrs[set].IsValid() {
			addrs[set] = a
		}
	}
	last := make([]netip.Addr, len(p.sets.sets))
	copy(last, p.leases.last)
	p.leases.last = last
	for set := range addrs {
		if !addrs[set].IsValid() {
			if addrs[set], err = p.next(set); err != nil {
				return nil, err
			}
			last[set] = addrs[set]
		}
	}
	return addrs, nil
}

// makeFree takes an address from a stale lease. One that the host or another
// attachment has is a [model.ErrTaken].
func (p *pool) makeFree(a netip.Addr) error {
	if l := p.localOf(a); l.Prefix.IsValid() {
		return model.Errorf(model.ErrTaken, "address %s is the host's own (%s on interface %s)", a, l.Prefix, l.Link)
	}
	if le := p.leases.owner(a); le != nil {
		stale, err := p.stale()
		if err != nil {
			return err
		}
		if !stale[a] {
			return model.Errorf(model.ErrTaken, "address %s is leased to %s; request another one, or none", a, p.leases.key(le))
		}
		p.leases.removeAddr(a)
	}
	if inFlight(p.dir, a) { // the file has lost its lease
		return model.Errorf(model.ErrBusy, "address %s is being given to another container", a)
	}
	return nil
}

// vacant returns the set of an address that anybody might be given now.
func (p *pool) vacant(a netip.Addr) (set int, ok bool) {
	set, r, ok := p.sets.locate(a)
	ok = ok && r.contains(a) && !p.sets.isGateway(a) && !p.localOf(a).Prefix.IsValid()
	return set, ok && p.leases.owner(a) == nil && !inFlight(p.dir, a)
}

// next returns the free address of a set that next-fit comes to first, of those that
// nobody is remembered to have had. If there is none, it takes the one that was
// released first, and then the first one of a stale lease, which was leased first.
func (p *pool) next(set int) (netip.Addr, error) {
	had := p.leases.released.All()
	others := map[netip.Addr]bool{}
	for _, a := range had {
		others[a] = true
	}
	if a := p.find(set, func(a netip.Addr) bool { return others[a] || p.leases.owner(a) != nil }); a.IsValid() {
		return a, nil
	}
	for _, a := range had {
		if of, ok := p.vacant(a); ok && of == set {
			return a, nil
		}
	}
	stale, err := p.stale()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("no free address, and it is unknown which leases are stale: %w", err)
	}
	a := p.find(set, func(a netip.Addr) bool { return p.leases.owner(a) != nil && !stale[a] })
	if !a.IsValid() {
		return a, model.Errorf(model.ErrExhausted, "network %s has no free address: all of %v are leased, a gateway's or the host's; "+
			"remove containers, or give the network a larger range", p.leases.network, p.sets.sets[set])
	}
	p.leases.removeAddr(a)
	return a, nil
}

// find returns the first address after the set's last that is neither the
// host's nor in flight, and not taken. It is invalid if there is none.
func (p *pool) find(set int, taken func(netip.Addr) bool) netip.Addr {
	return p.sets.next(set, p.leases.last[set], func(a netip.Addr) netip.Addr {
		if l := p.localOf(a); l.Prefix.IsValid() {
			return model.LastOf(l.Prefix)
		}
		if taken(a) || inFlight(p.dir, a) {
			return a
		}
		return netip.Addr{}
	})
}

// localOf returns the part of the host's own addresses that a lies in, or zero.
func (p *pool) localOf(a netip.Addr) model.Local {
	for _, l := range p.local {
		if l.Prefix.Contains(a) {
			return l
		}
	}
	return model.Local{}
}

// stale returns the leased addresses whose attachment is gone: no link has its mark, its key,
// one of its addresses or, as nobody's, its name, and no ADD is about to make one. The caller
// has locked the folder, so that no ADD begins meanwhile. Those in flight are listed before the
// links, for the link of one that ends meanwhile is there.
func (l *leases) stale(d *lockdir.Dir, owners func() ([]model.Owner, error)) (map[netip.Addr]bool, error) {
	inFlight, err := flights(d)
	links, oerr := owners()
	if err := errors.Join(err, oerr); err != nil {
		return nil, err
	}
	marks, keys, names, addrs := map[model.HardwareAddr]bool{}, map[model.Key]bool{}, map[string]bool{}, map[netip.Addr]bool{}
	for _, o := range links {
		marks[o.Mark], keys[o.Key], names[o.Link] = true, true, names[o.Link] || o.Key == model.Key{}
		// The key alone would not do: a tool that dropped the details may have
		// made the lease that of another interface.
		if o.Key.Network == l.network {
			for _, a := range o.Addresses {
				addrs[a] = true
			}
		}
	}
	stale := map[netip.Addr]bool{}
	for i := range l.all {
		key, has := l.key(&l.all[i]), l.all[i].list()
		own := key.HostNames()
		live := marks[key.Mark()] || keys[key] || names[own[0]] || names[own[1]] || slices.ContainsFunc(has, func(a netip.Addr) bool {
			return addrs[a] || inFlight[placeOf(a)]
		})
		for _, a := range has {
			stale[a] = !live
		}
	}
	return stale, nil
}
