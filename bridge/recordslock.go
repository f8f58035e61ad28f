package bridge

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"flatnet/internal/flock"

	"golang.org/x/sys/unix"
)

// during runs fn while no reload is under way, which could otherwise restore
// what fn removes.
func (r records) during(fn func() error) error {
	unlock, err := r.lock(unix.LOCK_SH)
	if errors.Is(err, ErrBusy) {
		return err
	}
	if err != nil {
		r.say(fmt.Errorf("can't lock /run/flatnet (continuing; a concurrent flatnet reload may conflict): %w", err))
		return fn()
	}
	defer unlock()
	return fn()
}

// lockWait is how long a reload may take; it takes some milliseconds.
const lockWait = 10 * time.Second

// lock waits for the lock; how is LOCK_SH or LOCK_EX.
func (r records) lock(how int) (unlock func() error, err error) {
	return r.lockWithin(how, lockWait)
}

func (r records) lockWithin(how int, wait time.Duration) (unlock func() error, err error) {
	if r.dir == "" {
		return func() error { return nil }, nil
	}
	f, err := r.open()
	if err != nil {
		return nil, err
	}
	if err := flock.Lock(f, how, wait); err != nil {
		if errors.Is(err, flock.ErrHeld) {
			err = fmt.Errorf("%w: %w", err, ErrBusy)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}

// inTurn runs a verb of one attachment while no other process has one of the same
// under way, such as an ADD whose runtime was killed. One that goes on for longer than
// the wait is an [ErrBusy].
func (r records) inTurn(key Key, verb func() error) error {
	f, err := r.open()
	if err == nil && f != nil {
		defer f.Close() // nothing was written to it
		err = flock.LockByte(f, key.Place(), unix.LOCK_EX, lockWait)
	}
	switch {
	case errors.Is(err, flock.ErrHeld):
		return fmt.Errorf("another call for %s has been under way for %v; try again: %w: %w", key, lockWait, err, ErrBusy)
	case err != nil:
		r.say(fmt.Errorf("can't lock %s (continuing; another call for it at the same moment may conflict): %w", key, err))
	}
	return verb()
}

// turns takes the turns of all keys that no other process has one of, without a
// wait. They end with end.
func (r records) turns(keys []Key) (free, held []Key, end func()) {
	f, err := r.open()
	if err != nil {
		r.say(fmt.Errorf("can't lock attachments (continuing; another call for one of them at the same moment may conflict): %w", err))
	}
	if err != nil || f == nil {
		return keys, nil, func() {}
	}
	for _, key := range keys {
		if errors.Is(flock.LockByte(f, key.Place(), unix.LOCK_EX, 0), flock.ErrHeld) {
			held = append(held, key)
		} else {
			free = append(free, key)
		}
	}
	return free, held, func() { f.Close() } // nothing was written to it
}

// open opens the file of locks: nil if nothing is kept.
func (r records) open() (*os.File, error) {
	if r.dir == "" {
		return nil, nil
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, err
	}
	for _, dir := range []string{filepath.Dir(r.dir), r.dir} {
		if err := r.keepPrivate(dir); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(filepath.Join(r.dir, ".lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
}

// keepPrivate takes a directory of records from other users, who could hold its
// locks, such as one that mkdir made.
func (r records) keepPrivate(dir string) error {
	st, err := os.Lstat(dir)
	if err != nil || st.Mode().Perm()&0o077 == 0 {
		return err
	}
	if !st.IsDir() {
		return fmt.Errorf("%s must be a directory: %w", dir, ErrConflict)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	r.say(fmt.Errorf("directory %s was open to other users, who could hold its locks; its mode was %04o and now is 0700", dir, st.Mode().Perm()))
	return nil
}

// hold keeps the record of an ADD that goes on from being taken for a vanished
// attachment's, until it is closed: nil if there is no record to keep.
func (r records) hold(key Key) *os.File {
	if r.dir == "" {
		return nil
	}
	f, err := os.Open(r.wishFile(key))
	if err != nil {
		return nil
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil {
		f.Close()
		return nil
	}
	return f
}

// held says whether an ADD holds the record, or could.
func (r records) held(key Key) bool {
	if r.dir == "" {
		return false
	}
	f, err := os.Open(r.wishFile(key))
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
}
