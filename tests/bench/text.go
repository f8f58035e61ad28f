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

// A sheet is a table: its lines, of which the first is the head, have tabs between cells.
type sheet struct {
	title string
	lines []string
}

// Sheets are the report in order.
type sheets []sheet

// table adds a table, unless it is empty.
func table(b *sheets, title string, lines []string) {
	if len(lines) > 1 {
		*b = append(*b, sheet{title, lines})
	}
}

func (r report) sheets() sheets {
	var b sheets
	r.goals(&b)
	r.times(&b)
	r.costs(&b)
	r.starts(&b)
	points(&b, "Another container's ADD and DEL beside N containers, ms", r.Scale)
	points(&b, "N ADDs and DELs at once, ms until the last one ends", r.Parallel)
	r.facts(&b)
	r.flows(&b)
	r.wheres(&b)
	return b
}

// text is the report for a terminal.
func (r report) text() string {
	var b strings.Builder
	for _, s := range r.sheets() {
		fmt.Fprintf(&b, "%s\n\n", s.title)
		t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, line := range s.lines {
			fmt.Fprintln(t, line)
		}
		t.Flush()
		b.WriteString("\n")
	}
	if len(r.Peers) > 0 {
		fmt.Fprintf(&b, "Debian's packages: %s\n", strings.Join(r.Peers, ", "))
	}
	return b.String()
}

// markdown is the report for the document.
func (r report) markdown() string {
	var b strings.Builder
	for _, s := range r.sheets() {
		fmt.Fprintf(&b, "## %s\n\n", s.title)
		for i, line := range s.lines {
			fmt.Fprintf(&b, "| %s |\n", strings.ReplaceAll(line, "\t", " | "))
			if i == 0 {
				b.WriteString("|" + strings.Repeat(" --- |", strings.Count(line, "\t")+1) + "\n")
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// times is the table of the phases: median, range, and ratio to the floor.
func (r report) times(b *sheets) {
	if len(r.Rows) == 0 {
		return
	}
	lines := []string{"phase\t\tms\trange\tx floor"}
	for _, phase := range phases {
		floor := r.Rows[0].of(phase, ms)
		for _, row := range r.Rows {
			if v := row.of(phase, ms); len(v) > 0 {
				lines = append(lines, phase+"\t"+row.Name+cells(v, floor))
			}
		}
	}
	table(b, fmt.Sprintf("One container after the other: medians of %d", len(r.Rows[0].Samples[otherAdd])), lines)
}

// costs is the table of what another container's ADD and DEL use.
func (r report) costs(b *sheets) {
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

func (r report) starts(b *sheets) {
	lines := []string{"\tms\trange\tCPU ms\tfaults"}
	for _, row := range r.Start {
		v := row.of("", ms)
		lines = append(lines, fmt.Sprintf("%s\t%.2f\t%.2f-%.2f\t%.2f\t%.0f", row.Name, median(v), v[0], v[len(v)-1], median(row.of("", cpu)), median(row.of("", faults))))
	}
	table(b, "Programs that attach nothing", lines)
}

// points is the table of points: of each number, in order, all rivals.
func points(b *sheets, title string, all []point) {
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

func (r report) facts(b *sheets) {
	lines := []string{"\t"}
	for _, f := range r.Ports {
		lines = append(lines, fmt.Sprintf("%s\t%.1f %s", f.Name, f.Value, f.Unit))
	}
	table(b, "Many ports, many containers", lines)
}

func (r report) flows(b *sheets) {
	lines := []string{"\tway\tGbit/s\trange\tround trip us\trange"}
	for _, f := range r.Path {
		f.Rate, f.Trip = slices.Sorted(slices.Values(f.Rate)), slices.Sorted(slices.Values(f.Trip))
		lines = append(lines, fmt.Sprintf("%s\t%s\t%.2f\t%.2f-%.2f\t%.1f\t%.1f-%.1f", f.Rival, f.Way, median(f.Rate), f.Rate[0], f.Rate[len(f.Rate)-1],
			median(f.Trip), f.Trip[0], f.Trip[len(f.Trip)-1]))
	}
	table(b, "Data path: one TCP stream, and one byte to and fro", lines)
}

// machine describes where the report is from, without naming it.
func machine() []string {
	model := output("sh", "-c", "sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1")
	memory := output("sh", "-c", "awk '/MemTotal/ {printf \"%.0f GiB\", $2 / 1048576}' /proc/meminfo")
	return []string{
		output("sh", "-c", "../bin/flatnet version | head -n 1") + ", " + time.Now().Format(time.DateOnly),
		"Linux " + output("uname", "-r") + ", " + output("sh", "-c", ". /etc/os-release && echo $PRETTY_NAME"),
		output("nproc") + " processors (" + model + "), " + memory + " of memory",
	}
}

// prose is the part of the document that is not measured.
const prose = "bench/prose.md"

// document writes the report and its plot.
func (r report) document(name string) error {
	plot := strings.TrimSuffix(name, filepath.Ext(name)) + ".svg"
	if err := os.WriteFile(plot, []byte(r.plot()), 0o644); err != nil {
		return err
	}
	words, err := os.ReadFile(prose)
	if err != nil {
		return err
	}
	head := "# Performance\n\nWritten by `make performance`; edit tests/" + prose + " instead.\n\n"
	if r.Quick {
		head += "This was a quick run: a few samples of each.\n\n"
	}
	for _, line := range append(machine(), r.Peers...) {
		head += "- " + line + "\n"
	}
	picture := "\n![ADD by number of containers and by calls at once](" + filepath.Base(plot) + ")\n\n"
	return os.WriteFile(name, []byte(head+picture+string(words)+"\n"+strings.TrimRight(r.markdown(), "\n")+"\n"), 0o644)
}
