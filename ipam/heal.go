package ipam

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"flatnet/internal/lockdir"
)

// load reads the leases of a locked folder. It trusts the file if it was written
// here, in this boot: whoever did that had seen all links. Otherwise the leases of
// the host's links replace a file that is broken, missing or of another network,
// which is set aside, and correct any other.
func (s *Store) load(d *lockdir.Dir) (*leases, error) {
	l, wrong := s.read(d)
	missing := errors.Is(wrong, fs.ErrNotExist)
	signed := d.Signed()
	switch {
	case wrong == nil && signed && s.inSubnet(l):
		return l, nil
	case wrong != nil && !missing && !errors.Is(wrong, errBroken):
		return nil, wrong
	}
	inFlight, err := flights(d) // before the links: the link of one that ends meanwhile is there
	owners, oerr := s.owners()
	if err := errors.Join(err, oerr); err != nil {
		return nil, errors.Join(wrong, fmt.Errorf("leases of network %s can't be rebuilt: %w", s.cfg.Network, err))
	}
	var changed int
	if wrong == nil {
		changed = l.adopt(owners)
		if !s.inSubnet(l) && (changed > 0 || !signed) {
			wrong = fmt.Errorf("subnet %s is not the network's", l.subnet)
		}
	}
	if wrong != nil {
		l = newLeases(s.cfg.Network, 0)
		l.describe(s.cfg.Sets)
		changed = l.adopt(owners)
	}
	l.unsure = l.lacksAny(inFlight)
	if changed == 0 && (wrong == nil || missing) {
		l.sign(d)
		return l, nil
	}
	return l, s.replace(d, l, changed, wrong)
}

// replace writes leases of which links have changed some. wrong is the reason why the
// lease file can't be used, and is set aside if it exists; nil if it was incomplete.
func (s *Store) replace(d *lockdir.Dir, l *leases, changed int, wrong error) error {
	aside, kept := "", ""
	if wrong == nil {
		wrong = fmt.Errorf("it did not have the addresses of %d running containers", changed)
	} else if !errors.Is(wrong, fs.ErrNotExist) {
		var err error
		if aside, err = d.SetAside(); err != nil {
			return errors.Join(wrong, err)
		}
		kept = ", and the old one not kept beside others"
		if aside != "" {
			kept = ", and the old one kept as " + aside
		}
	}
	if err := l.save(d); err != nil {
		if aside != "" {
			err = errors.Join(err, d.Remove(aside))
		}
		return errors.Join(wrong, err)
	}
	s.say("lease file %s is rebuilt with %d leases of running containers%s: %v", d.FilePath(), changed, kept, wrong)
	return nil
}

// inSubnet reports whether the subnet of l is one of the network's, as far as
// both are known.
func (s *Store) inSubnet(l *leases) bool {
	ranges := s.cfg.Sets.all
	return !l.subnet.IsValid() || len(ranges) == 0 ||
		slices.ContainsFunc(ranges, func(r Range) bool { return r.subnet.Overlaps(l.subnet) })
}
