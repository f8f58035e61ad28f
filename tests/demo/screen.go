package main

import (
	"fmt"
	"os"
	"strings"

	"flatnet/tests/lab"
)

// width is how many columns a line has at most.
const width = 80

// A screen prints steps, with colour on a terminal that has some.
type screen struct {
	tb    lab.TB
	color bool
	steps *int
}

func newScreen(tb lab.TB) screen {
	info, err := os.Stdout.Stat()
	return screen{tb, err == nil && colorful(info.Mode(), os.Getenv), new(int)}
}

// colorful reports whether a file of that mode is a terminal that is to have colour
// (no-color.org).
func colorful(mode os.FileMode, getenv func(string) string) bool {
	return mode&os.ModeCharDevice != 0 && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}

// Attributes of text (ECMA-48, SGR).
const (
	bold  = "1"
	cyan  = "36"
	green = "32"
	faint = "2"
)

// print prints lines, each after an indent, folded to the width.
func (s screen) print(attribute, indent, text string) {
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		for _, part := range fold(line, width-len(indent)) {
			if s.color && part != "" {
				part = "\033[" + attribute + "m" + part + "\033[0m"
			}
			fmt.Println(strings.TrimRight(indent+part, " "))
		}
	}
}

// fold breaks a line at spaces where it is longer than that many characters.
func fold(line string, limit int) (parts []string) {
	runes := []rune(line)
	for len(runes) > limit {
		at := limit
		for at > limit/2 && runes[at] != ' ' {
			at--
		}
		if runes[at] != ' ' {
			at = limit
		}
		parts = append(parts, string(runes[:at]))
		runes = append([]rune("  "), []rune(strings.TrimLeft(string(runes[at:]), " "))...)
	}
	return append(parts, string(runes))
}

func (s screen) title(text string) {
	*s.steps++
	fmt.Println()
	s.print(bold, "", fmt.Sprintf("%d. %s", *s.steps, text))
}

// command shows what a person types, which may have several lines.
func (s screen) command(text string) { s.prompt("", text) }

// prompt is command on another machine.
func (s screen) prompt(machine, text string) {
	first, rest, more := strings.Cut(text, "\n")
	s.print(cyan, "   ", machine+"$ "+first)
	if more {
		s.print(cyan, "     ", rest)
	}
}

func (s screen) output(text string) {
	if strings.TrimSpace(text) != "" {
		s.print(faint, "     ", text)
	}
}

func (s screen) say(text string) { s.print("0", "   ", text) }

// claim ends the demo if it is not so.
func (s screen) claim(so bool, seen, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !so {
		s.fail("it is not so that %s:\n%s", text, seen)
	}
	s.print(green, "   ", "ok: "+text)
}

func (s screen) fail(format string, args ...any) { s.tb.Fatalf("\nThe demo failed: "+format, args...) }
