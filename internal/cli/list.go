package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"flatnet/internal/report"
)

// network returns the network that is asked for; "" means all.
func (q query) network() (string, error) {
	name, option := q.arg(0), q.value("--network")
	if name != "" && option != "" && name != option {
		return "", misused("two networks are asked for: %q and %q", option, name)
	}
	return cmp.Or(option, name), nil
}

// unknown returns the error about a network that has no attachment.
func (c *Call) unknown(name string) error {
	var known []string
	if all, err := c.Host.Survey(false); err == nil {
		for _, s := range all {
			known = append(known, s.Name)
		}
	}
	return fmt.Errorf("network %q has no attachment on this host%s", name, suggest(name, known))
}

// list returns a line for each attachment.
func list(c *Call, q query) ([]string, error) {
	name, err := q.network()
	if err != nil {
		return nil, err
	}
	if q.has("--json") && q.has("--quiet") {
		return nil, misused("--json and --quiet are two formats: choose one")
	}
	all, err := c.Inventory.List(name)
	if err == nil && len(all) == 0 && name != "" {
		err = c.unknown(name)
		return nil, err
	}
	switch {
	case q.has("--json"):
		return []string{report.ListJSON(all)}, err
	case q.has("--quiet"):
		var ids []string
		for _, a := range all {
			ids = append(ids, a.Key.ContainerID)
		}
		return slices.Compact(ids), err
	}
	c.advise(all)
	rows := [][]string{{"NETWORK", "CONTAINER", "NAME", "INTERFACE", "ADDRESSES", "PORTS", "HOST INTERFACE", "AGE", "STATE"}}
	if q.has("--no-header") {
		rows = nil
	}
	for _, a := range all {
		var addrs []string
		for _, ip := range a.Addresses {
			addrs = append(addrs, ip.String())
		}
		state := a.State
		if state != report.Attached {
			state = c.paint(state, yellow)
		}
		rows = append(rows, []string{a.Key.Network, short(a.Key.ContainerID), cmp.Or(a.Name, "-"), a.Key.IfName, orDash(addrs), orDash(report.PortTexts(a.Ports)),
			cmp.Or(printable(a.HostEnd), "-"), age(c.now().Sub(a.Since), a.Since.IsZero()), state})
	}
	return table(rows), err
}

// advise prints on stderr what repairs attachments.
func (c *Call) advise(all []*report.Attachment) {
	for _, a := range all {
		if a.Repair != "" {
			fmt.Fprintf(c.Stderr, "flatnet: %s: %s of host interface %s; to repair that: %s\n", a.Key, a.State, printable(a.HostEnd), printable(a.Repair))
		}
	}
}

// orDash joins a list for a column; an empty one is shown as a dash.
func orDash(list []string) string { return cmp.Or(strings.Join(list, ","), "-") }

func (c *Call) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// age formats a duration in its largest unit. It is negative if the clock has been set back.
func age(d time.Duration, unknown bool) string {
	if unknown {
		return "-"
	}
	s := max(0, int64(d/time.Second))
	for _, unit := range []struct {
		seconds int64
		letter  string
	}{{86400, "d"}, {3600, "h"}, {60, "m"}} {
		if s >= 2*unit.seconds || unit.letter == "d" && s >= unit.seconds {
			return fmt.Sprint(s/unit.seconds, unit.letter)
		}
	}
	return fmt.Sprint(s, "s")
}
