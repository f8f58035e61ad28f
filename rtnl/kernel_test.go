package rtnl

import (
	"errors"
	"os"
	"reflect"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// inFresh runs a test's function in network namespaces of its own: there, and with
// the descriptor of another one.
func inFresh(t *testing.T, test func(c *Conn, other int)) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("making network namespaces needs root: run the tests as root")
	}
	done := make(chan struct{})
	go func() { // the thread ends with the goroutine, which never unlocks it
		defer close(done)
		runtime.LockOSThread()
		fresh := func() int {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				t.Errorf("unshare: %v", err)
				return -1
			}
			fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
			}
			return fd
		}
		other, own := fresh(), fresh()
		defer unix.Close(other)
		defer unix.Close(own)
		c, err := Dial()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		test(c, other)
	}()
	<-done
}

// Both ends of a pair name each other, and the host's end the other's namespace.
func TestPeerOfAPair(t *testing.T) {
	inFresh(t, func(c *Conn, other int) {
		if id, err := c.NetNSID(other); id != -1 || err != nil {
			t.Errorf("a namespace that no link leads to has the ID %d, %v", id, err)
		}
		made, err := c.AddVeth(Veth{Name: "v0", MAC: mac("02:11:22:33:44:55"), Peer: "eth0", PeerMAC: mac("02:11:22:33:44:56"), PeerNS: other})
		if err != nil {
			t.Error(err)
			return
		}
		l, err := c.LinkByName("v0")
		id, ierr := c.NetNSID(other)
		if err := errors.Join(err, ierr); err != nil || !reflect.DeepEqual(made, l) || l.PeerNS != id || id < 0 || l.Peer == 0 || l.Kind != "veth" {
			t.Errorf("%+v, namespace %d, %v", l, id, err)
		}
		lo, err := c.LinkByName("lo")
		if err != nil || lo.PeerNS != -1 {
			t.Errorf("%+v, %v", lo, err)
		}
		if _, err := c.NetNSID(int(os.Stdin.Fd())); err == nil {
			t.Error("the ID of what is no namespace")
		}
	})
}
