package ipam

import (
	"errors"
	"os"
	"testing"
	"time"

	"flatnet/bridge/model"
)

func hold(t *testing.T, dir string) folder {
	t.Helper()
	f, err := openFolder(dir, "flatnet", true)
	if err == nil {
		err = f.acquire(true, time.Now().Add(time.Minute))
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestLockThatOthersHold(t *testing.T) {
	s := store(tempDir(t), small(t))
	mustLease(t, s, key("c1"))
	f := hold(t, s.cfg.Dir)
	s.wait = time.Millisecond
	for verb, err := range verbs(s) {
		if verb == "Keys" || verb == "Check" {
			continue // read without it
		}
		if !errors.Is(err, model.ErrBusy) || err.Error() != s.cfg.Dir+"/.lock: another process holds the lock" {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if got := listed(t, s); got != "c1/eth0=10.87.1.2" {
		t.Errorf("List: %s", got)
	}
	f.close()
	// Those that gave up let go of the lock as soon as they get it.
	s.wait = lockWait
	for range 100 {
		mustRelease(t, s, key("c1"))
	}
}

// The lock holds even if its file is removed and made anew meanwhile.
func TestLockFileReplaced(t *testing.T) {
	dir := tempDir(t)
	held := hold(t, dir)
	if err := os.Remove(dir + "/.lock"); err != nil {
		t.Fatal(err)
	}
	f, err := openFolder(dir, "flatnet", true)
	if err != nil {
		t.Fatal(err)
	}
	if err = f.acquire(true, time.Now().Add(time.Millisecond)); !errors.Is(err, model.ErrBusy) {
		t.Errorf("another locked it, too: %v", err)
	}
	f.close()
	held.close()
	hold(t, dir).close()
}

// Leases without a lock file are locked anew; it is not taken for nothing there.
func TestLockFileMissing(t *testing.T) {
	s := store(tempDir(t), small(t))
	mustLease(t, s, key("c1"))
	if err := os.Remove(s.cfg.Dir + "/.lock"); err != nil {
		t.Fatal(err)
	}
	mustRelease(t, s, key("c1"))
	if got := listed(t, s); got != "" {
		t.Errorf("left %s", got)
	}
}
