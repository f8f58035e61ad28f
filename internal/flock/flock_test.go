package flock

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
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

// locks are both kinds, at one place.
var locks = map[string]func(*os.File, int, time.Duration) error{
	"file": Lock,
	"byte": func(f *os.File, how int, wait time.Duration) error { return LockByte(f, 1<<47, how, wait) },
}

func TestLock(t *testing.T) {
	for name, lock := range locks {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "lock")
			first, second, third := open(t, path), open(t, path), open(t, path)
			for _, f := range []*os.File{first, second} {
				if err := lock(f, unix.LOCK_SH, 0); err != nil {
					t.Errorf("shared: %v", err)
				}
			}
			if err := lock(third, unix.LOCK_EX, time.Millisecond); !errors.Is(err, ErrHeld) {
				t.Errorf("exclusive beside shared: %v", err)
			}
			// A waiter that gave up blocks no other, though it still waits in the kernel.
			third.Close()
			got := make(chan error)
			fourth := open(t, path)
			go func() { got <- lock(fourth, unix.LOCK_EX, time.Minute) }()
			first.Close()
			second.Close()
			if err := <-got; err != nil {
				t.Errorf("after the others are closed: %v", err)
			}
			if err := lock(open(t, path), unix.LOCK_SH, time.Millisecond); !errors.Is(err, ErrHeld) {
				t.Errorf("shared beside exclusive: %v", err)
			}
		})
	}
}

func TestLocksOfBytesAreIndependent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	locked, other := open(t, path), open(t, path)
	if err := Lock(locked, unix.LOCK_EX, 0); err != nil {
		t.Fatal(err)
	}
	if err := LockByte(locked, 7, unix.LOCK_EX, 0); err != nil {
		t.Fatal(err)
	}
	for _, offset := range []int64{3, 1 << 47} {
		if err := LockByte(open(t, path), offset, unix.LOCK_EX, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := LockByte(other, 8, unix.LOCK_EX, 0); err != nil {
		t.Errorf("another byte: %v", err)
	}
	for _, tt := range []struct {
		offset, n int64
		want      []int64 // not its own
	}{{0, 1 << 48, []int64{3, 7, 1 << 47}}, {4, 1 << 48, []int64{7, 1 << 47}}, {0, 7, []int64{3}}, {7, 1, []int64{7}}, {4, 3, nil}} {
		got, err := LockedBytes(other, tt.offset, tt.n)
		if err != nil || !slices.Equal(slices.Sorted(maps.Keys(got)), tt.want) {
			t.Errorf("%d from %d: locked %v, %v", tt.n, tt.offset, got, err)
		}
	}
}

func TestLockOfWhatCannotBeLocked(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "lock"))
	f.Close()
	for name, lock := range locks {
		if err := lock(f, unix.LOCK_EX, time.Minute); !errors.Is(err, unix.EBADF) {
			t.Errorf("closed, %s: %v", name, err)
		}
	}
	if _, err := LockedBytes(f, 0, 1); !errors.Is(err, unix.EBADF) {
		t.Errorf("closed: %v", err)
	}
}
