// Package ipam manages the addresses of a network: range logic without side
// effects, and the lease file with its lock.
//
// The lease file is shared by processes that live for some milliseconds each,
// and with other tools, which may rely on its keys subnet, gateway and
// allocations. It is locked only while it is read and replaced. What it loses
// is rebuilt from the host's own links.
package ipam

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"flatnet/bridge/model"
	"flatnet/internal/lockdir"
	"flatnet/internal/rootless"
	"flatnet/ipam/memory"
)

// DefaultDir is the data directory of a configuration that names none.
const DefaultDir = "/var/lib/flatnet/ipam"

// A Config describes the addresses of a network.
type Config struct {
	Network string       // a name that [ValidNetwork] accepts
	Dir     string       // data directory, absolute, see [DefaultDir]
	Sets    Sets         // may be zero, but for leasing
	Warn    func(string) // receives what was wrong with the lease file; may be nil
	Dry     bool         // Lease and Free answer as else, and write and lock nothing
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

// Lease gives key one address of each range set: the wanted ones, else the one that
// it has, else the free one that it is remembered to have had, else the free one
// after that leased last (next-fit), of those that nobody is remembered to have had. It
// gives up what key has and may not have any more.
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
		had := p.leases.released.Of(key)
		if addrs, err = p.choose(want, old, had); err != nil {
			return nil, err
		}
		got.Again = got.Again || slices.ContainsFunc(addrs, func(a netip.Addr) bool { return slices.Contains(had, a) })
		p.leases.released = p.leases.released.Without(key, addrs)
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
		return addrs, p.dir.Replace(p.leases.encode())
	})
	if err != nil {
		flight.Close()
		if written && !got.Had {
			_, rerr := s.Release([]model.Key{key}, got.Again)
			err = errors.Join(err, rerr)
		}
		return got, err
	}
	got.Flight = flight
	for _, a := range addrs {
		_, r, _ := s.cfg.Sets.locate(a)
		got.Addresses = append(got.Addresses, model.Address{Prefix: netip.PrefixFrom(a, r.Subnet.Bits()), Gateway: r.Gateway})
	}
	return got, nil
}

// Record records the addresses that another plugin has leased to key. One that
// another running container or the host itself has is a [model.ErrTaken], whatever
// the plugin's own records are.
func (s *Store) Record(key model.Key, addrs []netip.Addr, locals model.Locals) error {
	return s.inPool(addrs, locals, func(p *pool) (_ []netip.Addr, err error) {
		for _, a := range addrs {
			err = errors.Join(err, p.makeFree(a))
		}
		if err != nil {
			return nil, err
		}
		p.leases.put(key, addrs)
		return addrs, p.dir.Replace(p.leases.encode())
	})
}

// Release takes the keys' addresses back; their links must be gone. It makes no
// directory, and removes a network's folder with its last lease. What the keys had is
// remembered if they may be back, which again says. left are the keys that then have leases, or without a lease file have links
// with addresses.
//
// On a full disk, leases may have to stay in the file. That is no error: without
// a link they are stale.
func (s *Store) Release(keys []model.Key, again bool) (left []model.Key, err error) {
	p, err := s.open(false)
	if err == nil {
		defer p.dir.Leave()
		err = p.release(keys, again)
		left = p.leases.keys()
	}
	if lockdir.IsFull(err) {
		s.say("%v (the leases of %d containers stay until others need their addresses)", err, len(keys))
		err = nil
	}
	return left, err
}

// release removes leases, and rewrites the folder's file if it had any of them.
func (p *pool) release(keys []model.Key, again bool) error {
	d, l := p.dir, p.leases
	before := len(l.all)
	for _, key := range keys {
		if had := l.of(key).list(); again && had != nil {
			l.released = l.released.Add(key, had)
		}
	}
	l.removeKeys(keys)
	switch {
	case d != nil && d.Sub != "" && len(l.all) == 0:
		if before > 0 {
			memory.Keep(d.Base, d.Sub, l.released)
		}
		return d.Remove(FileName)
	case d == nil || len(l.all) == before:
		return nil
	}
	err := d.Replace(l.encode())
	if lockdir.IsFull(err) {
		l.released = nil // and so the file is shorter than before
		if d.Overwrite(l.encode()) {
			return nil
		}
	}
	return err
}

// Free reports an error unless an attachment that asks for nothing would get a
// lease now: a [model.ErrExhausted] if there is no address. It makes the
// directory as Lease would and tries to write there, but leases nothing.
func (s *Store) Free(locals model.Locals) error {
	return s.inPool(nil, locals, func(p *pool) ([]netip.Addr, error) {
		addrs, err := p.choose(nil, nil, nil)
		if err != nil {
			return nil, err
		}
		return addrs, p.dir.Probe(p.leases.encode())
	})
}

// Keys lists the keys that have leases, ordered by container ID and interface. It
// waits for no lock and changes nothing.
func (s *Store) Keys() (keys []model.Key, err error) {
	err = s.peek(func(l *leases, _ *lockdir.Dir) error { keys = l.keys(); return nil })
	return keys, err
}

// A Held is a lease as [Store.Held] lists it.
type Held struct {
	Key       model.Key
	Addresses []netip.Addr
	Stale     bool // no link has it, and no ADD is about to make one: see [Store.Lease]
	ThisBoot  bool // since when some lease of the network was given or taken back
	Delegated bool // by package delegate, whose files have no subnet
}

// Held lists the leases. Like Keys it waits for no lock, so by now an ADD may have begun
// that makes a stale lease its own.
func (s *Store) Held() (all []Held, err error) {
	err = s.peek(func(l *leases, d *lockdir.Dir) error {
		if len(l.all) == 0 {
			return nil
		}
		stale, err := l.stale(d, s.owners)
		booted := d.OfThisBoot()
		for i := range l.all {
			has := l.all[i].list()
			all = append(all, Held{l.key(&l.all[i]), has, stale[has[0]], booted, !l.subnet.IsValid()})
		}
		return err
	})
	return all, err
}

// Check reports a [model.ErrChanged] unless key has leased exactly addrs. It waits
// for no lock and changes nothing.
func (s *Store) Check(key model.Key, addrs []netip.Addr) error {
	return s.peek(func(l *leases, _ *lockdir.Dir) error {
		switch has := l.of(key).list(); {
		case has != nil && !equal(has, addrs):
			return model.Errorf(model.ErrChanged, "%s has leased %v, not %v", key, has, addrs)
		case has != nil:
			return nil
		}
		for _, a := range addrs {
			if le := l.owner(a); le != nil {
				return model.Errorf(model.ErrChanged, "address %s of %s is leased to %s", a, key, l.key(le))
			}
		}
		return model.Errorf(model.ErrChanged, "lease of %s is missing", key)
	})
}

// peek reads the leases without lock. Without a file there are none, and maybe no folder.
func (s *Store) peek(look func(*leases, *lockdir.Dir) error) error {
	d, err := s.folder(lockdir.Place.Open)
	var l *leases
	if err == nil {
		defer d.Close()
		l, err = s.read(d)
	}
	if errors.Is(err, fs.ErrNotExist) {
		l, err = &leases{network: s.cfg.Network}, nil
	}
	if err != nil {
		return err
	}
	return look(l, d)
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
		l = &leases{network: s.cfg.Network}
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

const (
	// FileName is the name of a lease file in its folder.
	FileName = "allocations.json"

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
	if strings.HasPrefix(network, FileName) {
		return model.Errorf(model.ErrInvalid, "network name %q is the lease file's", network)
	}
	return nil
}

// folder opens the network's folder, which is the data directory or one in it. A caller
// for whom [DefaultDir] is somebody else's has one of its own in place of it.
func (s *Store) folder(open func(lockdir.Place) (*lockdir.Dir, error)) (*lockdir.Dir, error) {
	p := lockdir.Place{Base: s.cfg.Dir, Sub: s.cfg.Network, Own: s.cfg.Dir == DefaultDir, File: FileName, Warn: s.say, Dry: s.cfg.Dry}
	if p.Sub == plainNetwork {
		p.Sub = ""
	}
	if p.Own {
		p.Base = cmp.Or(rootless.Leases(nil), p.Base)
	}
	d, err := open(p)
	if own := rootless.Leases(err); p.Base == DefaultDir && own != "" {
		p.Base = own
		d, err = open(p)
	}
	if err != nil {
		return nil, fmt.Errorf("data directory %q (ipam.dataDir): %w", p.Base, err)
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
	l.room = data
	return l, nil
}

// An ADD is in flight from when its lease is written until its link is made, or
// never will be. It shows that by locks of bytes of the folder, which the kernel
// drops with the process, however that ends: so there is no file to make or to
// lose. Each address has a place, which no other ADD may choose even if the lease
// file is lost or replaced meanwhile. Two addresses that share a place would at
// worst be kept for longer.

// firstPlace and places are the bytes of addresses. Older versions lock others, too.
const firstPlace, places = 1 << 62, 1<<62 - 1

// placeOf returns the place of an address: a hash (FNV-1a of 64 bits).
func placeOf(a netip.Addr) int64 {
	bytes := a.As16()
	hash := uint64(14695981039346656037)
	for _, b := range bytes[16-a.BitLen()/8:] {
		hash = (hash ^ uint64(b)) * 1099511628211
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
		l = &leases{network: s.cfg.Network}
		if d.Sub != "" {
			l.released = memory.Recall(d.Base, d.Sub)
		}
		l.describe(s.cfg.Sets)
		changed = l.adopt(owners)
	}
	for i := range l.all {
		for _, a := range l.all[i].list() {
			delete(inFlight, placeOf(a))
		}
	}
	// If an ADD in flight has lost its lease, the next process must compare the leases
	// with the links once more.
	d.Unsure = len(inFlight) > 0
	if changed == 0 && (wrong == nil || missing) {
		d.Sign()
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
	if err := d.Replace(l.encode()); err != nil {
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
		slices.ContainsFunc(ranges, func(r Range) bool { return r.Subnet.Overlaps(l.subnet) })
}
