package main

import (
	"os"
	"slices"
	"testing"
)

func TestFold(t *testing.T) {
	for _, tt := range []struct {
		line string
		want []string
	}{
		{"", []string{""}},
		{"ten bytes.", []string{"ten bytes."}},
		{"eleven byte", []string{"eleven", "  byte"}},
		{"neverendingword", []string{"neverendin", "  gword"}},
		{"├─ fn ─── x", []string{"├─ fn ───", "  x"}},
	} {
		if got := fold(tt.line, 10); !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q", tt.line, got)
		}
	}
}

func TestColorful(t *testing.T) {
	for _, tt := range []struct {
		mode          os.FileMode
		noColor, term string
		want          bool
	}{
		{os.ModeDevice | os.ModeCharDevice, "", "xterm", true},
		{os.ModeDevice | os.ModeCharDevice, "1", "xterm", false},
		{os.ModeDevice | os.ModeCharDevice, "", "dumb", false},
		{os.ModeNamedPipe, "", "xterm", false},
		{0, "", "xterm", false},
	} {
		env := map[string]string{"NO_COLOR": tt.noColor, "TERM": tt.term}
		if got := colorful(tt.mode, func(name string) string { return env[name] }); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}
