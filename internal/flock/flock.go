// Package flock takes file locks within a bounded time: flock(2) locks of whole
// files, and locks of single bytes that belong to an open file description
// (F_OFD_SETLK, fcntl(2)), so that one file can have a lock for each of many things.
package flock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"flatnet/bridge/model"
	"flatnet/internal/trace"

	"golang.org/x/sys/unix"
)

// ErrHeld reports that others held the lock until the end of the wait. It is a
// [model.ErrBusy].
var ErrHeld error = held{}

type held struct{}

func (held) Error() string { return "another process holds the lock" }

func (held) Is(kind error) bool { return kind == model.ErrBusy }

// Lock locks an open file, how being LOCK_SH or LOCK_EX. The lock ends when f is
// closed, or with the process. After an error the caller must close f. Errors name
// the file.
func Lock(f *os.File, how int, wait time.Duration) error {
	return within(f, wait, unix.Flock, how|unix.LOCK_NB, how)
}

// LockByte is Lock of the byte at an offset, which may be beyond the file's end.
// LOCK_EX requires f to be open for writing, LOCK_SH for reading. The lock belongs
// to the open file and not to the process, so another open file of the same process
// is excluded as well. It is independent of Lock.
func LockByte(f *os.File, offset int64, how int, wait time.Duration) error {
	kind := int16(unix.F_RDLCK)
	if how == unix.LOCK_EX {
		kind = unix.F_WRLCK
	}
	lock := func(fd, cmd int) error {
		return unix.FcntlFlock(uintptr(fd), cmd, &unix.Flock_t{Type: kind, Start: offset, Len: 1})
	}
	return within(f, wait, lock, unix.F_OFD_SETLK, unix.F_OFD_SETLKW)
}

// UnlockBytes ends all locks by LockByte of an open file. After ErrHeld closing it does not: the
// kernel goes on to wait, and while it does the file is open.
func UnlockBytes(f *os.File) {
	unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK})
}

// LockedBytes returns the offsets among n from an offset on whose bytes others have
// locked, in either way.
func LockedBytes(f *os.File, offset, n int64) (map[int64]bool, error) {
	locked := map[int64]bool{}
	if err := addLocked(f, offset, offset+n, locked); err != nil {
		return nil, &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return locked, nil
}

// addLocked adds the locked bytes from an offset on and before another. The kernel
// returns any one of them at a time.
func addLocked(f *os.File, from, end int64, locked map[int64]bool) error {
	if from >= end {
		return nil
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: from, Len: end - from}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); err != nil || lock.Type == unix.F_UNLCK {
		return err
	}
	at := max(from, lock.Start)
	locked[at] = true
	return errors.Join(addLocked(f, from, at, locked), addLocked(f, at+1, end, locked))
}

// within locks f: at once by the mode try, else for the wait by the mode block.
func within(f *os.File, wait time.Duration, lock func(fd, mode int) error, try, block int) error {
	t := trace.Call("lock", f.Name())
	err := lock(int(f.Fd()), try)
	if errors.Is(err, unix.EWOULDBLOCK) && wait > 0 {
		err = await(f, wait, func(fd int) error { return lock(fd, block) })
	}
	t.Done(err)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%s: %w", f.Name(), ErrHeld)
	}
	if err != nil {
		return &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return nil
}

// await lets the kernel wait for a lock; the error is EWOULDBLOCK if the time is
// over. Closing f would not end the kernel's wait, which so has a descriptor of its
// own that is closed after it.
func await(f *os.File, wait time.Duration, lock func(fd int) error) error {
	own, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		err := lock(own)
		for errors.Is(err, unix.EINTR) { // by a signal; the Go runtime sends some
			err = lock(own)
		}
		unix.Close(own)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(wait):
		return unix.EWOULDBLOCK
	}
}
