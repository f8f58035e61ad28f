package ipam

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"flatnet/bridge"
	"flatnet/internal/flock"
)

// lockWait is how long others may hold the lock. They do for a millisecond
// each, so this passes only if one of them is stuck.
const lockWait = 10 * time.Second

// locked returns the folder with its locks, which make other processes and
// goroutines wait, or a [bridge.ErrBusy] after the wait. Without create, a
// folder that has neither lock nor lease file is an fs.ErrNotExist.
//
// The lock file is what other tools may lock, too. But somebody may remove it
// while it is held, and others then make and lock a new one; so the folder
// itself is locked as well.
func (f folder) locked(create bool, wait time.Duration) (folder, error) {
	end := time.Now().Add(wait)
	file, err := f.openLock(create)
	if err != nil {
		return f, err
	}
	f.lock = file
	for _, each := range [...]*os.File{f.lock, f.dir} {
		err := flock.Lock(each, unix.LOCK_EX, time.Until(end))
		if errors.Is(err, flock.ErrHeld) {
			err = fmt.Errorf("%w: %w", err, bridge.ErrBusy)
		}
		if err != nil {
			return f, err
		}
	}
	return f, nil
}

func (f folder) stat(name string, st *unix.Stat_t) error {
	return unix.Fstatat(int(f.dir.Fd()), name, st, unix.AT_SYMLINK_NOFOLLOW)
}

func (f folder) openLock(create bool) (*os.File, error) {
	if !create {
		lock, err := openAt(f.dir, lockName, unix.O_RDWR, 0)
		if errors.Is(err, unix.EROFS) { // a DEL without a lease writes nothing
			lock, err = openAt(f.dir, lockName, unix.O_RDONLY, 0)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return lock, err
		}
		// Leases without a lock need one; where there is neither, nothing is made.
		if err := f.stat(fileName, new(unix.Stat_t)); err != nil {
			return nil, &fs.PathError{Op: "stat", Path: f.path(fileName), Err: err}
		}
	}
	return openAt(f.dir, lockName, unix.O_RDWR|unix.O_CREAT, 0o600)
}
