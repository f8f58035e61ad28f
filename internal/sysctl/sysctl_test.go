package sysctl

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// put makes a directory with one sysctl.
func put(t *testing.T, value string) (Dir, string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "net", "x")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
	return Dir(dir), file
}

func TestEnsureWritesOnlyWhatDiffers(t *testing.T) {
	for _, tt := range []struct {
		have, want string
		written    bool
	}{{"0\n", "1", true}, {"1\n", "1", false}} {
		d, file := put(t, tt.have)
		past := time.Unix(1, 0)
		if err := os.Chtimes(file, past, past); err != nil {
			t.Fatal(err)
		}
		if err := d.Ensure("net/x", tt.want); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := d.Get("net/x"); got != tt.want || st.ModTime().After(past) != tt.written {
			t.Errorf("%q -> %q: has %q, written %v", tt.have, tt.want, got, st.ModTime().After(past))
		}
	}
}

func TestCanEnsureWritesNothing(t *testing.T) {
	d, file := put(t, "0\n")
	if err := d.CanEnsure("net/x", "1"); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(file); string(got) != "0\n" {
		t.Errorf("it holds %q", got)
	}
	if err := d.CanEnsure("net/none", "1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if err := Proc.CanEnsure("kernel/random/boot_id", "x"); err == nil || !strings.Contains(err.Error(), "kernel/random/boot_id") {
		t.Errorf("read-only: %v", err)
	}
}

func TestErrorsNameTheSysctl(t *testing.T) {
	d, _ := put(t, "0")
	if err := d.Ensure("net/none", "1"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "net/none") {
		t.Errorf("missing: %v", err)
	}
	if err := Proc.Ensure("kernel/random/boot_id", "x"); err == nil || !strings.Contains(err.Error(), "kernel/random/boot_id") {
		t.Errorf("read-only: %v", err)
	}
}
