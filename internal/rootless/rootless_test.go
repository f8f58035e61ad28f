package rootless

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// The same variables mean nothing until Podman says that it is rootless; see
// TestRootlessDirectories of the end-to-end tests for users without a Podman.
func TestDirectories(t *testing.T) {
	real := t.TempDir()
	home := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(real, home); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/9")
	for _, tt := range []struct{ podman, data, leases, networks, names string }{
		{"", "", "", "", ""},
		{"", "/data", "", "", ""},
		{"init", "/data", "", "", ""}, // not in the user namespace yet
		{"done", "", real + "/.local/share/flatnet/ipam", real + "/.local/share/containers/storage/networks", "/run/user/9/containers/networks/aardvark-dns"},
		{"done", "/data", "/data/flatnet/ipam", "/data/containers/storage/networks", "/run/user/9/containers/networks/aardvark-dns"},
		{"done", "relative", real + "/.local/share/flatnet/ipam", real + "/.local/share/containers/storage/networks", "/run/user/9/containers/networks/aardvark-dns"},
	} {
		t.Setenv("_CONTAINERS_USERNS_CONFIGURED", tt.podman)
		t.Setenv("XDG_DATA_HOME", tt.data)
		if l, n, s := Leases(nil), Networks(), Names(); l != tt.leases || n != tt.networks || s != tt.names {
			t.Errorf("%+v: %q, %q, %q", tt, l, n, s)
		}
	}
}

// The host's root has no other directory, whatever is wrong with the system's.
func TestHostRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("requires root")
	}
	t.Setenv("_CONTAINERS_USERNS_CONFIGURED", "")
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/9")
	if dir := Leases(errors.New("sick")); dir != "" {
		t.Errorf("leases in %s", dir)
	}
	if dir := Records(); dir != "/run/flatnet" {
		t.Errorf("records in %s", dir)
	}
	if text := Elsewhere("list") + Refusal("list"); text != "" {
		t.Error(text)
	}
}
