package ipam

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"flatnet/bridge/model"
	"flatnet/internal/sysctl"
)

// load reads the leases of a locked folder. It trusts the file if it was written
// here, in this boot: whoever did that had seen all links. Otherwise the leases of
// the host's links replace a file that is broken, missing or of another network,
// which is set aside, and correct any other.
func (s *Store) load(f folder) (*leases, error) {
	l, wrong := s.read(f)
	missing := errors.Is(wrong, fs.ErrNotExist)
	switch boot := bootID(); {
	case wrong == nil && boot != "" && l.boot == boot && s.inSubnet(l) && f.signed():
		return l, nil
	case wrong != nil && !missing && !errors.Is(wrong, errBroken):
		return nil, wrong
	}
	inFlight, err := f.flights() // before the links: the link of one that ends meanwhile is there
	live, lerr := s.live()
	if err := errors.Join(err, lerr); err != nil {
		return nil, errors.Join(wrong, err)
	}
	if wrong == nil {
		sameBoot := l.boot == live.boot
		changed := l.adopt(live)
		l.boot, l.unsure = live.boot, l.lacksAny(inFlight)
		switch {
		case changed == 0 && (s.inSubnet(l) || sameBoot):
			f.sign(l)
			return l, nil
		case s.inSubnet(l):
			return l, s.correct(f, l, changed)
		}
		wrong = fmt.Errorf("%s: subnet %s is not the network's", f.path(fileName), l.subnet)
	}
	live.unsure = live.lacksAny(inFlight)
	if missing && len(live.byName) == 0 {
		return live, nil
	}
	return live, s.replace(f, live, wrong)
}

// inSubnet reports whether the subnet of l is one of the network's, as far as
// both are known.
func (s *Store) inSubnet(l *leases) bool {
	ranges := s.cfg.Sets.all
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

// replace sets the lease file aside, if there is one, and writes l instead.
func (s *Store) replace(f folder, l *leases, wrong error) error {
	state, aside := "missing", ""
	if !errors.Is(wrong, fs.ErrNotExist) {
		var err error
		if aside, err = f.setAside(); err != nil {
			return errors.Join(wrong, err)
		}
		state = "replaced, and kept as " + aside
		if aside == "" {
			state = fmt.Sprintf("replaced, and not kept as there are %d others", maxAside)
		}
	}
	if err := f.save(l); err != nil {
		if aside != "" {
			err = errors.Join(err, f.remove(aside))
		}
		return errors.Join(wrong, err)
	}
	s.say("lease file is %s; rebuilt with %d leases of running containers: %v", state, len(l.byName), wrong)
	return nil
}

// read reads the leases of a folder, locked or not.
func (s *Store) read(f folder) (*leases, error) {
	data, err := f.read()
	if err != nil {
		return nil, err
	}
	l, err := decode(s.cfg.Network, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path(fileName), err)
	}
	return l, nil
}

// live returns the leases of the network that the host's links show.
func (s *Store) live() (*leases, error) {
	owners, err := s.owners()
	if err != nil {
		return nil, fmt.Errorf("leases of network %s can't be rebuilt: %w", s.cfg.Network, err)
	}
	l := rebuild(s.cfg.Network, owners)
	l.boot = bootID()
	l.describe(s.cfg.Sets)
	return l, nil
}

// describe sets the network's subnet and gateway, unless sets is empty.
func (l *leases) describe(sets Sets) {
	if len(sets.all) > 0 {
		l.subnet, l.gateway = sets.all[0].subnet, sets.all[0].gateway
	}
}

// bootID returns the identifier of this boot (random(4)), empty if the kernel has
// none.
func bootID() string {
	id, err := sysctl.Proc.Get("kernel/random/boot_id")
	if err != nil || model.ValidName(id) != nil {
		return ""
	}
	return id
}
