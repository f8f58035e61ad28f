package ipam

import (
	"errors"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"flatnet/bridge"
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
func (f folder) fly(key bridge.Key, addrs []netip.Addr) (*os.File, error) {
	flight, err := openDir(f.dir, ".")
	if err != nil {
		return nil, err
	}
	places := []int64{placeOfKey(key)}
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
func (f folder) flying(key bridge.Key) bool { return f.locks(placeOfKey(key)) }

// flyingTo reports whether an ADD is in flight with an address, also if that is
// unknown.
func (f folder) flyingTo(a netip.Addr) bool { return f.locks(placeOfAddr(a)) }

func (f folder) locks(place int64) bool {
	held, err := flock.ByteHeld(f.dir, place)
	return err != nil || held
}

// placeOfKey is the mark: 48 bits.
func placeOfKey(key bridge.Key) (place int64) {
	for _, b := range key.Mark() {
		place = place<<8 | int64(b)
	}
	return place
}

// placeOfAddr is a hash of the address (FNV-1a), after the places of keys.
func placeOfAddr(a netip.Addr) int64 {
	const offset, prime = 14695981039346656037, 1099511628211
	hash := uint64(offset)
	for _, b := range a.AsSlice() {
		hash = (hash ^ uint64(b)) * prime
	}
	return int64(1<<62 | hash>>2)
}
