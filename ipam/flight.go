package ipam

import (
	"errors"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"flatnet/bridge/model"
	"flatnet/internal/flock"
)

// An ADD is in flight from when its lease is written until its link is made, or
// never will be. It says so by locks that the kernel drops with the process,
// however that ends: an open file description's locks of single bytes of the
// folder itself (F_OFD_SETLK, fcntl(2)). So there is no file to make or to lose,
// and each attachment has locks of its own. One byte's place is the attachment's
// mark. Those of the others are its addresses, which no other ADD may choose
// even if the lease file is lost or replaced meanwhile. Two attachments that
// share a place would at worst hold one lease, or one address, for longer.

// fly begins a flight, which ends when the file is closed.
func (f folder) fly(key model.Key, addrs []netip.Addr) (*os.File, error) {
	flight, err := openDir(f.dir, ".")
	if err != nil {
		return nil, err
	}
	places := []int64{key.Place()}
	for _, a := range addrs {
		places = append(places, placeOfAddr(a))
	}
	for _, place := range places {
		// Shared, since a directory can't be open for writing; so there is no wait.
		if err := flock.LockByte(flight, place, unix.LOCK_SH, 0); err != nil {
			return nil, errors.Join(err, flight.Close())
		}
	}
	return flight, nil
}

// flying reports whether an ADD of key is in flight, also if that is unknown.
func (f folder) flying(key model.Key) bool { return f.locks(key.Place()) }

// flyingTo reports whether an ADD is in flight with an address, also if that is
// unknown.
func (f folder) flyingTo(a netip.Addr) bool { return f.locks(placeOfAddr(a)) }

func (f folder) locks(place int64) bool {
	held, err := flock.ByteHeld(f.dir, place)
	return err != nil || held
}

// find returns some place that is locked from a place on and before another.
// If that is unknown, it is the first one.
func (f folder) find(from, before int64) (place int64, locked bool) {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: from, Len: before - from}
	if err := unix.FcntlFlock(f.dir.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		return from, true
	}
	return lock.Start, lock.Type != unix.F_UNLCK
}

// flyingUnknown reports whether an ADD is in flight that has no lease in l.
func (f folder) flyingUnknown(l *leases) bool {
	known := make(map[int64]bool, len(l.byName))
	for _, le := range l.byName {
		known[le.key.Place()] = true
	}
	for spans := [][2]int64{{0, keyPlaces}}; len(spans) > 0; {
		s := spans[0]
		spans = spans[1:]
		if s[0] >= s[1] {
			continue
		}
		place, locked := f.find(s[0], s[1])
		if !locked {
			continue
		}
		if !known[place] {
			return true
		}
		spans = append(spans, [2]int64{s[0], place}, [2]int64{place + 1, s[1]})
	}
	return false
}

// keyPlaces is the end of the places of keys, which have 48 bits.
const keyPlaces = 1 << 48

// placeOfAddr is a hash of the address (FNV-1a), after the places of keys.
func placeOfAddr(a netip.Addr) int64 {
	const offset, prime = 14695981039346656037, 1099511628211
	hash := uint64(offset)
	for _, b := range a.AsSlice() {
		hash = (hash ^ uint64(b)) * prime
	}
	return int64(1<<62 | hash>>2)
}
