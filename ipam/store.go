// Package ipam manages the addresses of a network: range logic without side
// effects, and the lease file with its lock.
//
// The lease file is shared by processes that live for some milliseconds each,
// and with other tools, which may rely on its keys subnet, gateway and
// allocations. It is locked only while it is read and replaced. What it loses
// is rebuilt from the host's own links.
package ipam

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"flatnet/bridge/model"
)

// DefaultDir is the data directory of a configuration that names none.
const DefaultDir = "/var/lib/flatnet/ipam"

// A Config describes the addresses of a network.
type Config struct {
	Network string       // CNI network name
	Dir     string       // data directory, absolute, see [DefaultDir]
	Sets    Sets         // may be zero, but for leasing
	Warn    func(string) // receives what was wrong with the lease file; may be nil
}

// A Store is the [model.Allocator] over a network's lease file. It holds
// nothing open between calls, and may be used by many goroutines at once.
//
// The network "flatnet" has its files in the data directory itself, any other
// network in a folder of its name. A lock that others don't release is a
// [model.ErrBusy], a file or directory that is a symbolic link a
// [model.ErrConflict]; file system errors are returned as they are.
type Store struct {
	cfg    Config
	owners func() ([]model.Owner, error)
	wait   time.Duration
}

var _ model.Allocator = (*Store)(nil)

// New returns the store of a network. owners lists the owners of the host's
// links, in all networks. It is called if a lease file is broken or missing,
// once in each boot, and before a network is declared exhausted; then the lease
// file is locked, for no ADD may begin between the list and its use.
func New(cfg Config, owners func() ([]model.Owner, error)) *Store {
	return &Store{cfg, owners, lockWait}
}

// Lease gives key one address of each range set: the wanted one, else the one
// that it has, else the free one after that leased last (next-fit). It gives up
// what key has and may not have any more. had reports whether it had some before.
//
// A wanted address that another attachment or the host itself has is a
// [model.ErrTaken], one that can't be had a [model.ErrInvalid]. A set without
// a free address is a [model.ErrExhausted]. Stale leases block neither: one
// loses the wanted address, or, if a set has no other, the one leased for the
// longest time. A lease is not stale while its owner has a link, or its Flight
// is open.
func (s *Store) Lease(key model.Key, want []netip.Addr, locals model.Locals) (got model.Lease, had bool, err error) {
	_, err = s.cfg.Sets.assign(want)
	if err := errors.Join(checkKey(s.cfg.Network, key), err); err != nil {
		return got, false, err // before there is a directory
	}
	var g grant
	err = avoidLocal(want, locals, func(local []model.Local) ([]netip.Addr, error) {
		next, err := s.grant(g, key, want, local)
		if err == nil {
			g = next
		}
		return g.addrs, err
	})
	if err != nil {
		if g.flight != nil {
			g.flight.Close() // nothing was written to it
			if !g.had {
				_, rerr := s.Release([]model.Key{key})
				err = errors.Join(err, rerr)
			}
		}
		return got, false, err
	}
	got.Flight = g.flight
	for _, a := range g.addrs {
		_, r, _ := s.cfg.Sets.locate(a)
		got.Addresses = append(got.Addresses, model.Address{Prefix: netip.PrefixFrom(a, r.subnet.Bits()), Gateway: r.gateway})
	}
	return got, g.had, nil
}

// A grant is the result of one round of a Lease.
type grant struct {
	addrs  []netip.Addr
	flight *os.File // nil: no round yet
	had    bool     // before the first round
}

// grant leases key one address of each set, none of which is in local. It ends the
// flight of the round before.
func (s *Store) grant(g grant, key model.Key, want []netip.Addr, local []model.Local) (grant, error) {
	f, l, err := s.open(true)
	if err != nil {
		return g, err
	}
	defer f.leave()
	old := l.remove(l.find(key))
	if g.flight == nil {
		g.had = old != nil
	} else {
		g.flight.Close() // nothing was written to it
	}
	if g.addrs, err = s.chooser(f, l, local).choose(want, old); err != nil {
		return g, err
	}
	l.put(key, g.addrs)
	l.describe(s.cfg.Sets)
	if g.flight, err = f.fly(key, g.addrs); err != nil {
		return g, err
	}
	if err := f.save(l); err != nil {
		return g, errors.Join(err, g.flight.Close())
	}
	return g, nil
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
		err = f.release(l, keys)
	}
	if isFull(err) {
		s.say("%v (the leases of %d containers stay until others need their addresses)", err, len(keys))
		err = nil
	}
	if err == nil && l != nil {
		left = l.keys()
	}
	return left, err
}

// release removes leases, and rewrites the folder's file if it had any of them.
func (f folder) release(l *leases, keys []model.Key) error {
	before := len(l.byName)
	for _, key := range keys {
		l.remove(l.find(key))
	}
	switch {
	case f.dir == nil:
		return nil
	case len(l.byName) == 0 && f.base != nil:
		return f.remove(fileName)
	case len(l.byName) == before:
		return nil
	}
	err := f.save(l)
	if isFull(err) && f.saveInPlace(l) == nil {
		return nil
	}
	return err
}

// Free reports an error unless an attachment that asks for nothing would get a
// lease now: a [model.ErrExhausted] if there is no address. It makes the
// directory as Lease would and tries to write there, but leases nothing.
func (s *Store) Free(locals model.Locals) error {
	return avoidLocal(nil, locals, func(local []model.Local) ([]netip.Addr, error) {
		f, l, err := s.open(true)
		if err != nil {
			return nil, err
		}
		defer f.leave()
		addrs, err := s.chooser(f, l, local).choose(nil, nil)
		if err != nil {
			return nil, err
		}
		return addrs, f.probe(l)
	})
}

// Keys lists the keys that have leases, ordered by container ID and interface. It
// waits for no lock and changes nothing.
func (s *Store) Keys() ([]model.Key, error) {
	l, err := s.peek()
	if err != nil {
		return nil, err
	}
	return l.keys(), nil
}

// Check reports a [model.ErrChanged] unless key has leased exactly addrs. It waits
// for no lock and changes nothing.
func (s *Store) Check(key model.Key, addrs []netip.Addr) error {
	l, err := s.peek()
	if err != nil {
		return err
	}
	return l.check(key, addrs)
}

// peek reads the leases without lock: a lease file is only ever replaced whole.
func (s *Store) peek() (*leases, error) {
	f, err := openFolder(s.cfg.Dir, s.cfg.Network, false)
	l := newLeases(s.cfg.Network, 0)
	if err == nil {
		defer f.close()
		l, err = s.read(f)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return newLeases(s.cfg.Network, 0), nil
	}
	return l, err
}

// open locks the network's folder and reads its leases. Without create, and
// with neither lock nor lease file, it returns the zero folder and the leases that
// the links show.
func (s *Store) open(create bool) (folder, *leases, error) {
	f, err := s.lock(create)
	var l *leases
	switch {
	case err == nil:
		l, err = s.load(f)
	case !create && errors.Is(err, fs.ErrNotExist):
		l, err = s.live()
	}
	if err != nil {
		f.close()
	}
	return f, l, err
}

func (s *Store) say(format string, args ...any) {
	if s.cfg.Warn != nil {
		s.cfg.Warn(fmt.Sprintf(format, args...))
	}
}
