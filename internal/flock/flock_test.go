package flock

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, second, third := open(t, path), open(t, path), open(t, path)
	for _, f := range []*os.File{first, second} {
		if err := Lock(f, unix.LOCK_SH, 0); err != nil {
			t.Errorf("shared: %v", err)
		}
	}
	if err := Lock(third, unix.LOCK_EX, time.Millisecond); !errors.Is(err, ErrHeld) {
		t.Errorf("exclusive beside shared: %v", err)
	}
	// Who gave up is in nobody's way, though it still waits in the kernel.
	third.Close()
	got := make(chan error)
	fourth := open(t, path)
	go func() { got <- Lock(fourth, unix.LOCK_EX, time.Minute) }()
	first.Close()
	second.Close()
	if err := <-got; err != nil {
		t.Errorf("after the others are closed: %v", err)
	}
}

func TestLockOfWhatCannotBeLocked(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "lock"))
	f.Close()
	if err := Lock(f, unix.LOCK_EX, time.Minute); !errors.Is(err, unix.EBADF) {
		t.Errorf("closed: %v", err)
	}
}
