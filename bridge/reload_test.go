package bridge

import (
	"errors"
	"testing"
	"time"

	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// While a reload reads what there is, nobody else may change it.
func TestReloadHoldsTheLock(t *testing.T) {
	r := records{dir: t.TempDir()}
	looked := false
	stop := errors.New("stop")
	h := &Host{records: r, route: func() (*rtnl.Conn, error) {
		looked = true
		unlock, err := r.lockWithin(unix.LOCK_SH, 0)
		if !errors.Is(err, ErrBusy) {
			t.Errorf("the lock is free: %v", errors.Join(err, unlock()))
		}
		return nil, stop
	}}
	if _, err := h.Reload(); !errors.Is(err, stop) || !looked {
		t.Errorf("got %v", err)
	}
	if unlock, err := r.lock(unix.LOCK_EX); err != nil || unlock() != nil {
		t.Errorf("the lock is still held: %v", err)
	}
}

func TestChangesShareTheLock(t *testing.T) {
	r := records{dir: t.TempDir()}
	err := r.during(func() error {
		return r.during(func() error {
			_, err := r.lockWithin(unix.LOCK_EX, time.Millisecond)
			return err
		})
	})
	if !errors.Is(err, ErrBusy) {
		t.Errorf("a reload got the lock meanwhile: %v", err)
	}
}
