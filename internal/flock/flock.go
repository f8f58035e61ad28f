// Package flock waits for file locks, but not for ever: flock(2) locks of whole
// files, and open file descriptions' locks of single bytes (F_OFD_SETLK, fcntl(2)),
// by which one file holds a lock for each of many things.
package flock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrHeld reports that others have held the lock for all of the wait.
var ErrHeld = errors.New("another process holds the lock")

// Lock locks an open file, how being LOCK_SH or LOCK_EX. The lock ends when f is
// closed, or with the process. After an error the caller must close f. Errors name
// the file.
func Lock(f *os.File, how int, wait time.Duration) error {
	return within(f, "flock", wait, func(fd uintptr, block bool) error {
		if block {
			return unix.Flock(int(fd), how)
		}
		return unix.Flock(int(fd), how|unix.LOCK_NB)
	})
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
	return within(f, "lock", wait, func(fd uintptr, block bool) error {
		cmd := unix.F_OFD_SETLK
		if block {
			cmd = unix.F_OFD_SETLKW
		}
		return unix.FcntlFlock(fd, cmd, &unix.Flock_t{Type: kind, Start: offset, Len: 1})
	})
}

// ByteHeld reports whether another holds the byte at an offset, in either way.
func ByteHeld(f *os.File, offset int64) (bool, error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: offset, Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		return false, &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return lock.Type != unix.F_UNLCK, nil
}

// within tries a lock at once, and then for the wait, if any, in the kernel. There
// closing f would not end the wait: so that is by another descriptor, which is closed
// after it.
func within(f *os.File, op string, wait time.Duration, lock func(fd uintptr, block bool) error) error {
	err := again(func() error { return lock(f.Fd(), false) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		if wait <= 0 {
			return fmt.Errorf("%s: %w", f.Name(), ErrHeld)
		}
		err = await(f, wait, func(fd uintptr) error { return lock(fd, true) })
	}
	if err == nil || errors.Is(err, ErrHeld) {
		return err
	}
	return &fs.PathError{Op: op, Path: f.Name(), Err: err}
}

func await(f *os.File, wait time.Duration, lock func(fd uintptr) error) error {
	own, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		err := again(func() error { return lock(uintptr(own)) })
		unix.Close(own)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(wait):
		return fmt.Errorf("%s: %w", f.Name(), ErrHeld)
	}
}

// again repeats a call that a signal interrupted; the Go runtime sends some.
func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
