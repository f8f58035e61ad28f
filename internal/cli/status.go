package cli

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strings"

	"flatnet/internal/report"
)

// status returns a line for each network. The error names what each is missing.
func status(c *Call, q query) ([]string, error) {
	name := q.arg(0)
	all, err := c.Inventory.Status(name)
	if err == nil && len(all) == 0 && name != "" {
		return nil, c.unknown(name)
	}
	errs := []error{err}
	for _, n := range all {
		if n.Status != "" {
			errs = append(errs, fmt.Errorf("network %s: %s", n.Name, brief(n.Status)))
		}
	}
	if q.has("--json") {
		return []string{report.StatusJSON(all)}, errors.Join(errs...)
	}
	rows := [][]string{{"NETWORK", "BRIDGE", "GATEWAYS", "ATTACHED", "ADDRESSES", "RULES", "STATUS"}}
	for _, n := range all {
		var pools []string
		for _, p := range n.Pools {
			pools = append(pools, fmt.Sprintf("%s: %d used, %s free", p.Prefix, p.Used, free(p)))
		}
		rules := "in place"
		switch {
		case n.Rules > 0:
			rules = fmt.Sprint(n.Rules, " missing")
		case n.Rules < 0:
			rules = "-"
		}
		rows = append(rows, []string{n.Name, cmp.Or(printable(n.Bridge), "-"), orDash(n.Gateways()), fmt.Sprint(len(n.Attachments)),
			cmp.Or(strings.Join(pools, "; "), "-"), rules, c.paint(n.State, colourOf(n.State))})
	}
	return table(rows), errors.Join(errs...)
}

func colourOf(state string) int {
	switch state {
	case "ok":
		return green
	case report.NoRecord:
		return yellow
	}
	return red
}

// brief returns faults, one a line, with the advice that each repeats given once.
func brief(faults string) string {
	const advice = " (flatnet reload mends that)"
	if n := strings.Count(faults, advice+"\n"); n > 0 && n == strings.Count(faults, "\n") && strings.HasSuffix(faults, advice) {
		first, rest, _ := strings.Cut(faults, "\n")
		return fmt.Sprintf("%s, and %d more:\n%s", first, n, strings.ReplaceAll(rest, advice, ""))
	}
	return faults
}

// free returns the number of free addresses, as a power of two if it is too large.
func free(p report.Pool) string {
	if p.Free == math.MaxUint64 {
		return "2^" + fmt.Sprint(p.Addr().BitLen()-p.Bits())
	}
	return fmt.Sprint(p.Free)
}
