package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

const root = "../.."

func repository(t *testing.T) []file {
	t.Helper()
	files, err := read(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 100 {
		t.Fatalf("%d files: nothing is shown", len(files))
	}
	return files
}

// The core is an afternoon's reading, and nothing in the whole is a day's.
func TestSizes(t *testing.T) {
	files := repository(t)
	lines := count(files)
	for _, c := range []struct {
		name       string
		lines, max int
	}{
		{"the core", lines.sum(core...), maxCore},
		{"everything", lines.sum(), maxAll},
	} {
		if c.lines > c.max {
			t.Errorf("%s has %d lines of code, %d are allowed", c.name, c.lines, c.max)
		}
	}
	for pkg, n := range lines {
		if n > maxPackage {
			t.Errorf("package %s has %d lines of code, %d are allowed", pkg, n, maxPackage)
		}
	}
	for _, f := range files {
		if f.name == "main.go" && f.lines >= maxMain {
			t.Errorf("%s has %d lines of code, fewer than %d are allowed", f.name, f.lines, maxMain)
		}
		for _, fn := range f.long {
			t.Errorf("%s: %s has %d lines, %d are allowed", f.name, fn.name, fn.lines, maxFunction)
		}
	}
	if t.Failed() {
		t.Logf("lines of code:\n%s", report(files))
	}
}

// The auditor's path names every file of the core with its lines, and no file, test
// or declaration that is not there.
func TestDocument(t *testing.T) {
	files := repository(t)
	content, err := os.ReadFile(filepath.Join(root, document))
	if err != nil {
		t.Fatal(err)
	}
	doc := string(content)
	for _, p := range problems(doc, files) {
		t.Error(p)
	}
	was, is := strings.Split(doc, "\n"), strings.Split(update(doc, files), "\n")
	for i, line := range is {
		if was[i] != line {
			t.Errorf("%s:%d is\n%s\nand must be (make audit)\n%s", document, i+1, was[i], line)
		}
	}
}

// documents returns the names of all that is written for people.
func documents(t *testing.T) []string {
	t.Helper()
	names := []string{"README.md", "CHANGELOG.md", ".github/SECURITY.md"}
	found, err := filepath.Glob(filepath.Join(root, "docs/*.md"))
	if err != nil || len(found) < 5 {
		t.Fatalf("documents: %q, %v", found, err)
	}
	for _, path := range found {
		names = append(names, "docs/"+filepath.Base(path))
	}
	return names
}

// Documents name files and tests that exist, and link to what exists.
func TestNamesInDocuments(t *testing.T) {
	files := repository(t)
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	for _, name := range documents(t) {
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range append(missing(string(content), files), undeclared(string(content), files)...) {
			t.Errorf("%s: %s", name, p)
		}
		for _, m := range link.FindAllStringSubmatch(string(content), -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
			}
		}
	}
}

// The map of the code has every package.
func TestMapIsComplete(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, "docs/architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range repository(t) {
		dir := filepath.Dir(f.name)
		if dir != "." && !strings.HasPrefix(dir, "tests") && !strings.Contains(string(content), "`"+dir+"/`") {
			t.Errorf("docs/architecture.md has no %s/, in which %s is", dir, f.name)
		}
	}
}

// The README is read in five minutes, and all text in a terminal of 100 columns.
// Tables can't be wrapped.
func TestTextWidth(t *testing.T) {
	for _, name := range documents(t) {
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(content), "\n")
		if name == "README.md" && len(lines) > 120 {
			t.Errorf("%s has %d lines, 120 are allowed", name, len(lines))
		}
		for i, line := range lines {
			if utf8.RuneCountInString(line) > 100 && !strings.HasPrefix(line, "|") {
				t.Errorf("%s:%d is longer than 100 columns: %s", name, i+1, line)
			}
		}
	}
}

func TestCodeLines(t *testing.T) {
	const src = "// Package a is counted.\npackage a // 1\n\n/*\nnone\n*/\nvar x = `2\n\n4` // in a raw string each line counts\n\nfunc f(\n\ta int,\n) {\n\t// none\n\tg(a); g(a)\n}\n"
	if n := codeLines([]byte(src)); n != 9 {
		t.Errorf("%d lines, want 9", n)
	}
}

func TestUpdate(t *testing.T) {
	files := []file{
		{name: "main.go", lines: 70, names: []string{"main", "version"}}, {name: "internal/nl/nl.go", lines: 1300},
		{name: "internal/dns/dns.go", lines: 5}, {name: "main_test.go", lines: 9, names: []string{"TestMain"}},
	}
	const text = "see `tests/none.go`; `main`, `other` and `version` in `main.go`; `TestMain`, `TestNone`\n"
	doc := "| `main.go` | 3 | `Door`, `main`, `CNI` |\n| `gone.go` | 4 | |\nIn all <!--core-->1<!----> of <!--all--><!---->, " + text
	want := "| `main.go` | 70 | `Door`, `main`, `CNI` |\n| `gone.go` | 4 | |\nIn all <!--core-->1,370<!----> of <!--all-->1,375<!---->, " + text
	if got := update(doc, files); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	got := strings.Join(problems(doc, files), "\n")
	if want := `gone.go does not exist
internal/nl/nl.go is named 0 times: | ` + "`internal/nl/nl.go`" + ` | 1300 | |
main.go does not declare Door
main.go does not declare other
tests/none.go does not exist
there is no test TestNone`; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
