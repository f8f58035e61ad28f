package lab

import (
	"fmt"
	"os"
)

// A Script is the [TB] of a program that is no test: a failure ends it with
// status 1, after its cleanups.
type Script struct {
	cleanups []func()
}

// Helper does nothing.
func (*Script) Helper() {}

// Fatalf says what went wrong, cleans up and exits.
func (s *Script) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	s.Close()
	os.Exit(1)
}

// Cleanup registers what [Script.Close] runs, last one first.
func (s *Script) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

// TempDir is a directory that goes with the script.
func (s *Script) TempDir() string {
	dir, err := os.MkdirTemp("", "flatnet-lab-")
	if err != nil {
		s.Fatalf("%v", err)
	}
	s.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Close runs the cleanups.
func (s *Script) Close() {
	for len(s.cleanups) > 0 {
		last := len(s.cleanups) - 1
		f := s.cleanups[last]
		s.cleanups = s.cleanups[:last]
		f()
	}
}
