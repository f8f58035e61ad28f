package ipam

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"flatnet/bridge/model"
)

// addr parses an address; the empty string is none.
func addr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

func addrs(ss ...string) []netip.Addr {
	var as []netip.Addr
	for _, s := range ss {
		as = append(as, addr(s))
	}
	return as
}

// rng makes a range of subnet, start, end and gateway; the last three optional.
func rng(t testing.TB, ss ...string) Range {
	t.Helper()
	s := append(ss, "", "", "")
	r, err := NewRange(model.Range{Subnet: netip.MustParsePrefix(s[0]), Start: addr(s[1]), End: addr(s[2]), Gateway: addr(s[3])})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func sets(t testing.TB, ss ...[]Range) Sets {
	t.Helper()
	s, err := NewSets(plain(ss...))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// plain are the sets as a configuration has them.
func plain(ss ...[]Range) (sets [][]model.Range) {
	for _, set := range ss {
		var ranges []model.Range
		for _, r := range set {
			ranges = append(ranges, model.Range(r))
		}
		sets = append(sets, ranges)
	}
	return sets
}

func TestNewRange(t *testing.T) {
	for _, tt := range []struct{ subnet, start, end, gateway, want, wantGateway string }{
		{"10.87.1.0/24", "", "", "", "10.87.1.1-10.87.1.254", "10.87.1.1"},
		{"10.87.1.0/24", "10.87.1.10", "10.87.1.20", "10.87.1.254", "10.87.1.10-10.87.1.20", "10.87.1.254"},
		{"10.87.1.0/24", "10.87.1.0", "10.87.1.255", "", "10.87.1.1-10.87.1.254", "10.87.1.1"},
		{"10.0.0.0/8", "", "", "", "10.0.0.1-10.255.255.254", "10.0.0.1"},
		{"10.87.1.128/25", "", "", "", "10.87.1.129-10.87.1.254", "10.87.1.129"},
		{"10.87.1.4/30", "", "", "", "10.87.1.5-10.87.1.6", "10.87.1.5"},
		{"10.87.1.4/31", "", "", "", "10.87.1.4-10.87.1.5", "10.87.1.4"},
		{"10.87.1.4/31", "", "", "10.87.1.5", "10.87.1.4-10.87.1.5", "10.87.1.5"},
		{"255.255.255.254/31", "", "", "", "255.255.255.254-255.255.255.255", "255.255.255.254"},
		{"fd00::/64", "", "", "", "fd00::1-fd00::ffff:ffff:ffff:ffff", "fd00::1"},
		{"fd00::/64", "fd00::", "fd00::9", "fd00::ffff", "fd00::1-fd00::9", "fd00::ffff"},
		{"fd00::/64", "", "", "fe80::1", "fd00::1-fd00::ffff:ffff:ffff:ffff", "fe80::1"},
		{"fd00::2/127", "", "", "", "fd00::2-fd00::3", "fd00::2"},
	} {
		r, err := NewRange(model.Range{Subnet: netip.MustParsePrefix(tt.subnet), Start: addr(tt.start), End: addr(tt.end), Gateway: addr(tt.gateway)})
		if err != nil {
			t.Errorf("%v: %v", tt, err)
			continue
		}
		if r.String() != tt.want || r.Gateway.String() != tt.wantGateway || r.Subnet.String() != tt.subnet {
			t.Errorf("%v: %s, gateway %s, subnet %s", tt, r, r.Gateway, r.Subnet)
		}
	}
}

func TestNewRangeRefuses(t *testing.T) {
	for _, tt := range []struct{ name, subnet, start, end, gateway, text string }{
		{"host bits", "10.87.1.5/24", "", "", "", "subnet 10.87.1.5/24 has host bits set, 10.87.1.0/24 has not"},
		{"one v4 address", "10.87.1.5/32", "", "", "", "subnet 10.87.1.5/32 has no room for a gateway and a container"},
		{"one v6 address", "fd00::5/128", "", "", "", "subnet fd00::5/128 has no room for a gateway and a container"},
		{"multicast", "224.0.0.0/24", "", "", "", "subnet 224.0.0.0/24 is not one of hosts"},
		{"loopback", "127.0.0.0/8", "", "", "", "subnet 127.0.0.0/8 is not one of hosts"},
		{"everything", "0.0.0.0/0", "", "", "", "subnet 0.0.0.0/0 is not one of hosts"},
		{"v4 in v6", "::ffff:10.0.0.0/120", "", "", "", "subnet ::ffff:10.0.0.0/120 is not one of hosts"},
		{"start outside", "10.87.1.0/24", "10.87.2.5", "", "", "range start 10.87.2.5 is not in subnet 10.87.1.0/24"},
		{"end outside", "10.87.1.0/24", "", "10.87.2.5", "", "range end 10.87.2.5 is not in subnet 10.87.1.0/24"},
		{"gateway outside", "10.87.1.0/24", "", "", "10.87.2.1", "range gateway 10.87.2.1 is not in subnet 10.87.1.0/24"},
		{"gateway of the other family", "10.87.1.0/24", "", "", "fd00::1", "range gateway fd00::1 is not in subnet 10.87.1.0/24"},
		{"zone", "fe80::/64", "", "", "fe80::1%eth0", "range gateway fe80::1%eth0 is not in subnet fe80::/64"},
		{"backwards", "10.87.1.0/24", "10.87.1.9", "10.87.1.8", "", "range end 10.87.1.8 is before its start 10.87.1.9"},
		{"network as gateway", "10.87.1.0/24", "", "", "10.87.1.0", "gateway 10.87.1.0 is no host's address in subnet 10.87.1.0/24"},
		{"broadcast as gateway", "10.87.1.0/24", "", "", "10.87.1.255", "gateway 10.87.1.255 is no host's address in subnet 10.87.1.0/24"},
		{"anycast as gateway", "fd00::/64", "", "", "fd00::", "gateway fd00:: is no host's address in subnet fd00::/64"},
		{"network only", "10.87.1.0/24", "10.87.1.0", "10.87.1.0", "", "range 10.87.1.1-10.87.1.0 of subnet 10.87.1.0/24 has no address to lease"},
		{"gateway only", "10.87.1.0/24", "10.87.1.1", "10.87.1.1", "", "range 10.87.1.1-10.87.1.1 of subnet 10.87.1.0/24 has no address to lease"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewRange(model.Range{Subnet: netip.MustParsePrefix(tt.subnet), Start: addr(tt.start), End: addr(tt.end), Gateway: addr(tt.gateway)})
			if !errors.Is(err, model.ErrInvalid) || !strings.HasPrefix(err.Error(), tt.text) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := NewRange(model.Range{}); !errors.Is(err, model.ErrInvalid) {
		t.Errorf("no subnet: %v", err)
	}
}

// What a range leases, walked through from its start until it is all leased.
func TestNextLeasesOnlyHosts(t *testing.T) {
	for _, tt := range []struct {
		name string
		sets [][]Range
		want []netip.Addr
	}{
		{"/29", [][]Range{{rng(t, "10.0.0.8/29")}}, addrs("10.0.0.10", "10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.14")},
		{"/30", [][]Range{{rng(t, "10.0.0.4/30")}}, addrs("10.0.0.6")},
		{"/31", [][]Range{{rng(t, "10.0.0.4/31")}}, addrs("10.0.0.5")},
		{"/31 with the second as gateway", [][]Range{{rng(t, "10.0.0.4/31", "", "", "10.0.0.5")}}, addrs("10.0.0.4")},
		{"top of IPv4", [][]Range{{rng(t, "255.255.255.254/31")}}, addrs("255.255.255.255")},
		{"/126", [][]Range{{rng(t, "fd00::4/126")}}, addrs("fd00::6", "fd00::7")},
		{"/127", [][]Range{{rng(t, "fd00::4/127")}}, addrs("fd00::5")},
		{"two ranges", [][]Range{{rng(t, "10.0.0.0/24", "10.0.0.5", "10.0.0.6"), rng(t, "10.0.1.0/24", "10.0.1.0", "10.0.1.2")}},
			addrs("10.0.0.5", "10.0.0.6", "10.0.1.2")},
		{"gateway of another range", [][]Range{
			{rng(t, "10.0.0.0/24", "10.0.0.4", "10.0.0.6")},
			{rng(t, "10.0.0.0/24", "10.0.0.8", "10.0.0.9", "10.0.0.5")},
		}, addrs("10.0.0.4", "10.0.0.6")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, taken, last := sets(t, tt.sets...), map[netip.Addr]bool{}, netip.Addr{}
			for _, want := range tt.want {
				a := s.next(0, last, unless(func(a netip.Addr) bool { return !taken[a] }))
				if a != want {
					t.Fatalf("after %v: %v, want %v", last, a, want)
				}
				taken[a], last = true, a
			}
			if a := s.next(0, last, unless(func(a netip.Addr) bool { return !taken[a] })); a.IsValid() {
				t.Errorf("got %v in addition", a)
			}
		})
	}
}

func TestNextGoesRound(t *testing.T) {
	s := sets(t, []Range{rng(t, "10.0.0.0/24", "10.0.0.2", "10.0.0.4"), rng(t, "10.0.1.0/24", "10.0.1.2", "10.0.1.3")})
	for _, tt := range []struct{ last, taken, want string }{
		{"", "", "10.0.0.2"},
		{"10.0.0.2", "", "10.0.0.3"},
		{"10.0.0.4", "", "10.0.1.2"},
		{"10.0.1.3", "", "10.0.0.2"},
		{"10.0.1.2", "10.0.1.3", "10.0.0.2"},
		{"10.0.0.3", "10.0.0.4", "10.0.1.2"},
		{"10.9.9.9", "", "10.0.0.2"}, // of another configuration
		{"10.0.0.99", "", "10.0.0.2"},
	} {
		a := s.next(0, addr(tt.last), unless(func(a netip.Addr) bool { return a != addr(tt.taken) }))
		if a != addr(tt.want) {
			t.Errorf("after %q, %q taken: %v, want %s", tt.last, tt.taken, a, tt.want)
		}
	}
	// Each address is asked for once in a round, the last one at the end.
	var asked []netip.Addr
	s.next(0, addr("10.0.0.3"), unless(func(a netip.Addr) bool { asked = append(asked, a); return false }))
	if got := join(asked); got != "10.0.0.4,10.0.1.2,10.0.1.3,10.0.0.2,10.0.0.3" {
		t.Errorf("asked for %s", got)
	}
}

// Ranges that can't be walked through are no slower than what is leased.
func TestNextStepsOverTakenOnly(t *testing.T) {
	for _, subnet := range []string{"fd00::/64", "10.0.0.0/8"} {
		s, steps, last := sets(t, []Range{rng(t, subnet)}), 0, netip.Addr{}
		taken := map[netip.Addr]bool{}
		for range 100 {
			last = s.next(0, netip.Addr{}, unless(func(a netip.Addr) bool { steps++; return !taken[a] }))
			taken[last] = true
		}
		if want := 100 * 101 / 2; steps != want {
			t.Errorf("%s: %d steps, want %d", subnet, steps, want)
		}
	}
}

func join(as []netip.Addr) string { return model.JoinAddrs(as) }

// unless is the used of next where single addresses are free or not.
func unless(free func(netip.Addr) bool) func(netip.Addr) netip.Addr {
	return func(a netip.Addr) netip.Addr {
		if free(a) {
			return netip.Addr{}
		}
		return a
	}
}
