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
// never will be. It shows that by locks that the kernel drops with the process,
// however that ends: an open file description's locks of single bytes of the
// folder itself (F_OFD_SETLK, fcntl(2)). So there is no file to make or to lose,
// and each attachment has locks of its own. One byte's place is the attachment's
// mark. Those of the others are its addresses, which no other ADD may choose
// even if the lease file is lost or replaced meanwhile. Two attachments that
// share a place would at worst keep one lease, or one address, for longer.

// keyPlaces is the end of the places of keys, which have 48 bits.
const keyPlaces = 1 << 48

// addrPlace returns a hash of the address (FNV-1a), after the places of keys.
func addrPlace(a netip.Addr) int64 {
	const offset, prime = 14695981039346656037, 1099511628211
	hash := uint64(offset)
	for _, b := range a.AsSlice() {
		hash = (hash ^ uint64(b)) * prime
	}
	return int64(1<<62 | hash>>2)
}

// fly begins a flight, which ends when the file is closed.
func (f folder) fly(key model.Key, addrs []netip.Addr) (*os.File, error) {
	flight, err := openDir(f.dir, ".")
	if err != nil {
		return nil, err
	}
	// Shared, since a directory can't be open for writing; so there is no wait.
	err = flock.LockByte(flight, key.Place(), unix.LOCK_SH, 0)
	for _, a := range addrs {
		err = errors.Join(err, flock.LockByte(flight, addrPlace(a), unix.LOCK_SH, 0))
	}
	if err != nil {
		return nil, errors.Join(err, flight.Close())
	}
	return flight, nil
}

// inFlight reports whether an ADD is in flight with an address, also if that is
// unknown.
func (f folder) inFlight(a netip.Addr) bool {
	locked, err := flock.LockedBytes(f.dir, addrPlace(a), 1)
	return err != nil || len(locked) > 0
}

// flights returns the places of the keys whose ADD is in flight.
func (f folder) flights() (map[int64]bool, error) {
	return flock.LockedBytes(f.dir, 0, keyPlaces)
}

// lacksAny reports whether an ADD is in flight whose key has no lease.
func (l *leases) lacksAny(flights map[int64]bool) bool {
	known := 0
	for _, le := range l.byName {
		if flights[le.key.Place()] {
			known++
		}
	}
	return known < len(flights)
}
