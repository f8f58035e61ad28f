package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The pages are made of the documents as they are, and mandoc has no doubt about them.
func TestPages(t *testing.T) {
	if _, err := exec.LookPath("mandoc"); err != nil {
		t.Fatalf("tests/setup.sh test installs mandoc: %v", err)
	}
	dir := t.TempDir()
	if err := write(dir, "../../docs", "v1", "2026-01-31"); err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		path := filepath.Join(dir, p.name+"."+p.section)
		if out, err := exec.Command("mandoc", "-T", "lint", "-W", "warning", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", p.name, err, out)
		}
		out, err := exec.Command("mandoc", "-T", "ascii", "-O", "width=100", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(out), "\n") {
			if strings.HasPrefix(line, "|") || strings.Contains(line, ".md") {
				t.Errorf("%s has what is of another format: %s", p.name, line)
			}
		}
		for _, want := range []string{p.name + " - " + p.about, "2026-01-31", "flatnet v1"} {
			if !strings.Contains(bare(string(out)), want) {
				t.Errorf("%s lacks %q: %.300s", p.name, want, out)
			}
		}
	}
	one, _ := os.ReadFile(filepath.Join(dir, "flatnet.1"))
	if !strings.Contains(string(one), `.SS flatnet list [\-\-json]`) {
		t.Errorf("flatnet(1) has no usage of list: %.2000s", one)
	}
}

// bare is what mandoc printed for a terminal without its overstrikes.
func bare(s string) string {
	var b []rune
	for _, r := range s {
		if r == '\b' {
			b = b[:max(0, len(b)-1)]
		} else {
			b = append(b, r)
		}
	}
	return string(b)
}

func TestManual(t *testing.T) {
	const text = "See [rules](x.md#y).\n\n## A word\n\n| key | meaning |\n|---|---|\n| `a` | `b\\|c` |  |\n\n```\n## [x](y) | z |\n```\n"
	const want = "See rules.\n\n# A WORD\n\n- `a`: `b|c`\n\n```\n## [x](y) | z |\n```\n"
	if got := manual(text); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, want := hyphens("\\fB-x\\fR a-b\n.EX\n--y \\-z\n.EE\n.SS [--json]\n"), "\\fB\\-x\\fR a-b\n.EX\n\\-\\-y \\-z\n.EE\n.SS [\\-\\-json]\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
