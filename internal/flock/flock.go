// Package flock waits for flock(2) locks, but not for ever.
package flock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrHeld is a lock that others have held for all of the wait.
var ErrHeld = errors.New("another process holds the lock")

// Lock locks an open file, how being LOCK_SH or LOCK_EX. The lock ends when f is
// closed; if there is an error, as soon as there is one. Errors name the file.
func Lock(f *os.File, how int, wait time.Duration) error {
	err := lock(int(f.Fd()), how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		if err = lockWithin(f, how, wait); errors.Is(err, ErrHeld) {
			return err
		}
	}
	if err != nil {
		return &fs.PathError{Op: "flock", Path: f.Name(), Err: err}
	}
	return nil
}

// lockWithin waits in the kernel, where closing f would not end the wait: so by
// another descriptor, which is closed after it.
func lockWithin(f *os.File, how int, wait time.Duration) error {
	own, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		err := lock(own, how)
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

func lock(fd, how int) error {
	for {
		if err := unix.Flock(fd, how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
