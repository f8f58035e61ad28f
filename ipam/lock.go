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

// locked returns the folder with its lock, which makes other processes and
// goroutines wait, or a [bridge.ErrBusy] after the wait. Without create, a
// folder that has neither lock nor lease file is an fs.ErrNotExist.
func (f folder) locked(create bool, wait time.Duration) (folder, error) {
	timer := time.After(wait)
	for {
		lock, err := f.openLock(create)
		if err != nil {
			return f, err
		}
		if err := flock(lock, timer); err != nil {
			return f, err
		}
		current, err := f.isLock(lock)
		if current {
			f.lock = lock
			return f, nil
		}
		if err := errors.Join(err, lock.Close()); err != nil {
			return f, err
		}
	}
}

// isLock says whether an open file is still the lock file. Who removed that
// one while we waited may have let others make a new one, which then counts.
func (f folder) isLock(lock *os.File) (bool, error) {
	var ours, now unix.Stat_t
	err := unix.Fstat(int(lock.Fd()), &ours)
	if err == nil {
		err = f.stat(lockName, &now)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, &fs.PathError{Op: "stat", Path: lock.Name(), Err: err}
	}
	return err == nil && ours.Dev == now.Dev && ours.Ino == now.Ino, nil
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
