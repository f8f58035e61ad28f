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
	"sync"
	"time"

	"flatnet/bridge/model"
	"flatnet/internal/lockdir"
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
// what key has and may not have any more.
//
// A wanted address that another attachment or the host itself has is a
// [model.ErrTaken], one that can't be had a [model.ErrInvalid]. A set without
// a free address is a [model.ErrExhausted]. Stale leases block neither: one
// loses the wanted address, or, if a set has no other, the one leased for the
// longest time. A lease is not stale while its owner has a link, or its Flight
// is open.
func (s *Store) Lease(key model.Key, want []netip.Addr, locals model.Locals) (got model.Lease, err error) {
	_, err = s.cfg.Sets.assign(want)
	if err := errors.Join(checkKey(s.cfg.Network, key), err); err != nil {
		return got, err // before there is a directory
	}
	var addrs []netip.Addr
	var flight *os.File
	written := false
	err = s.inPool(want, locals, func(p *pool) (_ []netip.Addr, err error) {
		flight.Close() // of the choice before; nothing was written to it, and nil has nothing to close
		old := p.leases.remove(p.leases.find(key))
		if !written {
			got.Had = old != nil
		}
		if addrs, err = p.choose(want, old); err != nil {
			return nil, err
		}
		p.leases.put(key, addrs)
		p.leases.describe(s.cfg.Sets)
		var places []int64
		for _, a := range addrs {
			places = append(places, placeOf(a))
		}
		if flight, err = p.dir.LockBytes(places); err != nil {
			return nil, err
		}
		written = true
		return addrs, p.leases.save(p.dir)
	})
	if err != nil {
		flight.Close()
		if written && !got.Had {
			_, rerr := s.Release([]model.Key{key})
			err = errors.Join(err, rerr)
		}
		return got, err
	}
	got.Flight = flight
	for _, a := range addrs {
		_, r, _ := s.cfg.Sets.locate(a)
		got.Addresses = append(got.Addresses, model.Address{Prefix: netip.PrefixFrom(a, r.subnet.Bits()), Gateway: r.gateway})
	}
	return got, nil
}

// Release takes the keys' addresses back; their links must be gone. It makes no
// directory and no file, and removes a network's folder with its last lease.
// left are the keys that then have leases, or without a lease file have links
// with addresses.
//
// On a full disk, leases may have to stay in the file. That is no error: without
// a link they are stale.
func (s *Store) Release(keys []model.Key) (left []model.Key, err error) {
	p, err := s.open(false)
	if err == nil {
		defer p.dir.Leave()
		err = p.release(keys)
		left = p.leases.keys()
	}
	if lockdir.IsFull(err) {
		s.say("%v (the leases of %d containers stay until others need their addresses)", err, len(keys))
		err = nil
	}
	return left, err
}

// release removes leases, and rewrites the folder's file if it had any of them.
func (p *pool) release(keys []model.Key) error {
	d, l := p.dir, p.leases
	before := len(l.byName)
	for _, key := range keys {
		l.remove(l.find(key))
	}
	switch {
	case d != nil && d.Sub != "" && len(l.byName) == 0:
		return d.Remove(fileName)
	case d == nil || len(l.byName) == before:
		return nil
	}
	err := l.save(d)
	if lockdir.IsFull(err) && d.Overwrite(l.encode()) {
		l.sign(d)
		return nil
	}
	return err
}

// Free reports an error unless an attachment that asks for nothing would get a
// lease now: a [model.ErrExhausted] if there is no address. It makes the
// directory as Lease would and tries to write there, but leases nothing.
func (s *Store) Free(locals model.Locals) error {
	return s.inPool(nil, locals, func(p *pool) ([]netip.Addr, error) {
		addrs, err := p.choose(nil, nil)
		if err != nil {
			return nil, err
		}
		return addrs, p.dir.Probe(p.leases.encode())
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

// peek reads the leases without lock. Without a file there are none.
func (s *Store) peek() (*leases, error) {
	d, err := s.folder(lockdir.Place.Open)
	var l *leases
	if err == nil {
		defer d.Close()
		l, err = s.read(d)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return newLeases(s.cfg.Network, 0), nil
	}
	return l, err
}

// open locks the network's folder and reads its leases. Without create, and with
// neither lock nor lease file, there is no folder, and the leases are those that
// the links show.
func (s *Store) open(create bool) (*pool, error) {
	d, err := s.folder(func(p lockdir.Place) (*lockdir.Dir, error) { return p.Lock(create, s.wait) })
	var l *leases
	switch {
	case err == nil:
		l, err = s.load(d)
	case !create && errors.Is(err, fs.ErrNotExist):
		var owners []model.Owner
		owners, err = s.owners()
		l = newLeases(s.cfg.Network, 0)
		l.adopt(owners)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	stale := sync.OnceValues(func() (map[netip.Addr]bool, error) { return l.stale(d, s.owners) })
	return &pool{sets: s.cfg.Sets, dir: d, leases: l, stale: stale}, nil
}

func (s *Store) say(format string, args ...any) {
	if s.cfg.Warn != nil {
		s.cfg.Warn(fmt.Sprintf(format, args...))
	}
}
