package lockdir

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"flatnet/bridge/model"
)

// place is a directory of that name in a base, which other users can't look into.
func place(t *testing.T, sub string) Place {
	t.Helper()
	base := t.TempDir()
	if err := os.Chmod(base, 0o700); err != nil {
		t.Fatal(err)
	}
	return Place{Base: base, Sub: sub, File: "file", Warn: t.Errorf}
}

func lock(t *testing.T, p Place) *Dir {
	t.Helper()
	d, err := p.Lock(true, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// has reports an error unless the directory has exactly these files.
func has(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s has %v, not %v", dir, got, want)
	}
}

func TestFile(t *testing.T) {
	d := lock(t, place(t, ""))
	if _, err := d.Read(10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if err := errors.Join(d.Probe([]byte("probe")), d.Replace([]byte("longer text"))); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		over string
		ok   bool
		want string
	}{{"a text", true, "a text\n\n\n\n\n"}, {"the longest text", false, "a text\n\n\n\n\n"}} {
		if ok := d.Overwrite([]byte(tt.over)); ok != tt.ok {
			t.Errorf("%s: %v", tt.over, ok)
		}
		if got, err := d.Read(20); err != nil || string(got) != tt.want {
			t.Errorf("%s: %q, %v", tt.over, got, err)
		}
	}
	if got, err := d.Read(3); err != nil || string(got) != "a te" {
		t.Errorf("of 3 bytes and one: %q, %v", got, err)
	}
	for n := range maxAside + 1 {
		if name, err := d.SetAside(); err != nil || (name == "") != (n == maxAside) {
			t.Errorf("aside %d: %q, %v", n, name, err)
		}
	}
	if err := errors.Join(d.Remove("file.broken-1"), d.Remove("file.broken-1")); err != nil {
		t.Error(err)
	}
}

func TestSigned(t *testing.T) {
	d := lock(t, place(t, ""))
	for _, tt := range []struct {
		name   string
		change func() error
		want   bool
	}{
		{"nothing yet", func() error { return nil }, false},
		{"unsure", func() error { d.Unsure = true; return d.Replace([]byte("a")) }, false},
		{"unsure, and nothing new", func() error { d.Sign(); return nil }, false},
		{"sure again", func() error { d.Unsure = false; d.Sign(); return nil }, true},
		{"by another", func() error { return errors.Join(d.Remove("file"), os.WriteFile(d.FilePath(), []byte("a"), 0o600)) }, false},
		{"replaced", func() error { return d.Replace([]byte("a")) }, true},
		{"another boot", func() error { d.boot = strings.Repeat("0", 36); return nil }, false},
		{"a boot that is unknown", func() error { d.boot = ""; d.Sign(); return nil }, false},
	} {
		if err := tt.change(); err != nil || d.Signed() != tt.want {
			t.Errorf("%s: %v, %v", tt.name, d.Signed(), err)
		}
	}
}

func TestLock(t *testing.T) {
	p := place(t, "sub")
	if _, err := p.Lock(false, time.Minute); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	has(t, p.Base)
	d := lock(t, p)
	for _, prepare := range []func() error{func() error { return nil }, func() error { return os.Remove(filepath.Join(p.Base, "sub/.lock")) }} {
		if err := prepare(); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Lock(true, time.Millisecond); !errors.Is(err, model.ErrBusy) {
			t.Errorf("locked: %v", err)
		}
	}
	// Who waits while the directory is removed makes it anew.
	next := make(chan error)
	go func() {
		d, err := p.Lock(true, time.Minute)
		if err == nil {
			err = d.Replace(nil)
			d.Leave()
		}
		next <- err
	}()
	d.Leave()
	if err := <-next; err != nil {
		t.Error(err)
	}
	has(t, filepath.Join(p.Base, "sub"), ".lock", "file")
	d = lock(t, p)
	if err := d.Remove("file"); err != nil {
		t.Fatal(err)
	}
	d.Leave()
	has(t, p.Base)
}

func TestLockBytes(t *testing.T) {
	d := lock(t, place(t, ""))
	first, err := d.LockBytes([]int64{7, 1 << 40})
	second, err2 := d.LockBytes([]int64{7})
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	first.Close()
	if got, err := d.LockedBytes(0, 1<<50); err != nil || !slices.Equal(slices.Collect(maps.Keys(got)), []int64{7}) {
		t.Errorf("locked %v, %v", got, err)
	}
	second.Close()
	if got, err := d.LockedBytes(0, 1<<50); err != nil || len(got) > 0 {
		t.Errorf("locked %v, %v", got, err)
	}
}

// What is no regular file is neither opened nor replaced.
func TestFilesThatAreRefused(t *testing.T) {
	for name, prepare := range map[string]func(path string) error{
		"a link":      func(path string) error { return os.Symlink("/proc/self/stat", path) },
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"a FIFO":      func(path string) error { return unix.Mkfifo(path, 0o600) },
	} {
		p := place(t, "")
		if err := prepare(filepath.Join(p.Base, "file")); err != nil {
			t.Fatal(err)
		}
		if _, err := lock(t, p).Read(10); !errors.Is(err, model.ErrConflict) {
			t.Errorf("%s for the file: %v", name, err)
		}
		p = place(t, "")
		if err := prepare(filepath.Join(p.Base, ".lock")); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Lock(true, time.Minute); !errors.Is(err, model.ErrConflict) {
			t.Errorf("%s for the lock: %v", name, err)
		}
	}
}
