package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// An event is a line of go test -json (go doc test2json).
type event struct {
	Action, Package, Test, Output, ImportPath string

	Elapsed float64 // seconds
}

// slow is from when on a test is worth a line of its own.
const slow = 1.0

// A run is how the tests got on so far.
type run struct {
	out                                 io.Writer
	verbose                             bool
	passed, failed, skipped, unexpected int

	output  map[string]string    // what a test or, without a test's name, a package said, until it has passed
	running map[string]time.Time // tests that are not paused, by when they began
	printed time.Time            // when the last line was
	reports []string             // what is repeated at the end
	broken  []string             // what failed besides tests
}

func newRun(out io.Writer, verbose bool) *run {
	return &run{out: out, verbose: verbose, output: map[string]string{}, running: map[string]time.Time{}, printed: time.Now()}
}

func (r *run) print(text string) {
	r.printed = time.Now()
	fmt.Fprint(r.out, text)
}

// add counts an event, and prints what a person wants to see.
func (r *run) add(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "run", "cont":
		r.running[key] = time.Now()
	case "pause":
		delete(r.running, key)
	case "build-output":
		r.print(e.Output)
		r.output[e.ImportPath] += e.Output
	case "build-fail":
		r.broken = append(r.broken, r.output[e.ImportPath])
	case "output":
		r.said(e, key)
	case "pass", "fail", "skip":
		delete(r.running, key)
		r.ended(e, key)
	}
}

// said keeps what a test says until it is known how it ends; of a package, go
// test's own line is printed at once.
func (r *run) said(e event, key string) {
	if strings.HasPrefix(e.Output, "=== ") { // RUN, PAUSE, CONT, NAME
		return
	}
	if e.Test != "" {
		r.output[key] += e.Output
	} else if e.Output != "PASS\n" && !strings.Contains(e.Output, "[no test files]") {
		r.output[key] += e.Output
		r.print(e.Output)
	}
}

func (r *run) ended(e event, key string) {
	output := r.output[key]
	delete(r.output, key)
	switch {
	case e.Test == "" && e.Action == "fail":
		r.unfinished(e.Package)
	case e.Test == "":
	case e.Action == "pass":
		r.passed++
		if r.verbose {
			r.print(output)
		} else if e.Elapsed >= slow && !strings.Contains(e.Test, "/") {
			r.print(fmt.Sprintf("ok  %6.1fs  %s\n", e.Elapsed, e.Test))
		}
	case e.Action == "fail":
		r.failed++
		r.print(output)
		r.reports = append(r.reports, output)
	case e.Action == "skip":
		r.skipped++
		name, _, _ := strings.Cut(e.Test, "/")
		if reason, ok := allowed[name]; ok {
			r.print(output + fmt.Sprintf("    (may be skipped: %s)\n", reason))
			return
		}
		r.unexpected++
		output += "    (must not be skipped)\n"
		r.print(output)
		r.reports = append(r.reports, output)
	}
}

// unfinished reports the tests that ran when the process of their package ended.
func (r *run) unfinished(pkg string) {
	for _, key := range slices.Sorted(maps.Keys(r.running)) {
		if strings.HasPrefix(key, pkg+" ") {
			r.broken = append(r.broken, fmt.Sprintf("%s did not end\n%s", key, r.output[key]))
			delete(r.running, key)
		}
	}
}

// beat prints a line if none was printed for a while: what runs, longest first.
func (r *run) beat() {
	if time.Since(r.printed) < quiet {
		return
	}
	var names []string
	byAge := func(a, b string) int { return cmp.Or(r.running[a].Compare(r.running[b]), strings.Compare(a, b)) }
	for _, key := range slices.SortedFunc(maps.Keys(r.running), byAge) {
		_, test, _ := strings.Cut(key, " ")
		if !strings.Contains(test, "/") || len(names) == 0 {
			names = append(names, fmt.Sprintf("%s (%.0fs)", test, time.Since(r.running[key]).Seconds()))
		}
	}
	if len(names) == 0 {
		names = []string{"go test builds"}
	}
	r.print(fmt.Sprintf("    %d passed so far; running: %s\n", r.passed, strings.Join(names[:min(len(names), 4)], ", ")))
}

// close repeats the failures and counts, and reports whether all is well.
func (r *run) close() bool {
	if again := slices.Concat(r.reports, r.broken); len(again) > 0 {
		r.print("\n=== what failed, once more\n")
		for _, report := range again {
			r.print(strings.TrimSuffix(report, "\n") + "\n")
		}
	}
	r.print(fmt.Sprintf("%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped))
	return r.passed > 0 && r.failed+r.unexpected+len(r.broken) == 0
}
