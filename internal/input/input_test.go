package input

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	err := errors.Join(os.WriteFile(at("file"), []byte("four"), 0o600), os.Symlink("file", at("link")), os.Symlink("loop", at("loop")),
		syscall.Mkfifo(at("fifo"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ path, want, err string }{
		{at("file"), "four", ""},
		{at("link"), "four", ""},
		{at("fifo"), "", "fifo is a pipe, not a regular file"},
		{dir, "", " is a directory, not a regular file"},
		{"/dev/zero", "", "/dev/zero is a device or socket, not a regular file"},
		{at("none"), "", "no such file"},
		{at("loop"), "", "too many levels of symbolic links"},
		{"/proc/sys/kernel/osrelease", "", "has more than 4 bytes"},
	} {
		got, err := Read(tt.path, 4)
		if string(got) != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %q, %v", tt.path, got, err)
		}
	}
	if got, err := Read("/proc/self/comm", 64); len(got) == 0 || err != nil {
		t.Errorf("of /proc: %q, %v", got, err)
	}
}
