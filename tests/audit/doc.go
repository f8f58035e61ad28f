package main

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// document is the auditor's path, from the root of the repository.
const document = "docs/audit.md"

// row is a line of its tables of files: | `NAME` | LINES | ... |
var row = regexp.MustCompile("(?m)^\\| `([^`|]+\\.go)` \\| *(\\d*) *\\|")

// total is a sum in its text: <!--core-->6,500<!---->
var total = regexp.MustCompile(`<!--(core|all)-->[\d,]*<!---->`)

// update returns the document with all counts as they are.
func update(doc string, files []file) string {
	lines := map[string]int{}
	for _, f := range files {
		lines[f.name] = f.lines
	}
	doc = row.ReplaceAllStringFunc(doc, func(old string) string {
		name := row.FindStringSubmatch(old)[1]
		if _, ok := lines[name]; !ok {
			return old
		}
		return fmt.Sprintf("| `%s` | %d |", name, lines[name])
	})
	t := count(files)
	return total.ReplaceAllStringFunc(doc, func(old string) string {
		name, n := total.FindStringSubmatch(old)[1], t.sum()
		if name == "core" {
			n = t.sum(core...)
		}
		return fmt.Sprintf("<!--%s-->%s<!---->", name, thousands(n))
	})
}

// thousands is 6500 as 6,500.
func thousands(n int) string {
	s := strconv.Itoa(n)
	if len(s) > 3 {
		s = s[:len(s)-3] + "," + s[len(s)-3:]
	}
	return s
}

// problems are what update can't mend: files of the core that the document lacks
// or has twice, and files, tests and declarations that it names and that don't exist.
func problems(doc string, files []file) []string {
	var list []string
	named := map[string]int{}
	for _, m := range row.FindAllStringSubmatch(doc, -1) {
		named[m[1]]++
	}
	for _, f := range files {
		if slices.Contains(core, f.pkg()) && !f.test() && named[f.name] != 1 {
			list = append(list, fmt.Sprintf("%s is named %d times: | `%[1]s` | %[3]d | |", f.name, named[f.name], f.lines))
		}
	}
	list = slices.Concat(list, missing(doc, files), undeclared(doc, files))
	slices.Sort(list)
	return slices.Compact(list)
}

// place is text such as `a`, `b` and `c` in `x/y.go`.
var (
	place = regexp.MustCompile("((?:`\\w+`(?:, | and |, and ))*`\\w+`) in `([^`]+\\.go)`")
	word  = regexp.MustCompile("`(\\w+)`")
	tests = regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
)

// undeclared are the names that the document gives to a file or to a test, and that
// are declared there no more.
func undeclared(doc string, files []file) (list []string) {
	names := map[string][]string{}
	var ofTests []string
	for _, f := range files {
		names[f.name] = f.names
		if f.test() {
			ofTests = append(ofTests, f.names...)
		}
	}
	for _, m := range place.FindAllStringSubmatch(doc, -1) {
		for _, w := range word.FindAllStringSubmatch(m[1], -1) {
			if _, ok := names[m[2]]; ok && !slices.Contains(names[m[2]], w[1]) {
				list = append(list, m[2]+" does not declare "+w[1])
			}
		}
	}
	for line := range strings.Lines(doc) {
		m := row.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		for _, w := range word.FindAllStringSubmatch(line[len(m[0]):], -1) {
			// A word in lower case may be of the configuration, or of the shell.
			if first := w[1][0]; first >= 'A' && first <= 'Z' && strings.ToUpper(w[1]) != w[1] && !slices.Contains(names[m[1]], w[1]) && !tests.MatchString(w[0]) {
				list = append(list, m[1]+" does not declare "+w[1])
			}
		}
	}
	for _, m := range tests.FindAllStringSubmatch(doc, -1) {
		if !slices.Contains(ofTests, m[1]) {
			list = append(list, "there is no test "+m[1])
		}
	}
	return list
}

// missing are the Go files that the text names in backquotes and that don't exist.
// One that it names without a directory may be in any.
func missing(doc string, files []file) (list []string) {
	for _, m := range regexp.MustCompile("`([^`\\s*]+\\.go)`").FindAllStringSubmatch(doc, -1) {
		if !slices.ContainsFunc(files, func(f file) bool { return f.name == m[1] || path.Base(f.name) == m[1] }) {
			list = append(list, m[1]+" does not exist")
		}
	}
	return list
}
