package path

import (
	"net/netip"

	"flatnet/bridge/model"
	"flatnet/internal/iprule"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// tables are the routing tables that the host's rules let the packets of a network's
// containers use: of each family, in the kernel's order.
type tables struct {
	steps map[bool][]step                  // IPv4 or not
	to    map[uint32]map[netip.Prefix]bool // the routes of each table that end a search
}

// A step is a rule that applies to packets of containers: to all, or to some of them.
type step struct {
	iprule.Rule
	all bool
}

// newTables returns the tables of a network. routes are the host's unicast routes. The rules
// are asked for only if there are other tables than those of a host without any.
func newTables(n *model.Network, routes []rtnl.Route) (*tables, error) {
	t := &tables{to: map[uint32]map[netip.Prefix]bool{}}
	plain := true
	for _, r := range routes {
		if t.to[r.Table] == nil {
			t.to[r.Table] = map[netip.Prefix]bool{}
		}
		t.to[r.Table][r.Dst] = true
		plain = plain && (r.Table == unix.RT_TABLE_MAIN || r.Table == unix.RT_TABLE_LOCAL || r.Table == unix.RT_TABLE_DEFAULT)
	}
	if plain {
		return t, nil
	}
	rules, err := iprule.List(unix.AF_UNSPEC)
	t.steps = map[bool][]step{}
	for _, r := range rules {
		if some, all := applies(n, &r); some && (r.Family == unix.AF_INET || r.Family == unix.AF_INET6) {
			t.steps[r.Family == unix.AF_INET] = append(t.steps[r.Family == unix.AF_INET], step{r, all})
		}
	}
	return t, err
}

// applies reports whether a rule is for some, or for all, of the packets that the network's
// containers send to the flat ranges, none of which has a mark.
func applies(n *model.Network, r *iprule.Rule) (some, all bool) {
	some = (r.In == "" || r.In == n.GatewayName()) && r.Out == "" && r.Mark == 0
	all = some && !r.Partly && !r.Dst.IsValid()
	if r.Src.IsValid() && some {
		from := newRanges(n.Prefixes())
		some = len(from) == 0 || from.overlap(r.Src) // none: another plugin leases the addresses
		all = all && len(from) > 0
		for _, p := range from {
			all = all && (p.Addr().Is4() != r.Src.Addr().Is4() || r.Src.Bits() <= p.Bits() && r.Src.Contains(p.Addr()))
		}
		all = all && some
	}
	if r.Invert {
		return !all, !some
	}
	return some, all
}

// has reports whether packets of containers take a route, or some of them do.
func (t *tables) has(r rtnl.Route) bool {
	if t.steps == nil {
		return true
	}
	for _, s := range t.steps[r.Dst.Addr().Is4()] {
		table := s.Action == unix.FR_ACT_TO_TBL
		mine := table && s.Table == r.Table && r.Dst.Bits() > s.Suppress && (s.Invert || !s.Dst.IsValid() || s.Dst.Overlaps(r.Dst))
		if mine || s.all && (table && t.covered(s, r.Dst) || s.Action >= unix.FR_ACT_BLACKHOLE) {
			return mine
		}
	}
	return false
}

// covered reports whether all that is sent to dst goes by the table of a rule.
func (t *tables) covered(s step, dst netip.Prefix) bool {
	for bits := dst.Bits(); bits > s.Suppress && bits >= 0; bits-- {
		if t.to[s.Table][netip.PrefixFrom(dst.Addr(), bits).Masked()] {
			return true
		}
	}
	return false
}
