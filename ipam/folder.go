package ipam

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"flatnet/bridge/model"
	"flatnet/internal/lockdir"
)

const (
	fileName = "allocations.json"

	// maxFile bounds a lease file in bytes: half a million leases.
	maxFile = 64 << 20
	// lockWait is how long others may hold the lock. They do for a millisecond
	// each, so this passes only if one of them is stuck.
	lockWait = 10 * time.Second

	// plainNetwork is the network whose files lie in the data directory itself.
	plainNetwork = "flatnet"
)

// ValidNetwork reports an error unless a network of that name can have a folder.
func ValidNetwork(network string) error {
	if err := model.ValidName(network); err != nil {
		return model.Errorf(model.ErrInvalid, "network name: %w", err)
	}
	if strings.HasPrefix(network, fileName) {
		return model.Errorf(model.ErrInvalid, "network name %q is the lease file's", network)
	}
	return nil
}

// folder opens the network's folder, which is the data directory or one in it.
func (s *Store) folder(open func(lockdir.Place) (*lockdir.Dir, error)) (*lockdir.Dir, error) {
	if err := ValidNetwork(s.cfg.Network); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(s.cfg.Dir) {
		return nil, model.Errorf(model.ErrInvalid, "data directory %q is not an absolute path", s.cfg.Dir)
	}
	p := lockdir.Place{Base: s.cfg.Dir, Sub: s.cfg.Network, Own: s.cfg.Dir == DefaultDir, File: fileName, Warn: s.say}
	if p.Sub == plainNetwork {
		p.Sub = ""
	}
	d, err := open(p)
	if err != nil {
		return nil, fmt.Errorf("data directory %q (ipam.dataDir): %w", s.cfg.Dir, err)
	}
	return d, nil
}

// read reads the leases of a folder, locked or not.
func (s *Store) read(d *lockdir.Dir) (*leases, error) {
	data, err := d.Read(maxFile)
	if err != nil {
		return nil, err
	}
	l, err := decode(s.cfg.Network, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.FilePath(), err)
	}
	return l, nil
}

// save replaces the lease file by l.
func (l *leases) save(d *lockdir.Dir) error {
	err := d.Replace(l.encode())
	if err == nil {
		l.sign(d)
	}
	return err
}

// sign notes that the lease file was written here or compared with the links. While
// l is unsure it is not, so that the next process compares it.
func (l *leases) sign(d *lockdir.Dir) {
	if !l.unsure {
		d.Sign()
	}
}

// An ADD is in flight from when its lease is written until its link is made, or
// never will be. It shows that by locks of bytes of the folder, which the kernel
// drops with the process, however that ends: so there is no file to make or to
// lose. Each address has a place, which no other ADD may choose even if the lease
// file is lost or replaced meanwhile. Two addresses that share a place would at
// worst be kept for longer.

// firstPlace and places are the bytes of addresses. Older versions lock others, too.
const firstPlace, places = 1 << 62, 1<<62 - 1

// placeOf returns the place of an address: a hash (FNV-1a).
func placeOf(a netip.Addr) int64 {
	const offset, prime = 14695981039346656037, 1099511628211
	hash := uint64(offset)
	for _, b := range a.AsSlice() {
		hash = (hash ^ uint64(b)) * prime
	}
	return int64(firstPlace | hash>>2)
}

// inFlight reports whether an ADD is in flight with an address, also if that is
// unknown.
func inFlight(d *lockdir.Dir, a netip.Addr) bool {
	locked, err := d.LockedBytes(placeOf(a), 1)
	return err != nil || len(locked) > 0
}

// flights returns the places of the addresses that are in flight.
func flights(d *lockdir.Dir) (map[int64]bool, error) { return d.LockedBytes(firstPlace, places) }
