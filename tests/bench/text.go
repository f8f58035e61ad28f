package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// text is the report as tables.
func (r report) text() string {
	var b strings.Builder
	r.times(&b)
	r.costs(&b)
	r.starts(&b)
	points(&b, "Another container's ADD / DEL beside N containers, ms", r.Scale)
	points(&b, "N ADDs / DELs at once, ms until the last one ends", r.Parallel)
	r.facts(&b)
	r.flows(&b)
	r.wheres(&b)
	r.goals(&b)
	if len(r.Peers) > 0 {
		fmt.Fprintf(&b, "Debian's packages: %s\n", strings.Join(r.Peers, ", "))
	}
	return b.String()
}

// table writes tab separated lines as a table under a title.
func table(b *strings.Builder, title string, lines []string) {
	if len(lines) < 2 {
		return
	}
	fmt.Fprintf(b, "%s\n\n", title)
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, line := range lines {
		fmt.Fprintln(t, line)
	}
	t.Flush()
	b.WriteString("\n")
}

// times is the table of the phases: median, range, and ratio to the floor.
func (r report) times(b *strings.Builder) {
	if len(r.Rows) == 0 {
		return
	}
	lines := []string{"\t" + strings.Join(phases, "\t")}
	for _, row := range r.Rows {
		line := row.Name
		for _, phase := range phases {
			v := row.of(phase, ms)
			if len(v) == 0 {
				line += "\t-"
				continue
			}
			line += fmt.Sprintf("\t%.2f (%.2f-%.2f)", median(v), v[0], v[len(v)-1])
			if base := median(r.Rows[0].of(phase, ms)); base > 0 {
				line += fmt.Sprintf(" %.2fx", median(v)/base)
			}
		}
		lines = append(lines, line)
	}
	n := len(r.Rows[0].Samples[otherAdd])
	table(b, fmt.Sprintf("Times in ms: median of %d (range), ratio to the floor", n), lines)
}

// costs is the table of what another container's ADD and DEL use.
func (r report) costs(b *strings.Builder) {
	if len(r.Rows) == 0 {
		return
	}
	lines := []string{"\tCPU ms ADD\tDEL\tfaults ADD\tDEL\tsystem calls\tchildren\tmax RSS MB\tMB on disk"}
	for _, row := range r.Rows {
		lines = append(lines, fmt.Sprintf("%s\t%.2f\t%.2f\t%.0f\t%.0f\t%d\t%d\t%.1f\t%.2f", row.Name, median(row.of(otherAdd, cpu)), median(row.of(otherDel, cpu)),
			median(row.of(otherAdd, faults)), median(row.of(otherDel, faults)), row.Counts.Syscalls, row.Counts.Children, float64(row.Counts.RSS)/1024, row.Size/1e6))
	}
	table(b, "Another container's ADD and DEL (system calls, children and RSS: one ADD)", lines)
}

func (r report) starts(b *strings.Builder) {
	lines := []string{"\tms\trange\tCPU ms\tfaults"}
	for _, row := range r.Start {
		v := row.of("", ms)
		lines = append(lines, fmt.Sprintf("%s\t%.2f\t%.2f-%.2f\t%.2f\t%.0f", row.Name, median(v), v[0], v[len(v)-1], median(row.of("", cpu)), median(row.of("", faults))))
	}
	table(b, "Programs that attach nothing", lines)
}

// points is the table of points: of each number, in order, all rivals.
func points(b *strings.Builder, title string, all []point) {
	for _, ports := range []bool{false, true} {
		lines := []string{"N\t\tADD\trange\tx floor\tDEL\trange\tx floor"}
		names, numbers := axes(all, ports)
		for _, n := range numbers {
			floor, _ := find(all, floorName, n, ports)
			for _, name := range names {
				if p, ok := find(all, name, n, ports); ok {
					lines = append(lines, fmt.Sprintf("%d\t%s%s%s", n, name, cells(p.Add, floor.Add), cells(p.Del, floor.Del)))
				}
			}
		}
		table(b, title+map[bool]string{true: ", with a published port"}[ports], lines)
	}
}

// cells are a median, a range and the median's ratio to that of the floor.
func cells(v, floor []float64) string {
	if len(v) == 0 {
		return "\t-\t-\t-"
	}
	x := "-"
	if len(floor) > 0 {
		x = fmt.Sprintf("%.2f", ratio(median(v), median(floor)))
	}
	return fmt.Sprintf("\t%.2f\t%.2f-%.2f\t%s", median(v), v[0], v[len(v)-1], x)
}

// axes are the rivals and the numbers of points, in order of appearance.
func axes(all []point, ports bool) (names []string, numbers []int) {
	seen := map[any]bool{}
	for _, p := range all {
		if p.Ports != ports {
			continue
		}
		if !seen[p.Rival] {
			names = append(names, p.Rival)
		}
		if !seen[p.N] {
			numbers = append(numbers, p.N)
		}
		seen[p.Rival], seen[p.N] = true, true
	}
	return names, numbers
}

func find(all []point, name string, n int, ports bool) (point, bool) {
	for _, p := range all {
		if p.Rival == name && p.N == n && p.Ports == ports {
			return p, true
		}
	}
	return point{}, false
}

func (r report) facts(b *strings.Builder) {
	lines := []string{"\t"}
	for _, f := range r.Ports {
		lines = append(lines, fmt.Sprintf("%s\t%.1f %s", f.Name, f.Value, f.Unit))
	}
	table(b, "Many ports, many containers", lines)
}

func (r report) flows(b *strings.Builder) {
	lines := []string{"\tway\tGbit/s\trange\tround trip us\trange"}
	for _, f := range r.Path {
		f.Rate, f.Trip = slices.Sorted(slices.Values(f.Rate)), slices.Sorted(slices.Values(f.Trip))
		lines = append(lines, fmt.Sprintf("%s\t%s\t%.2f\t%.2f-%.2f\t%.1f\t%.1f-%.1f", f.Rival, f.Way, median(f.Rate), f.Rate[0], f.Rate[len(f.Rate)-1],
			median(f.Trip), f.Trip[0], f.Trip[len(f.Trip)-1]))
	}
	table(b, "Data path: one TCP stream, and one byte to and fro", lines)
}

// machine describes where the report is from, without naming it.
func machine() string {
	model := output("sh", "-c", "sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1")
	memory := output("sh", "-c", "awk '/MemTotal/ {printf \"%.0f GiB\", $2 / 1048576}' /proc/meminfo")
	return fmt.Sprintf("Linux %s, %s cores (%s), %s of memory, %s, %s, %s", output("uname", "-r"), output("nproc"), model, memory,
		output("sh", "-c", ". /etc/os-release && echo $PRETTY_NAME"), output("../bin/flatnet", "version"), time.Now().Format(time.DateOnly))
}

// document writes the report and its plot.
func (r report) document(name, text string) error {
	plot := strings.TrimSuffix(name, filepath.Ext(name)) + ".svg"
	if err := os.WriteFile(plot, []byte(r.plot()), 0o644); err != nil {
		return err
	}
	head := "# Performance\n\nWritten by `make performance`; don't edit. Measured on " + machine() + ".\n\n"
	if r.Quick {
		head += "This was a quick run: a few samples of each.\n\n"
	}
	return os.WriteFile(name, []byte(head+"![ADD by number of containers and by calls at once]("+filepath.Base(plot)+")\n\n```\n"+text+"```\n"), 0o644)
}
