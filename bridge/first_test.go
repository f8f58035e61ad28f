package bridge

import (
	"errors"
	"net/netip"
	"testing"
)

func linkFirst() Network {
	n := flatNetwork()
	n.LinkFirst = true
	return n
}

// A watcher sees which links there are when it is asked for a lease.
type watcher struct {
	fakeAllocator
	kernel *fakeKernel
	seen   int
}

func (w *watcher) Lease(key Key, want []netip.Addr, locals Locals) (Lease, bool, error) {
	w.seen = len(w.kernel.inside)
	return w.fakeAllocator.Lease(key, want, locals)
}

func TestLinkComesFirst(t *testing.T) {
	k := newFake(0)
	w := &watcher{kernel: k}
	res, err := attachNetwork(t, k, w, linkFirst())
	if err != nil || w.seen != 1 || len(k.host) != 2 || !w.leased {
		t.Fatalf("%v, %d links at the time of the lease, then %v", err, w.seen, k.host)
	}
	if got := res.Interfaces[2].MAC; got != testKey.containerMAC().String() {
		t.Errorf("the MAC is %s", got)
	}
	if len(res.IPs) != 1 || res.IPs[0].Address != pfx("10.87.1.2/24") {
		t.Errorf("the result is %+v", res)
	}
}

func TestLinkFirstUndoneAtEveryMessage(t *testing.T) {
	whole := newFake(0)
	if _, err := attachNetwork(t, whole, &fakeAllocator{}, linkFirst()); err != nil {
		t.Fatal(err)
	}
	for refuse := 1; refuse <= whole.count; refuse++ {
		k, alloc := newFake(refuse), &fakeAllocator{}
		_, err := attachNetwork(t, k, alloc, linkFirst())
		if k.refusedAdvice() && err == nil {
			continue
		}
		if !errors.Is(err, errRefused) {
			t.Errorf("message %d (%s): error %v", refuse, k.refused, err)
		}
		delete(k.host, DefaultBridge)
		if len(k.host) != 0 || len(k.inside) != 0 || k.tables != 0 || alloc.leased {
			t.Errorf("message %d (%s) left host links %v, inside %v, %d tables, lease %v",
				refuse, k.refused, k.host, k.inside, k.tables, alloc.leased)
		}
	}
	t.Logf("refused each of %d messages in turn", whole.count)
}

func TestLinkFirstWithoutLease(t *testing.T) {
	k := newFake(0)
	_, err := attachNetwork(t, k, &fakeAllocator{fail: ErrExhausted}, linkFirst())
	if delete(k.host, DefaultBridge); !errors.Is(err, ErrExhausted) || len(k.host) != 0 {
		t.Errorf("error %v, links %v", err, k.host)
	}
}

func TestNoAddressWantsNoLease(t *testing.T) {
	n := flatNetwork()
	n.NoAddress = true
	k, alloc := newFake(0), &fakeAllocator{fail: ErrExhausted}
	res, err := attachNetwork(t, k, alloc, n)
	if err != nil || len(res.IPs) != 0 || len(k.inside) != 1 || k.tables != 0 {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestPlanOfAnotherPluginsLease(t *testing.T) {
	for _, tt := range []struct {
		name            string
		address         Address
		gateway, wanted string // of the attachment; wanted error
	}{
		{"gateway as leased", Address{pfx("10.9.0.5/24"), ip("10.9.0.254")}, "10.9.0.254", ""},
		{"gateway that is not said", Address{Prefix: pfx("10.9.0.5/24")}, "10.9.0.1", ""},
		{"IPv6", Address{Prefix: pfx("fd09::5/64")}, "fd09::1", ""},
		{"the gateway's own", Address{pfx("10.9.0.1/24"), ip("10.9.0.1")}, "", "address 10.9.0.1 of flatnet/0123456789abcdef/eth0 is the gateway's: invalid"},
	} {
		a, err := Plan(linkFirst(), Request{Key: testKey}, Lease{Addresses: []Address{tt.address}})
		if tt.wanted != "" {
			if err == nil || err.Error() != tt.wanted {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if err != nil || a.Addresses[0].Gateway != ip(tt.gateway) || a.Gateways[0].Addr() != ip(tt.gateway) {
			t.Errorf("%s: %+v, %v", tt.name, a, err)
		}
	}
}

func TestAliasWithoutAddresses(t *testing.T) {
	o := Owner{Key: testKey, Mark: testKey.Mark()}
	if got := parseOwner("", o.Mark, o.alias()); got.Key != testKey || got.Addresses != nil {
		t.Errorf("%q reads as %+v", o.alias(), got)
	}
}
