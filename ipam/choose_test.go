package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"flatnet/bridge/model"
)

// hosting is a host with the addresses of some prefixes on eth0.
func hosting(prefixes ...string) model.Locals {
	return func(a netip.Addr) (model.Local, error) {
		for _, s := range prefixes {
			if p := netip.MustParsePrefix(s); p.Contains(a) {
				return model.Local{Prefix: p, Link: "eth0"}, nil
			}
		}
		return model.Local{}, nil
	}
}

func TestHostsAddressesAreNotLeased(t *testing.T) {
	all := sets(t, []Range{rng(t, "10.87.1.0/24", "", "10.87.1.9")}, []Range{rng(t, "fd00::/64")})
	host := hosting("10.87.1.2/32", "10.87.1.4/31", "fd00::/80", "10.87.1.77/32", "10.87.1.128/30")
	s := store(tempDir(t), all)
	for _, tt := range []struct{ id, want, got, text string }{
		{"c1", "", "10.87.1.3,fd00::1:0:0:0", ""},
		{"c2", "", "10.87.1.6,fd00::1:0:0:1", ""},
		{"c3", "10.87.1.77", "", "address 10.87.1.77 is the host's own (10.87.1.77/32 on interface eth0)"},
		{"c3", "10.87.1.130", "", "address 10.87.1.130 is the host's own (10.87.1.128/30 on interface eth0)"},
		{"c3", "fd00::9", "", "address fd00::9 is the host's own (fd00::/80 on interface eth0)"},
		{"c3", "10.87.1.78", "10.87.1.78,fd00::1:0:0:2", ""},
	} {
		var want []netip.Addr
		if tt.want != "" {
			want = addrs(tt.want)
		}
		l, err := s.Lease(key(tt.id), want, host)
		if leased(l) != tt.got || tt.text != "" && (!errors.Is(err, model.ErrTaken) || err.Error() != tt.text) || tt.text == "" && err != nil {
			t.Errorf("%s wants %q: got %s, %v", tt.id, tt.want, leased(l), err)
		}
	}
	// What it had is the host's now, and so is all that is left.
	l, err := s.Lease(key("c1"), nil, hosting("10.87.1.3/32"))
	if err != nil || !l.Had || leased(l) != "10.87.1.7,fd00::1:0:0:0" {
		t.Errorf("again: %s, held %v, %v", leased(l), l.Had, err)
	}
	if _, err := s.Lease(key("c4"), nil, hosting("10.87.1.0/24")); !errors.Is(err, model.ErrExhausted) {
		t.Errorf("all the host's: %v", err)
	}
	if err := s.Free(hosting("fd00::/64")); !errors.Is(err, model.ErrExhausted) {
		t.Errorf("Free: %v", err)
	}
	failure := errors.New("no netlink")
	for _, want := range [][]netip.Addr{nil, addrs("10.87.1.99")} {
		broken := func(netip.Addr) (model.Local, error) { return model.Local{}, failure }
		if _, err := s.Lease(key("c5"), want, broken); !errors.Is(err, failure) {
			t.Errorf("host is unknown, wants %v: %v", want, err)
		}
	}
}

func TestWantedAddressOfAStaleLease(t *testing.T) {
	c1, c2 := owner(key("c1"), "10.87.1.2"), owner(key("c2"), "10.87.1.3")
	s := full(t, c1, c2)
	for _, want := range []string{"10.87.1.2", "10.87.1.3"} {
		if _, err := s.Lease(key("new"), addrs(want), noLocals); !errors.Is(err, model.ErrTaken) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if got := mustLease(t, s, key("new"), "10.87.1.4"); got != "10.87.1.4" {
		t.Errorf("got %s", got)
	}
	if got := listed(t, s); got != "c1/eth0=10.87.1.2 c2/eth0=10.87.1.3 new/eth0=10.87.1.4" {
		t.Errorf("leases %s", got)
	}
	// One of two addresses goes, the other stays its owner's.
	s = full(t)
	writeFile(t, s.cfg.Dir+"/allocations.json", `{"allocations": {"c1": "10.87.1.2,fd00::2"}}`)
	mustLease(t, s, key("new"), "10.87.1.2")
	if got := listed(t, s); got != "c1/eth0=fd00::2 new/eth0=10.87.1.2" {
		t.Errorf("leases %s", got)
	}
}

// All wanted addresses are given, also several of one set; a later ADD that asks for none gets
// one of each set.
func TestSeveralWantedAddresses(t *testing.T) {
	s := store(tempDir(t), small(t))
	if got := mustLease(t, s, key("c1"), "10.87.1.3", "10.87.1.2", "10.87.1.3"); got != "10.87.1.3,10.87.1.2" {
		t.Errorf("got %s", got)
	}
	if got := listed(t, s); got != "c1/eth0=10.87.1.3,10.87.1.2" && got != "c1/eth0=10.87.1.2,10.87.1.3" {
		t.Errorf("leases %s", got)
	}
	if got := mustLease(t, s, key("c2")); got != "10.87.1.4" {
		t.Errorf("got %s", got)
	}
}

// An ADD in flight keeps its address even if the file that says so is gone.
func TestAddressInFlightIsNotLeased(t *testing.T) {
	s := store(tempDir(t), small(t))
	l, err := s.Lease(key("c1"), nil, noLocals)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.cfg.Dir + "/allocations.json"); err != nil {
		t.Fatal(err)
	}
	if got := mustLease(t, s, key("c2")); got != "10.87.1.3" {
		t.Errorf("got %s", got)
	}
	if _, err := s.Lease(key("c3"), addrs("10.87.1.2"), noLocals); !errors.Is(err, model.ErrBusy) ||
		fmt.Sprint(err) != "address 10.87.1.2 is being given to another container" {
		t.Errorf("wanted: %v", err)
	}
	l.Flight.Close()
	if got := mustLease(t, s, key("c3"), "10.87.1.2"); got != "10.87.1.2" {
		t.Errorf("got %s", got)
	}
}
