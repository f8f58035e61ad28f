package cli

import (
	"cmp"
	"fmt"
	"slices"

	"flatnet/internal/report"
)

// gc lists leftovers, and with --yes removes them.
func gc(c *Call, q query) ([]string, error) {
	yes := q.has("--yes")
	look := c.Inventory.Garbage
	if yes {
		look = c.Inventory.Collect
	}
	found, err := look(q.arg(0))
	if q.has("--json") {
		return []string{report.GarbageJSON(found, yes)}, cmp.Or(err, pending(found, yes))
	}
	var lines []string
	for _, kept := range []bool{false, true} {
		some := slices.DeleteFunc(slices.Clone(found), func(l *report.Leftover) bool { return (l.Kept != "") != kept })
		if len(some) == 0 {
			continue
		}
		rows := [][]string{{"NETWORK", "CONTAINER", "NAME", "INTERFACE", "LEFT", "WHICH"}}
		for _, l := range some {
			rows = append(rows, []string{cmp.Or(l.Key.Network, "-"), cmp.Or(short(l.Key.ContainerID), "-"), cmp.Or(l.Name, "-"), cmp.Or(l.Key.IfName, "-"),
				l.Kind, cmp.Or(printable(l.What), "-")})
			if kept {
				rows[0] = append(rows[0][:6], "KEPT")
				rows[len(rows)-1] = append(rows[len(rows)-1], printable(l.Kept))
			}
		}
		lines = append(lines, table(rows)...)
	}
	if err != nil && removable(found) == 0 { // what was not seen may have to be removed
		return lines, err
	}
	return append(lines, verdict(found, yes)...), cmp.Or(err, pending(found, yes))
}

// pending returns the exit status of a gc that would remove something.
func pending(found []*report.Leftover, yes bool) error {
	if yes || removable(found) == 0 {
		return nil
	}
	return printed(somethingLeft)
}

func removable(found []*report.Leftover) (n int) {
	for _, l := range found {
		if l.Kept == "" {
			n++
		}
	}
	return n
}

// verdict returns the last line of a gc.
func verdict(found []*report.Leftover, yes bool) []string {
	switch n := removable(found); {
	case n == 0:
		return []string{"nothing to remove"}
	case yes:
		return []string{fmt.Sprintf("removed: %d", n)}
	default:
		return []string{fmt.Sprintf("%d to remove; nothing was changed (flatnet gc --yes removes)", n)}
	}
}
