package tests

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// An access is what the document's table of paths has of one, or what a call did.
type access struct {
	path    string
	written bool // or made, or removed
}

var (
	// fileCall is a call about files as strace -y writes it: its name, and the rest.
	fileCall = regexp.MustCompile(`(?m)^\d+ +(open|openat|openat2|mkdirat|unlinkat|renameat|linkat|fchmodat|newfstatat|readlinkat|statfs|faccessat2?)\((.*)$`)
	// fileArg is a directory and a path below it; statfs has none.
	fileArg = regexp.MustCompile(`(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"([^"]*)"`)
	reading = regexp.MustCompile(`O_RDONLY|O_PATH`)
)

// accesses returns what a trace has of paths.
func accesses(trace string) (all []access) {
	for _, m := range fileCall.FindAllStringSubmatch(trace, -1) {
		call, args := m[1], m[2]
		reads := slices.Contains([]string{"newfstatat", "readlinkat", "statfs", "faccessat", "faccessat2"}, call) ||
			strings.HasPrefix(call, "open") && reading.MatchString(args) && !strings.Contains(args, "O_CREAT")
		if call == "readlinkat" { // behind it is the target
			args, _, _ = strings.Cut(args, `", "`)
			args += `"`
		}
		for _, arg := range fileArg.FindAllStringSubmatch(args, -1) {
			name := arg[2]
			if !path.IsAbs(name) {
				name = path.Join(arg[1], name)
			}
			a := access{path.Clean(name), !reads}
			if !slices.Contains(all, a) {
				all = append(all, a)
			}
		}
	}
	return all
}

// A promise is a line of the document's tables of paths.
type promise struct {
	pattern *regexp.Regexp
	text    string
	written bool
	always  bool // every life meets it
}

// promises reads the rows "| path | use | for |" of a part of the document. Words of
// capital letters stand for names, and dots for anything.
func promises(text string) (all []promise) {
	row := regexp.MustCompile("(?m)^\\| (`/.*`) \\| (read|written)(, if .*?)? \\|")
	for _, m := range row.FindAllStringSubmatch(text, -1) {
		for _, quoted := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(m[1], -1) {
			pattern := strings.ReplaceAll(regexp.QuoteMeta(quoted[1]), `\.\.\.`, ".*")
			pattern = "^" + regexp.MustCompile(`[A-Z]{2,}`).ReplaceAllString(pattern, `[^/]+`) + "$"
			all = append(all, promise{regexp.MustCompile(pattern), quoted[1], m[2] == "written", m[3] == ""})
		}
	}
	return all
}

// pathsAreDocumented fails unless the document lists every path that is read or written:
// of the doors' in its first tables, and of people's commands in the last one as well.
func pathsAreDocumented(t *testing.T, doors, people string) {
	t.Helper()
	document := output(t, root, "cat", "docs/embedding.md")
	first, rest, _ := strings.Cut(document, "\n### Networks with names")
	_, last, _ := strings.Cut(rest, "\n### Commands for people only\n")
	forDoors := promises(first)
	fulfilled(t, forDoors, forDoors, doors)
	forPeople := promises(last)
	fulfilled(t, slices.Concat(forDoors, forPeople), forPeople, people)
}

// namesPathsAreDocumented is the same of networks with names or another IPAM plugin.
func namesPathsAreDocumented(t *testing.T, trace string) {
	t.Helper()
	document := output(t, root, "cat", "docs/embedding.md")
	doors, _, _ := strings.Cut(document, "\n### Commands for people only\n")
	fulfilled(t, promises(doors), nil, trace)
}

// fulfilled fails unless every access of the trace is allowed by a promise, and every one of
// those that are due is met.
func fulfilled(t *testing.T, allowed, due []promise, trace string) {
	t.Helper()
	met := map[string]bool{}
	for _, a := range accesses(trace) {
		known := false
		for _, p := range allowed {
			if p.pattern.MatchString(a.path) && (p.written || !a.written) {
				known, met[p.text] = true, true
			}
		}
		if !known {
			t.Errorf("docs/embedding.md lacks %s (written: %v)", a.path, a.written)
		}
	}
	for _, p := range due {
		if p.always && !met[p.text] {
			t.Errorf("docs/embedding.md has %s, which was not met", p.text)
		}
	}
}
