package ipam

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"flatnet/bridge"
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
	timer := time.After(wait)
	lock, err := f.openLock(create)
	if err != nil {
		return f, err
	}
	if err := flock(lock, timer); err != nil {
		return f, err
	}
	f.lock = lock
	self, err := openAt(f.dir, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return f, err
	}
	if err := flock(self, timer); err != nil {
		return f, err
	}
	f.self = self
	return f, nil
}

func (f folder) stat(name string, st *unix.Stat_t) error {
	return unix.Fstatat(int(f.dir.Fd()), name, st, unix.AT_SYMLINK_NOFOLLOW)
}

func (f folder) openLock(create bool) (*os.File, error) {
	if !create {
		lock, err := openAt(f.dir, lockName, unix.O_RDWR, 0)
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

// flock locks a file, or closes it and returns an error.
func flock(lock *os.File, timer <-chan time.Time) error {
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		return nil
	}
	done := make(chan error, 1)
	go func() {
		err := error(unix.EINTR)
		for errors.Is(err, unix.EINTR) {
			err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return errors.Join(&fs.PathError{Op: "flock", Path: lock.Name(), Err: err}, lock.Close())
		}
		return nil
	case <-timer:
		// Closing does not end the wait in the kernel: it has to come after it.
		go func() { <-done; lock.Close() }()
		return fmt.Errorf("%s: another process holds the lock: %w", lock.Name(), bridge.ErrBusy)
	}
}
