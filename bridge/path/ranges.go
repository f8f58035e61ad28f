package path

import (
	"cmp"
	"net/netip"
	"slices"
	"sort"
)

// ranges are prefixes in order, none of which contains another one.
type ranges []netip.Prefix

func newRanges(all []netip.Prefix) (kept ranges) {
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		return cmp.Or(a.Masked().Addr().Compare(b.Masked().Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	for _, p := range sorted {
		if len(kept) == 0 || !kept[len(kept)-1].Overlaps(p) { // else it is a part of that one
			kept = append(kept, p.Masked())
		}
	}
	return kept
}

// overlap reports whether a prefix has addresses of any of the ranges. It looks at two of them.
func (r ranges) overlap(p netip.Prefix) bool {
	i := sort.Search(len(r), func(i int) bool { return r[i].Addr().Compare(p.Addr()) > 0 })
	return i > 0 && r[i-1].Overlaps(p) || i < len(r) && r[i].Overlaps(p)
}
