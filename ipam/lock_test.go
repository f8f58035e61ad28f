package ipam

import (
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"flatnet/bridge"
)

func hold(t *testing.T, dir string) folder {
	t.Helper()
	f, err := openFolder(dir, "flatnet", true)
	if err == nil {
		f, err = f.locked(true, time.Minute)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func release(t *testing.T, f folder) {
	t.Helper()
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
}

func TestLockThatOthersHold(t *testing.T) {
	s := store(t.TempDir(), small(t))
	mustLease(t, s, key("c1"))
	f := hold(t, s.cfg.Dir)
	s.wait = time.Millisecond
	for verb, err := range verbs(s) {
		if verb == "Keys" || verb == "Check" {
			continue // read without it
		}
		if !errors.Is(err, bridge.ErrBusy) || err.Error() != s.cfg.Dir+"/.lock: another process holds the lock: busy" {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if got := listed(t, s); got != "c1/eth0=10.87.1.2" {
		t.Errorf("List: %s", got)
	}
	release(t, f)
	// Those that gave up let go of the lock as soon as they get it.
	s.wait = lockWait
	for range 100 {
		mustRelease(t, s, key("c1"))
	}
}

// A process that waits for a lock file which is removed meanwhile must wait
// for that which others have made in its place.
func TestLockFileReplaced(t *testing.T) {
	dir := t.TempDir()
	first := hold(t, dir)
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, dir+"/.lock", unix.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	var free atomic.Bool
	done := make(chan error)
	go func() {
		f, err := openFolder(dir, "flatnet", true)
		if err == nil {
			f, err = f.locked(true, time.Minute)
		}
		if err == nil && !free.Load() {
			err = errors.New("locked although another has the lock")
		}
		done <- errors.Join(err, f.close())
	}()
	if _, err := unix.Read(watch, make([]byte, 4096)); err != nil { // it has opened the first
		t.Fatal(err)
	}
	if err := os.Remove(dir + "/.lock"); err != nil {
		t.Fatal(err)
	}
	second := hold(t, dir)
	if _, err := unix.InotifyAddWatch(watch, dir+"/.lock", unix.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	release(t, first)
	if _, err := unix.Read(watch, make([]byte, 4096)); err != nil { // it has opened the second
		t.Fatal(err)
	}
	free.Store(true)
	release(t, second)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Leases without a lock file are locked anew; it is not taken for nothing there.
func TestLockFileMissing(t *testing.T) {
	s := store(t.TempDir(), small(t))
	mustLease(t, s, key("c1"))
	if err := os.Remove(s.cfg.Dir + "/.lock"); err != nil {
		t.Fatal(err)
	}
	mustRelease(t, s, key("c1"))
	if got := listed(t, s); got != "" {
		t.Errorf("left %s", got)
	}
	// Nor is a descriptor whose file is gone.
	f := hold(t, s.cfg.Dir)
	defer f.close()
	if err := os.Remove(s.cfg.Dir + "/.lock"); err != nil {
		t.Fatal(err)
	}
	if ok, err := f.isLock(f.lock); ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
}
