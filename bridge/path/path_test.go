package path

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"flatnet/bridge/model"
	"flatnet/internal/iprule"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// A range is found as by looking at all of them.
func TestRanges(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	prefix := func() netip.Prefix {
		bits := 20 + random.IntN(13)
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(random.IntN(2)), byte(random.IntN(256)), byte(random.IntN(256))}), bits).Masked()
	}
	for range 200 {
		all := []netip.Prefix{netip.MustParsePrefix("fd00:10::/48"), netip.MustParsePrefix("10.9.1.0/16")}
		for range random.IntN(20) {
			all = append(all, prefix())
		}
		r := newRanges(all)
		for _, p := range []netip.Prefix{prefix(), prefix(), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00:10:0:1::/64"), netip.MustParsePrefix("fd00::/64")} {
			if got, want := r.overlap(p), slices.ContainsFunc(all, p.Overlaps); got != want {
				t.Fatalf("%s overlaps with %v: %v", p, all, got)
			}
		}
	}
}

func TestRulesOfContainers(t *testing.T) {
	v4, v6 := netip.MustParsePrefix("10.100.3.0/24"), netip.MustParsePrefix("fd10:3::/64")
	n := &model.Network{Bridge: "br0", Subnets: []model.Subnet{{Prefix: v4}, {Prefix: v6}}}
	src := func(s string) netip.Prefix { return netip.MustParsePrefix(s) }
	for _, tt := range []struct {
		rule      iprule.Rule
		some, all bool
	}{
		{iprule.Rule{}, true, true},
		{iprule.Rule{Partly: true}, true, false},
		{iprule.Rule{Partly: true, Invert: true}, true, false},
		{iprule.Rule{Dst: src("10.100.0.0/16")}, true, false},
		{iprule.Rule{Src: src("10.100.0.0/16")}, true, true},
		{iprule.Rule{Src: src("fd10::/16")}, true, true},
		{iprule.Rule{Src: src("10.100.3.128/25")}, true, false},
		{iprule.Rule{Src: src("10.100.4.0/24")}, false, false},
		{iprule.Rule{Src: src("10.100.4.0/24"), Invert: true}, true, true},
		{iprule.Rule{In: "br0"}, true, true},
		{iprule.Rule{In: "br1"}, false, false},
		{iprule.Rule{Out: "eth0"}, false, false},
		{iprule.Rule{Mark: 1}, false, false},
		{iprule.Rule{Mark: 1, Invert: true}, true, true},
		{iprule.Rule{Invert: true}, false, false},
	} {
		if some, all := applies(n, &tt.rule); some != tt.some || all != tt.all {
			t.Errorf("%+v: %v, %v", tt.rule, some, all)
		}
	}
	unknown := &model.Network{Bridge: "br0"}
	if some, all := applies(unknown, &iprule.Rule{Src: v4}); !some || all {
		t.Errorf("without subnets: %v, %v", some, all)
	}
}

// A route is taken unless all packets to it end in an earlier table.
func TestTables(t *testing.T) {
	r := func(s string, table uint32) rtnl.Route {
		return rtnl.Route{Dst: netip.MustParsePrefix(s), Table: table}
	}
	look := func(table uint32, suppress int) step {
		return step{iprule.Rule{Action: unix.FR_ACT_TO_TBL, Table: table, Suppress: suppress}, true}
	}
	stop := step{iprule.Rule{Action: unix.FR_ACT_PROHIBIT}, true}
	partly := look(7, -1)
	partly.all = false
	for _, tt := range []struct {
		steps []step
		want  string
	}{
		{[]step{look(254, -1), look(7, -1)}, "true false false"},
		{[]step{look(254, 0), look(7, -1)}, "true false true"},
		{[]step{look(254, 16), look(7, -1)}, "false true true"},
		{[]step{look(7, -1), look(254, -1)}, "false true true"},
		{[]step{partly, look(254, -1)}, "true true true"},
		{[]step{stop, look(254, -1)}, "false false false"},
		{nil, "false false false"},
	} {
		tables := &tables{steps: map[bool][]step{true: tt.steps}, to: map[uint32]map[netip.Prefix]bool{}}
		for _, r := range []rtnl.Route{r("0.0.0.0/0", 254), r("10.100.0.0/16", 254), r("10.100.2.0/24", 7), r("10.96.0.0/12", 7)} {
			if tables.to[r.Table] == nil {
				tables.to[r.Table] = map[netip.Prefix]bool{}
			}
			tables.to[r.Table][r.Dst] = true
		}
		got := fmt.Sprint(tables.has(r("10.100.0.0/16", 254)), tables.has(r("10.100.2.0/24", 7)), tables.has(r("10.96.0.0/12", 7)))
		if got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.steps, got, tt.want)
		}
	}
}
