package shaping

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/testns"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// inNamespace runs fn in a new network namespace, on a thread that ends with it.
func inNamespace(t *testing.T, fn func(*host.Host)) {
	t.Helper()
	if _, err := exec.LookPath("tc"); err != nil {
		t.Skip("needs ip and tc: apt-get install iproute2")
	}
	testns.Run(t, func() {
		h, err := host.Open(func(text string) { t.Errorf("warning: %s", text) })
		if err != nil {
			t.Error(err)
			return
		}
		defer h.Close()
		fn(h)
	})
}

// Whatever somebody takes away of an attachment's limits is a fault, and Put mends it.
func TestPutMendsEachPart(t *testing.T) {
	inNamespace(t, func(h *host.Host) {
		a := &model.Attachment{Key: model.Key{Network: "flatnet", ContainerID: "c1", IfName: "eth0"}}
		a.MTU = 1400
		ns, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			t.Error(err)
			return
		}
		defer ns.Close()
		mark := a.Key.Mark()
		if _, err := h.AddVeth(rtnl.Veth{Name: "fn-c1", MAC: mark[:], Peer: "eth0", PeerMAC: []byte{2, 0, 0, 0, 0, 1}, PeerNS: int(ns.Fd())}); err != nil {
			t.Error(err)
			return
		}
		faults := func(want int) {
			t.Helper()
			end, err := h.LinkByName("fn-c1")
			if found := Faults(h, a, end); len(found) != want || err != nil {
				t.Errorf("faults %v, %v; want %d", found, err, want)
			}
		}
		put := func() {
			t.Helper()
			end, err := h.LinkByName("fn-c1")
			if err := errors.Join(err, Put(h, a, end.Index)); err != nil {
				t.Error(err)
			}
			faults(0)
		}
		put() // nothing
		a.Bandwidth = model.Bandwidth{Ingress: model.Limit{Rate: 1e6}, Egress: model.Limit{Rate: 1e6}}
		faults(2)
		put()
		put()
		for _, spoil := range []string{
			"tc qdisc del dev fn-c1 root", "tc qdisc del dev fn-c1 ingress", "tc filter del dev fn-c1 ingress",
			"tc qdisc del dev " + a.Key.IFBName() + " root", "ip link set " + a.Key.IFBName() + " down", "ip link del " + a.Key.IFBName(),
		} {
			args := strings.Fields(spoil)
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", spoil, err, out)
			}
			faults(1)
			put()
		}
		for range 2 {
			if err := Remove(h, a.Key); err != nil {
				t.Error(err)
			}
			faults(1)
		}
		othersStays(t, h, a)
	})
}

// Another's device of that name stays.
func othersStays(t *testing.T, h *host.Host, a *model.Attachment) {
	t.Helper()
	if err := h.AddLink("ifb", a.Key.IFBName(), []byte{2, 0, 0, 0, 0, 9}, 0); err != nil {
		t.Error(err)
	}
	end, err := h.LinkByName("fn-c1")
	if err != nil {
		t.Error(err)
	}
	if err := Put(h, a, end.Index); !errors.Is(err, unix.EEXIST) {
		t.Errorf("another's device: %v", err)
	}
	if err := Remove(h, a.Key); err != nil {
		t.Error(err)
	}
	if l, err := h.LinkByName(a.Key.IFBName()); err != nil || l.Kind != "ifb" {
		t.Errorf("another's device: %v, %v", l, err)
	}
}
