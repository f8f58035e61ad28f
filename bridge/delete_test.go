package bridge

import (
	"errors"
	"testing"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/testns"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

var testKey = model.Key{Network: "flatnet", ContainerID: "c1", IfName: "eth0"}

// inNamespace runs fn in a new network namespace, on a thread that ends with it.
func inNamespace(t *testing.T, fn func(*call)) {
	t.Helper()
	testns.Run(t, func() {
		h, err := host.Open(func(text string) { t.Errorf("warning: %s", text) })
		if err != nil {
			t.Error(err)
			return
		}
		defer h.Close()
		fn(&call{Host: h})
	})
}

// A container that ends takes its links along while they are deleted; the race detector
// sees whether the two sides share anything.
func TestDeleteEndsThatGo(t *testing.T) {
	inNamespace(t, func(c *call) {
		gone := []rtnl.Link{{Index: 1000, Name: "fn-c1"}, {Index: 1001, Name: "fn-c2"}}
		for range 20 {
			finish, err := c.deleteEnds(testKey, gone)
			if err = errors.Join(err, finish()); err != nil {
				t.Error(err)
			}
		}
	})
}

// The lease of an attachment is given back when deleteEnds returns. What has its name by
// the key alone must be gone by then.
func TestDeleteEndsOfALimit(t *testing.T) {
	inNamespace(t, func(c *call) {
		mark := testKey.Mark()
		for range 5 {
			if err := c.AddLink("ifb", testKey.IFBName(), mark[:], 0); err != nil {
				t.Error(err)
				return
			}
			finish, err := c.deleteEnds(testKey, nil)
			if err != nil {
				t.Error(err)
			}
			if l, err := c.LinkByName(testKey.IFBName()); err != nil || l.Index != 0 {
				t.Errorf("%s is there, %v", l.Name, err)
			}
			if err := finish(); err != nil {
				t.Error(err)
			}
		}
	})
}

// A removal needs no further socket: the undo of an ADD may have none because that was
// what failed.
func TestDeleteEndsWithoutASocket(t *testing.T) {
	inNamespace(t, func(c *call) {
		mark := testKey.Mark()
		if err := c.AddLink("bridge", "fn-c1", mark[:], 0); err != nil {
			t.Error(err)
			return
		}
		l, err := c.LinkByName("fn-c1")
		var was unix.Rlimit
		if err = errors.Join(err, unix.Getrlimit(unix.RLIMIT_NOFILE, &was)); err != nil {
			t.Error(err)
			return
		}
		unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: was.Max})
		finish, err := c.deleteEnds(testKey, []rtnl.Link{l})
		unix.Setrlimit(unix.RLIMIT_NOFILE, &was)
		if err != nil {
			t.Error(err)
			return
		}
		if l, err = c.LinkByName("fn-c1"); err != nil || l.Index != 0 || finish() != nil {
			t.Errorf("%s is there, %v", l.Name, err)
		}
	})
}
