// Command figures writes the measured figures of README.md anew, from docs/performance.md.
//
//	figures [DIR]
package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A figure is a row of the README's table: its name, and what docs/performance.md measured
// of flatnet, of the reference plugins and of netavark.
type figure struct {
	name  string
	title string // of a table of docs/performance.md
	row   string // what its rows begin with, before who was measured
	cell  int    // after that
	unit  string
}

const (
	one   = "One container after the other"
	costs = "Another container's ADD and DEL (system calls"
)

var figures = []figure{
	{"ADD of one more container", one, "another ADD", 0, " ms"},
	{"the same with a published port", one, "ADD with a port", 0, " ms"},
	{"DEL", one, "another DEL", 0, " ms"},
	{"processor time of that ADD", costs, "", 0, " ms"},
	{"memory at most", costs, "", 6, " MB"},
	{"on disk", costs, "", 7, " MB"},
}

// columns are who is measured: with the rules that each of them makes by default.
var columns = [][]string{{"flatnet"}, {"bridge 1.9.1, iptables", "bridge 1.9.1, nftables"}, {"netavark, nftables"}}

func main() {
	dir := append(os.Args[1:], "..")[0]
	if err := update(dir); err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

func update(dir string) error {
	path := filepath.Join(dir, "README.md")
	readme, err := os.ReadFile(path)
	measured, merr := os.ReadFile(filepath.Join(dir, "docs/performance.md"))
	if err := cmp.Or(err, merr); err != nil {
		return err
	}
	text, err := renew(string(readme), string(measured))
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// renew replaces the rows of all figures, each of which must be there.
func renew(readme, measured string) (string, error) {
	lines := strings.Split(readme, "\n")
	for _, f := range figures {
		row := "| " + f.name + " |"
		i := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, row) })
		if i < 0 {
			return "", fmt.Errorf("README.md has no row %q", f.name)
		}
		for _, names := range columns {
			text, err := f.measured(measured, names)
			if err != nil {
				return "", err
			}
			row += " " + text + " |"
		}
		lines[i] = row
	}
	return strings.Join(lines, "\n"), nil
}

// measured is the figure, or the range of it, of those names.
func (f figure) measured(text string, names []string) (string, error) {
	_, text, _ = strings.Cut(text, "\n## "+f.title)
	text, _, _ = strings.Cut(text, "\n## ")
	var found []float64
	for _, name := range names {
		begin := strings.TrimPrefix("| "+f.row+" | "+name+" | ", "|  ")
		for line := range strings.Lines(text) {
			rest, ok := strings.CutPrefix(line, begin)
			if cells := strings.Split(rest, "|"); ok && f.cell < len(cells) {
				n, err := strconv.ParseFloat(strings.TrimSpace(cells[f.cell]), 64)
				if err != nil {
					return "", err
				}
				found = append(found, n)
			}
		}
	}
	if len(found) != len(names) {
		return "", fmt.Errorf("docs/performance.md has no %q of %q", f.row, names)
	}
	low, high := short(slices.Min(found)), short(slices.Max(found))
	if low == high {
		return low + f.unit, nil
	}
	return low + " to " + high + f.unit, nil
}

// short has two digits, or all before the point.
func short(n float64) string {
	if n < 9.95 {
		return strconv.FormatFloat(n, 'f', 1, 64)
	}
	return strconv.FormatFloat(n, 'f', 0, 64)
}
