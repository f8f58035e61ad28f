package ipam

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"flatnet/bridge"
)

// An ADD is in flight from when its lease is written until its link is made, or
// never will be. It says so by a lock that the kernel drops with the process,
// however that ends: an open file description's lock of one byte of the folder
// itself (F_OFD_SETLK, fcntl(2)), whose place is the attachment's mark. So there
// is no file to make or to lose, and each attachment has a lock of its own. Two
// that share a mark would at worst hold one lease for longer.

// fly begins a flight, which ends when the file is closed.
func (f folder) fly(key bridge.Key) (*os.File, error) {
	flight, err := openDir(f.dir, ".")
	if err != nil {
		return nil, err
	}
	lock := flightLock(key, unix.F_RDLCK) // a directory can't be open for writing
	if err := unix.FcntlFlock(flight.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "lock", Path: f.dir.Name(), Err: err}, flight.Close())
	}
	return flight, nil
}

// flying tells whether an ADD of key is in flight, also if that can't be known.
func (f folder) flying(key bridge.Key) bool {
	lock := flightLock(key, unix.F_WRLCK)
	err := unix.FcntlFlock(f.dir.Fd(), unix.F_OFD_GETLK, &lock)
	return err != nil || lock.Type != unix.F_UNLCK
}

func flightLock(key bridge.Key, kind int16) unix.Flock_t {
	lock := unix.Flock_t{Type: kind, Len: 1}
	for _, b := range key.Mark() {
		lock.Start = lock.Start<<8 | int64(b)
	}
	return lock
}
