package ipam

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"flatnet/bridge/model"
)

// load reads the leases of a locked folder. What is broken, missing or foreign
// is rebuilt from the host's links, and the file, if any, set aside.
func (s *Store) load(f folder) (*leases, error) {
	l, wrong := s.read(f)
	missing := errors.Is(wrong, fs.ErrNotExist)
	switch {
	case wrong == nil && s.trusts(l) && f.signed():
		return l, nil
	case wrong != nil && !missing && !errors.Is(wrong, errBroken):
		return nil, wrong
	}
	links, err := s.rebuild()
	if err != nil {
		return nil, errors.Join(wrong, err)
	}
	if wrong == nil {
		changed := l.adopt(links)
		recent := l.boot == links.boot
		l.boot, l.unsure = links.boot, f.flyingUnknown(l)
		if changed == 0 && (s.inSubnet(l) || recent) {
			if !l.unsure {
				f.sign()
			}
			return l, nil
		}
		if s.inSubnet(l) {
			return l, s.correct(f, l, changed)
		}
		wrong = fmt.Errorf("%s: subnet %s is not the network's", f.path(fileName), l.subnet)
	}
	links.unsure = f.flyingUnknown(links)
	if missing && len(links.byName) == 0 {
		return links, nil
	}
	return links, s.replace(f, links, wrong)
}

// trusts tells whether l, if it was written last, needs no look at the links:
// who wrote it in this boot knew of all of them.
func (s *Store) trusts(l *leases) bool {
	boot := bootID()
	return boot != "" && l.boot == boot && s.inSubnet(l)
}

// inSubnet tells whether l may be of this network, as far as its subnet says.
func (s *Store) inSubnet(l *leases) bool {
	ranges := s.cfg.Sets.Ranges()
	return !l.subnet.IsValid() || len(ranges) == 0 ||
		slices.ContainsFunc(ranges, func(r Range) bool { return r.subnet.Overlaps(l.subnet) })
}

// correct writes leases that links have changed.
func (s *Store) correct(f folder, l *leases, changed int) error {
	if err := f.save(l); err != nil {
		return err
	}
	s.say("lease file %s did not have the addresses of %d running containers; they are added", f.path(fileName), changed)
	return nil
}

// replace sets the lease file aside and writes what was rebuilt.
func (s *Store) replace(f folder, l *leases, wrong error) error {
	aside, what := "", "missing"
	if !errors.Is(wrong, fs.ErrNotExist) {
		var err error
		if aside, err = f.setAside(); err != nil {
			return errors.Join(wrong, err)
		}
		what = "foreign"
		if errors.Is(wrong, errBroken) {
			what = "broken"
		}
		if aside != "" {
			what += " and kept as " + aside
		} else {
			what += " and not kept, as others are"
		}
	}
	if err := f.save(l); err != nil {
		if aside != "" {
			err = errors.Join(err, f.remove(aside))
		}
		return errors.Join(wrong, err)
	}
	s.say("lease file is %s; rebuilt with %d leases of running containers: %v", what, len(l.byName), wrong)
	return nil
}

func (s *Store) say(format string, args ...any) {
	if s.cfg.Warn != nil {
		s.cfg.Warn(fmt.Sprintf(format, args...))
	}
}

// read reads the leases of a folder, locked or not.
func (s *Store) read(f folder) (*leases, error) {
	data, err := f.read()
	if err == nil {
		var l *leases
		if l, err = decode(s.cfg.Network, data); err == nil {
			return l, nil
		}
	}
	if errors.Is(err, errBroken) {
		err = fmt.Errorf("%s: %w", f.path(fileName), err)
	}
	return nil, err
}

// rebuild returns the leases of the network that the host's links tell of.
func (s *Store) rebuild() (*leases, error) {
	owners, err := s.owners()
	if err != nil {
		return nil, fmt.Errorf("leases of network %s can't be rebuilt: %w", s.cfg.Network, err)
	}
	owners = slices.SortedStableFunc(slices.Values(owners), func(a, b model.Owner) int {
		return cmp.Compare(a.Key.String(), b.Key.String())
	})
	l := newLeases(s.cfg.Network, 0)
	l.boot = bootID()
	l.describe(s.cfg.Sets)
	for _, o := range owners {
		if _, err := model.NewKey(l.network, o.Key.ContainerID, o.Key.IfName); err != nil || o.Key.Network != l.network {
			continue
		}
		var addrs []netip.Addr
		for _, a := range o.Addresses {
			if isPlain(a) && l.holder[a] == "" && !slices.Contains(addrs, a) {
				addrs = append(addrs, a)
			}
		}
		if name, ok := l.find(o.Key); ok { // by another link
			addrs = append(addrs, l.byName[name].addrs...)
			l.remove(name)
		}
		if len(addrs) > 0 {
			l.put(o.Key, addrs)
		}
	}
	return l, nil
}
