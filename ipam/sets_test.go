package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"flatnet/bridge/model"
)

func TestNewSetsRefuses(t *testing.T) {
	four := rng(t, "10.0.0.0/24", "10.0.0.10", "10.0.0.20")
	var many [][]Range
	for i := range maxRanges + 1 {
		many = append(many, []Range{rng(t, fmt.Sprintf("10.%d.%d.0/24", i/256, i%256))})
	}
	for _, tt := range []struct {
		name string
		sets [][]Range
		text string
	}{
		{"empty", [][]Range{{four}, {}}, "range set 1 is empty"},
		{"mixed", [][]Range{{four, rng(t, "fd00::/64")}}, "range set 0 mixes IPv4 and IPv6"},
		{"overlap in a set", [][]Range{{four, rng(t, "10.0.0.0/24", "10.0.0.20", "10.0.0.30")}},
			"ranges 10.0.0.10-10.0.0.20 and 10.0.0.20-10.0.0.30 overlap"},
		{"overlap of sets", [][]Range{{rng(t, "10.0.0.0/24", "10.0.0.15", "10.0.0.16")}, {four}},
			"ranges 10.0.0.15-10.0.0.16 and 10.0.0.10-10.0.0.20 overlap"},
		{"overlap of subnets", [][]Range{{rng(t, "10.0.0.0/8")}, {rng(t, "10.9.0.0/16")}},
			"ranges 10.0.0.1-10.255.255.254 and 10.9.0.1-10.9.255.254 overlap"},
		{"too many", many, "more than 1024 ranges"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := NewSets(plain(tt.sets...)); !errors.Is(err, model.ErrInvalid) || !strings.HasPrefix(err.Error(), tt.text) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestSetsKeepTheirRanges(t *testing.T) {
	set := []Range{rng(t, "10.0.0.0/24", "10.0.0.10", "10.0.0.20"), rng(t, "10.0.0.0/24", "10.0.0.30", "10.0.0.40")}
	s := sets(t, set, []Range{rng(t, "fd00::/64")})
	set[0] = Range{}
	var got []string
	for _, r := range s.Ranges() {
		got = append(got, r.String())
	}
	if len(got) != 3 || got[0] != "10.0.0.10-10.0.0.20" || got[1] != "10.0.0.30-10.0.0.40" {
		t.Errorf("got %v", got)
	}
}

func TestAssign(t *testing.T) {
	s := sets(t,
		[]Range{rng(t, "10.0.0.0/24", "10.0.0.10", "10.0.0.20"), rng(t, "10.0.1.0/24")},
		[]Range{rng(t, "fd00::/64", "", "", "fd00::ff")},
		[]Range{rng(t, "10.0.0.0/24", "10.0.0.30", "10.0.0.40", "10.0.0.35"), rng(t, "10.0.2.0/31")})
	for _, tt := range []struct {
		name string
		want []netip.Addr
		got  string // by set
		text string
	}{
		{"nothing", nil, ",,", ""},
		{"any order", addrs("fd00::5", "10.0.1.7"), "10.0.1.7,fd00::5,", ""},
		{"both families twice", addrs("10.0.0.30", "10.0.0.10"), "10.0.0.10,,10.0.0.30", ""},
		{"start and end don't restrict", addrs("10.0.0.99"), "10.0.0.99,,", ""},
		{"the same twice", addrs("fd00::5", "fd00::5"), ",fd00::5,", ""},
		{"/31", addrs("10.0.2.1"), ",,10.0.2.1", ""},
		{"two of a set", addrs("10.0.0.11", "10.0.1.12", "10.0.1.12"), "10.0.0.11,,,10.0.1.12", ""},
		{"outside", addrs("10.0.9.1"), "",
			"address 10.0.9.1 is in no subnet of the ranges [10.0.0.10-10.0.0.20 10.0.1.1-10.0.1.254 fd00::1-fd00::ffff:ffff:ffff:ffff 10.0.0.30-10.0.0.40 10.0.2.0-10.0.2.1]"},
		{"zone", addrs("fd00::5%eth0"), "",
			"address fd00::5%eth0 is in no subnet of the ranges [10.0.0.10-10.0.0.20 10.0.1.1-10.0.1.254 fd00::1-fd00::ffff:ffff:ffff:ffff 10.0.0.30-10.0.0.40 10.0.2.0-10.0.2.1]"},
		{"gateway", addrs("fd00::ff"), "", "address fd00::ff is a gateway of the network"},
		{"gateway of another set", addrs("10.0.0.35"), "", "address 10.0.0.35 is a gateway of the network"},
		{"network", addrs("10.0.0.0"), "", "address 10.0.0.0 is no host's address in subnet 10.0.0.0/24"},
		{"broadcast", addrs("10.0.1.255"), "", "address 10.0.1.255 is no host's address in subnet 10.0.1.0/24"},
		{"anycast", addrs("fd00::"), "", "address fd00:: is no host's address in subnet fd00::/64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := s.assign(tt.want)
			if tt.text != "" {
				if !errors.Is(err, model.ErrInvalid) || !strings.HasPrefix(err.Error(), tt.text) {
					t.Errorf("got %v", err)
				}
			} else if err != nil || join(got) != tt.got {
				t.Errorf("got %s, %v; want %s", join(got), err, tt.got)
			}
		})
	}
}
