package ipam

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"flatnet/bridge/model"
	"flatnet/internal/lockdir"
)

// lock locks the folder of the network flatnet.
func lock(dir string, wait time.Duration) (*lockdir.Dir, error) {
	return store(dir, Sets{}).folder(func(p lockdir.Place) (*lockdir.Dir, error) { return p.Lock(true, wait) })
}

func mustLock(t *testing.T, dir string) *lockdir.Dir {
	t.Helper()
	d, err := lock(dir, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestLockThatOthersHold(t *testing.T) {
	s := store(tempDir(t), small(t))
	mustLease(t, s, key("c1"))
	d := mustLock(t, s.cfg.Dir)
	s.wait = time.Millisecond
	for verb, err := range verbs(s) {
		if verb == "Keys" || verb == "Check" {
			continue // read without it
		}
		if !errors.Is(err, model.ErrBusy) || !strings.HasSuffix(err.Error(), s.cfg.Dir+"/.lock: another process holds the lock") {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if got := listed(t, s); got != "c1/eth0=10.87.1.2" {
		t.Errorf("List: %s", got)
	}
	d.Close()
	// Those that gave up let go of the lock as soon as they get it.
	s.wait = lockWait
	for range 100 {
		mustRelease(t, s, key("c1"))
	}
}

// The lock holds even if its file is removed and made anew meanwhile.
func TestLockFileReplaced(t *testing.T) {
	dir := tempDir(t)
	locked := mustLock(t, dir)
	if err := os.Remove(dir + "/.lock"); err != nil {
		t.Fatal(err)
	}
	if _, err := lock(dir, time.Millisecond); !errors.Is(err, model.ErrBusy) {
		t.Errorf("another locked it, too: %v", err)
	}
	locked.Close()
	mustLock(t, dir).Close()
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
