package peer

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, s := range []string{"10.87.2.0/24@192.0.2.2", "10.87.2.0/24@wg0", "10.87.2.0/24@192.0.2.2%wg0", "fd87:2::/64@fe80::1%eth0", "fd87:2::/64@fd00::1", "fd87:2::/64@nebula1"} {
		p, err := Parse(s)
		if err != nil || p.String() != s {
			t.Errorf("%s is read as %s (%v)", s, p, err)
		}
		if key, err := p.Check(); err != nil {
			t.Errorf("%s: %s: %v", s, key, err)
		}
	}
	for s, want := range map[string]string{
		"10.87.2.0/24@192.0.2.2": "10.87.2.0/24 via 192.0.2.2", "10.87.2.0/24@wg0": "10.87.2.0/24 dev wg0",
		"fd87:2::/64@fe80::1%eth0": "fd87:2::/64 via fe80::1 dev eth0",
	} {
		if p, _ := Parse(s); p.Route() != want {
			t.Errorf("%s is the route %q, not %q", s, p.Route(), want)
		}
	}
	all, err := ParseList("10.87.2.0/24@192.0.2.2, 10.87.3.0/24@wg0")
	if err != nil || len(all) != 2 || all[1].Dev != "wg0" {
		t.Errorf("a list is %v (%v)", all, err)
	}
}

func TestCheck(t *testing.T) {
	for s, key := range map[string]string{
		"0.0.0.0/0@192.0.2.2": "subnet", "224.0.0.0/8@wg0": "subnet", "127.0.0.0/8@wg0": "subnet", "fe80::/10@wg0": "subnet",
		"::ffff:10.0.0.0/104@wg0": "subnet", "10.87.2.0/24@": "via", "10.87.2.0/24@fd00::1": "via", "fd87:2::/64@192.0.2.2": "via",
		"10.87.2.0/24@0.0.0.0": "via", "10.87.2.0/24@10.87.2.1": "via", "fd87:2::/64@fe80::1": "via", "10.87.2.0/24@a,b": "dev",
	} {
		p, err := Parse(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
		}
		if got, err := p.Check(); err == nil || got != key {
			t.Errorf("%s: %q, %v; want an error of %s", s, got, err, key)
		}
	}
	for _, s := range []string{"", "x", "10.87.2.0/24", "@wg0", "10.87.2.0@wg0", "10.87.2.0/24@x%eth0", strings.Repeat("9", 1000)} {
		if p, err := Parse(s); err == nil {
			t.Errorf("%q is read as %v", s, p)
		} else if len(err.Error()) > 200 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	}
}

func TestCheckAll(t *testing.T) {
	own := []netip.Prefix{netip.MustParsePrefix("10.87.1.7/24"), netip.MustParsePrefix("fd87:1::/64")}
	for list, want := range map[string]string{
		"10.87.2.0/24@wg0,10.87.3.0/24@wg0,fd87:2::/64@wg0": "",
		"10.87.2.0/24@wg0,10.87.2.0/25@wg1":                 "peers[1].subnet: 10.87.2.0/25 overlaps with peers[0], 10.87.2.0/24",
		"10.87.0.0/16@wg0":                                  "peers[0].subnet: 10.87.0.0/16 overlaps with 10.87.1.0/24, which is the network's own",
		"10.87.2.0/24@wg0,fd87:1::/96@wg0":                  "peers[1].subnet: fd87:1::/96 overlaps with fd87:1::/64",
	} {
		peers, err := ParseList(list)
		if err != nil {
			t.Fatal(err)
		}
		err = CheckAll(peers, own)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", list, err, want)
		}
	}
}

// What a record holds is read as it was written.
// An overlap is found wherever the two stand, as by looking at each pair.
func TestCheckAllOfMany(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var all []Peer
		overlap := false
		for range 2 + random.IntN(12) {
			a := netip.AddrFrom4([4]byte{10, 0, byte(random.IntN(64)), byte(random.IntN(256))})
			p := Peer{Subnet: netip.PrefixFrom(a, 18+random.IntN(13)).Masked()}
			overlap = overlap || slices.ContainsFunc(all, func(o Peer) bool { return o.Subnet.Overlaps(p.Subnet) })
			all = append(all, p)
		}
		if err := CheckAll(all, nil); (err != nil) != overlap {
			t.Fatalf("%v: %v", all, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"10.87.2.0/24@192.0.2.2%wg0", "fd87:2::/64@fe80::1%eth0", "10.87.2.0/24@@", "10.87.2.0/24@%", "a@b%c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Parse(s)
		if err != nil {
			return
		}
		if _, err := p.Check(); err != nil || strings.ContainsAny(p.Dev, "%/ ") || strings.TrimSpace(p.Dev) != p.Dev || p.Via.Zone() != "" {
			return
		}
		all, err := ParseList(p.String())
		if err != nil || !slices.Equal(all, []Peer{p}) {
			t.Errorf("%q is %v, which is read as %v (%v)", s, p, all, err)
		}
	})
}
