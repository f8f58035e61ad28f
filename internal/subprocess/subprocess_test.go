package subprocess

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// sh is a command that runs a script.
func sh(script string) Command {
	return Command{Args: []string{"/bin/sh", "-c", script}, Output: 1, Limit: 100, Timeout: time.Minute}
}

func TestRun(t *testing.T) {
	t.Setenv("PLACE", "there")
	t.Setenv("COLOR", "red")
	for _, tt := range []struct {
		name   string
		change func(*Command)
		script string
		want   string
		err    string // empty: none
	}{
		{"output", nil, "echo hello", "hello\n", ""},
		{"no input", nil, "cat", "", ""},
		{"input", func(c *Command) { c.Input = []byte("words") }, "cat", "words", ""},
		{"input that is not read", func(c *Command) { c.Input = make([]byte, 1<<20) }, ":", "", ""},
		{"environment", func(c *Command) { c.Env = []string{"COLOR=blue"} }, "env | grep -e ^COLOR -e ^PLACE | sort", "COLOR=blue\nPLACE=there\n", ""},
		{"directory", func(c *Command) { c.Dir = "/proc" }, "pwd", "/proc\n", ""},
		{"only standard error", func(c *Command) { c.Output = 2 }, "echo out; echo err >&2", "err\n", ""},
		{"failure", nil, "echo sorry; exit 3", "sorry\n", "exit status 3"},
		{"signal", nil, "kill -9 $$", "", "signal: killed"},
		{"flood", nil, "exec cat /dev/zero", strings.Repeat("\x00", 101), "signal: broken pipe"},
		{"time", func(c *Command) { c.Timeout = 10 * time.Millisecond }, "echo hello; exec sleep 60", "hello\n", "killed at its time limit"},
		{"child that keeps the output open", nil, "echo hello; sleep 2 2>&1 &", "hello\n", ""},
		{"no program", func(c *Command) { c.Args = []string{"/proc/nonexistent"} }, "", "", "no such file"},
	} {
		c := sh(tt.script)
		if tt.change != nil {
			tt.change(&c)
		}
		out, err := c.Run()
		if string(out) != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %q, %v", tt.name, out, err)
		}
	}
}

func TestTimeoutEndsThoughAChildKeepsTheOutputOpen(t *testing.T) {
	c := sh("sleep 4 2>&1 & exec sleep 60")
	c.Timeout = 10 * time.Millisecond
	began := time.Now()
	if _, err := c.Run(); !errors.Is(err, ErrTimeout) || time.Since(began) > 3*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}
