// Package ipam manages the addresses of a network: range logic without side
// effects, and the lease file with its lock.
//
// The lease file is shared by processes that live for some milliseconds each,
// and with other tools, which may rely on its keys subnet, gateway and
// allocations. It is locked only while it is read and replaced. What it loses,
// the host's own links tell again.
package ipam

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"time"

	"flatnet/bridge/model"
)

// DefaultDir is the data directory of a configuration that names none.
const DefaultDir = "/var/lib/flatnet/ipam"

// A Config says what a network's addresses are.
type Config struct {
	Network string       // CNI network name
	Dir     string       // data directory, absolute, see [DefaultDir]
	Sets    Sets         // may be zero, but for leasing
	Warn    func(string) // told what was wrong with the lease file; nil: nobody
}

// A Store is the [model.Allocator] over a network's lease file. It holds
// nothing open between calls, and may be used by many goroutines at once.
//
// The network "flatnet" has its files in the data directory itself, any other
// network in a folder of its name. A lock that others don't let go of is a
// [model.ErrBusy], a file or directory that is a symbolic link a
// [model.ErrConflict]; what the file system refuses is its own error.
type Store struct {
	cfg    Config
	owners func() ([]model.Owner, error)
	wait   time.Duration
}

var _ model.Allocator = (*Store)(nil)

// New returns the store of a network. owners lists what the host's links say
// of their owners, of all networks; it is asked if a lease file is broken or
// missing, once in each boot, and before a network is declared exhausted.
func New(cfg Config, owners func() ([]model.Owner, error)) *Store {
	return &Store{cfg, owners, lockWait}
}

// Lease gives key one address of each range set: the wanted one, else the one
// that it has, else the free one after that leased last (next-fit). What key
// has and may not have any more is given up. held says that it had some
// before.
//
// A wanted address that another attachment or the host itself has is a
// [model.ErrTaken], one that can't be had a [model.ErrInvalid]. A set without
// a free address is a [model.ErrExhausted]. In both cases a stale lease is in
// nobody's way: it loses the wanted address, or, where a set has no other, the
// one that has been leased for the longest. A lease is not stale while its owner
// has a link, or its Flight is open.
func (s *Store) Lease(key model.Key, want []netip.Addr, locals model.Locals) (got model.Lease, held bool, err error) {
	if k, err := model.NewKey(s.cfg.Network, key.ContainerID, key.IfName); err != nil || k != key {
		return got, false, fmt.Errorf("attachment %q of network %q: %w", key, s.cfg.Network, model.ErrInvalid)
	}
	if _, err := s.cfg.Sets.assign(want); err != nil {
		return got, false, err // before there is a directory
	}
	f, l, err := s.open(true)
	if err != nil {
		return got, false, err
	}
	defer f.leave()
	var old []netip.Addr
	if name, ok := l.find(key); ok {
		old = l.byName[name].addrs
		l.remove(name)
	}
	addrs, err := s.chooser(f, l, locals).choose(want, old)
	if err != nil {
		return got, false, err
	}
	l.put(key, addrs)
	l.describe(s.cfg.Sets)
	flight, err := f.fly(key, addrs)
	if err != nil {
		return got, false, err
	}
	if err := f.save(l); err != nil {
		return got, false, errors.Join(err, flight.Close())
	}
	got.Flight = flight
	for _, a := range addrs {
		_, r, _ := s.cfg.Sets.locate(a)
		got.Addresses = append(got.Addresses, model.Address{Prefix: netip.PrefixFrom(a, r.subnet.Bits()), Gateway: r.gateway})
	}
	return got, old != nil, nil
}

// Release takes the keys' addresses back; their links must be gone. It makes no
// directory and no file, and removes a network's folder with its last lease.
// left are the keys that then have leases, or without a lease file have links
// with addresses.
//
// On a full disk, leases may have to stay in the file. That is no error: without
// a link they are stale.
func (s *Store) Release(keys []model.Key) (left []model.Key, err error) {
	f, l, err := s.open(false)
	if err == nil {
		defer f.leave()
		err = l.release(f, keys)
	}
	if isFull(err) {
		s.say("%v (the leases of %d containers stay until others need their addresses)", err, len(keys))
		err = nil
	}
	if err == nil && l != nil {
		for _, le := range l.byName {
			left = append(left, le.key)
		}
	}
	return left, err
}

// release removes leases from the file of a folder, if it has any of them.
func (l *leases) release(f folder, keys []model.Key) error {
	before := len(l.byName)
	for _, key := range keys {
		if name, ok := l.find(key); ok {
			l.remove(name)
		}
	}
	switch {
	case len(l.byName) == 0 && f.base != nil:
		return f.remove(fileName)
	case len(l.byName) == before:
		return nil
	}
	err := f.save(l)
	if isFull(err) && f.shrink(l) == nil {
		return nil
	}
	return err
}

// Free reports an error unless an attachment that asks for nothing would get a
// lease now: a [model.ErrExhausted] if there is no address. It makes the
// directory as Lease would and tries to write there, but leases nothing.
func (s *Store) Free(locals model.Locals) error {
	f, l, err := s.open(true)
	if err != nil {
		return err
	}
	defer f.leave()
	if _, err := s.chooser(f, l, locals).choose(nil, nil); err != nil {
		return err
	}
	return f.probe(l.encode())
}

// open locks the network's folder and reads its leases. Without create, and
// with nothing there, it is the zero folder, and what the links tell.
func (s *Store) open(create bool) (folder, *leases, error) {
	f, err := s.lock(create)
	var l *leases
	switch {
	case err == nil:
		l, err = s.load(f)
	case !create && errors.Is(err, fs.ErrNotExist):
		f.close()
		f = folder{}
		l, err = s.rebuild()
	}
	if err != nil {
		f.close()
		return folder{}, nil, err
	}
	return f, l, nil
}
