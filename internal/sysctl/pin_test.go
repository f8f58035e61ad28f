package sysctl

import (
	"errors"
	"io/fs"
	"testing"
)

func TestPin(t *testing.T) {
	d, file := put(t, "0\n")
	pinned, f, err := d.Pin("net")
	if err != nil {
		t.Fatal(err)
	}
	if err := pinned.Ensure("x", "1"); err != nil {
		t.Fatal(err)
	}
	if v, err := d.Get("net/x"); v != "1" || err != nil {
		t.Errorf("%s holds %q, %v", file, v, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := pinned.Get("x"); err == nil {
		t.Error("it is reached after Close")
	}
	if _, _, err := d.Pin("net/x"); err == nil {
		t.Error("a file is no directory")
	}
	if _, _, err := d.Pin("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}
