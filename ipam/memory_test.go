package ipam

import (
	"fmt"
	"strings"
	"testing"

	"flatnet/bridge/model"
)

// dual is a network of both families, with four addresses of IPv4 and more of IPv6.
func dual(t *testing.T) Sets {
	return sets(t, []Range{rng(t, "10.87.1.0/24", "", "10.87.1.5")}, []Range{rng(t, "fd00::/64")})
}

// remembering returns a store in which c1, c2 and c3 have had the addresses 2, 3 and 4.
func remembering(t *testing.T, s Sets) *Store {
	t.Helper()
	st := store(tempDir(t), s)
	for _, id := range []string{"c1", "c2", "c3"} {
		mustLease(t, st, key(id))
	}
	for _, id := range []string{"c1", "c2", "c3"} {
		mustRelease(t, st, key(id))
	}
	return st
}

func TestSameAddressAgain(t *testing.T) {
	s := remembering(t, dual(t))
	if got := mustLease(t, s, key("new")); got != "10.87.1.5,fd00::5" {
		t.Errorf("another got %s", got)
	}
	for _, tt := range []struct{ id, want string }{
		{"c3", "10.87.1.4,fd00::4"}, {"c1", "10.87.1.2,fd00::2"}, {"c2", "10.87.1.3,fd00::3"},
	} {
		l, err := s.Lease(key(tt.id), nil, noLocals)
		if err != nil || leased(l) != tt.want || l.Had || !l.Again {
			t.Errorf("%s got %s, had %v, again %v, %v", tt.id, leased(l), l.Had, l.Again, err)
		}
		l.Flight.Close()
		mustRelease(t, s, key(tt.id))
		if got := mustLease(t, s, key(tt.id)); got != tt.want {
			t.Errorf("%s got %s", tt.id, got)
		}
	}
	// Another interface is another attachment, and a wanted address is wanted.
	mustRelease(t, s, key("c1"))
	if got := mustLease(t, s, keyIf("c1", "eth1"), "10.87.1.77"); got != "10.87.1.77,fd00::6" {
		t.Errorf("another interface got %s", got)
	}
	if got := mustLease(t, s, key("c1"), "10.87.1.78"); got != "10.87.1.78,fd00::2" {
		t.Errorf("c1 got %s", got)
	}
	if got := readFile(t, s.cfg.Dir+"/allocations.json"); strings.Contains(got, "released") {
		t.Errorf("remembered of those that have leases: %s", got)
	}
}

// Whoever needs an address gets it: a container that asks for it, and any container when
// there is no other, the one released first before others.
func TestMemoryYields(t *testing.T) {
	s := remembering(t, small(t))
	if got := mustLease(t, s, key("w"), "10.87.1.3"); got != "10.87.1.3" {
		t.Errorf("wanted: %s", got)
	}
	for i, want := range []string{"10.87.1.2", "10.87.1.4"} {
		if err := s.Free(noLocals); err != nil {
			t.Error(err)
		}
		if got := mustLease(t, s, key(fmt.Sprint("n", i))); got != want {
			t.Errorf("number %d got %s", i, got)
		}
	}
	mustRelease(t, s, key("w"))
	// c2 had it before, but w had it last.
	if got := mustLease(t, s, key("w")); got != "10.87.1.3" {
		t.Errorf("w got %s", got)
	}
	mustRelease(t, s, key("n0"))
	if got := mustLease(t, s, key("c2")); got != "10.87.1.2" {
		t.Errorf("c2 got %s", got)
	}
}

// What is remembered is given only if any container could have it.
func TestMemoryThatDoesNotFit(t *testing.T) {
	for _, tt := range []struct {
		name   string
		sets   Sets
		locals model.Locals
		want   string
	}{
		{"out of the range now", sets(t, []Range{rng(t, "10.87.1.0/24", "10.87.1.50")}), noLocals, "10.87.1.50"},
		{"the gateway's now", sets(t, []Range{rng(t, "10.87.1.0/24", "", "10.87.1.9", "10.87.1.2")}), noLocals, "10.87.1.5"},
		{"of another subnet now", sets(t, []Range{rng(t, "10.99.1.0/24")}), noLocals, "10.99.1.2"},
		{"the host's now", small(t), hosting("10.87.1.2/32"), "10.87.1.3"},
		{"of one family, another is new", dual(t), noLocals, "10.87.1.2,fd00::2"},
		{"in two ranges", sets(t, []Range{rng(t, "10.87.1.0/24", "", "10.87.1.3"), rng(t, "10.87.2.0/24")}), noLocals, "10.87.1.2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := store(remembering(t, small(t)).cfg.Dir, tt.sets)
			l, err := s.Lease(key("c1"), nil, tt.locals)
			if err != nil || leased(l) != tt.want {
				t.Errorf("got %s, %v", leased(l), err)
			}
		})
	}
	// The lease of an ADD in flight was lost, but not its address.
	s := remembering(t, small(t))
	d := mustLock(t, s.cfg.Dir)
	flight, err := d.LockBytes([]int64{placeOf(addr("10.87.1.2"))})
	d.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer flight.Close()
	if got := mustLease(t, s, key("c1")); got != "10.87.1.3" {
		t.Errorf("in flight: got %s", got)
	}
}

func TestNotRemembered(t *testing.T) {
	s := store(tempDir(t), small(t))
	mustLease(t, s, key("c1"))
	if _, err := s.Release([]model.Key{key("c1")}, false); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, s.cfg.Dir+"/allocations.json"); strings.Contains(got, "released") {
		t.Errorf("one that won't be back: %s", got)
	}
	// Of the last ones only, and of each address the last who had it.
	s.cfg.Sets = sets(t, []Range{rng(t, "10.87.0.0/16")})
	for i := range 129 {
		mustLease(t, s, key(fmt.Sprint("c", i)))
		mustRelease(t, s, key(fmt.Sprint("c", i)))
	}
	l, err := peek(s)
	if err != nil || len(l.released) != 128 || l.released.Of(key("c0")) != nil || l.released.Of(key("c1")) == nil {
		t.Errorf("%d remembered, %v", len(l.released), err)
	}
}

// The file's text may be anything.
func TestMemoryOfAnything(t *testing.T) {
	for text, want := range map[string]string{
		`"c1/eth0=10.87.1.4"`:                         "10.87.1.4",
		`"c1/eth0=x=10.87.1.4,y,10.87.1.3"`:           "10.87.1.4",
		`" c1/eth0= c1/eth0=10.87.1.4"`:               "10.87.1.2",
		`"c1/eth0 c1 = =,, 10.87.1.4 c1/eth0"`:        "10.87.1.2",
		`"c1/eth0=10.87.1.1,10.87.9.9,fe80::1%\"eth"`: "10.87.1.2",
		`["c1/eth0=10.87.1.4"]`:                       "10.87.1.2",
		`7`:                                           "10.87.1.2",
	} {
		s := store(tempDir(t), small(t))
		writeFile(t, s.cfg.Dir+"/allocations.json", `{"allocations": {"c2": "10.87.1.9"}, "released": `+text+`}`)
		if got := mustLease(t, s, key("c1")); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
		mustRelease(t, s, key("c1"))
		if got := mustLease(t, s, key("c1")); got != want {
			t.Errorf("%s: got %s again, want %s", text, got, want)
		}
	}
}
