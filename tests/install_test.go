package tests

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestInstallAndUninstall(t *testing.T) {
	const conf = "/etc/cni/net.d/87-flatnet.conflist"
	b := newBox(t)
	before := b.files()
	b.makeTarget("install")
	b.makeTarget("uninstall")
	if after := b.files(); after != before {
		t.Errorf("install and uninstall leave\n%s", after)
	}
	b.Sh("mkdir -p /etc/cni/net.d")
	b.Write(conf, "mine")
	b.makeTarget("install")
	b.makeTarget("uninstall")
	if b.Read(conf) != "mine" {
		t.Error("a network that was there is overwritten or removed")
	}
}

// files lists the files that are in the world's /etc and /usr alone.
func (b box) files() string {
	b.t.Helper()
	return b.Sh("find /run/lab -type f -o -type c")
}

// makeTarget runs make in the world, with the binary that is built already.
func (b box) makeTarget(target string) {
	b.t.Helper()
	b.Run("make", "-s", "-C", root, "-o", "build", target)
}

// The doors are those that the machine's Podman has; without one, both.
func TestInstallChoosesTheDoors(t *testing.T) {
	const (
		people   = "usr/local/bin/flatnet"
		cni      = "usr/local/lib/cni/flatnet"
		conflist = "etc/cni/net.d/87-flatnet.conflist"
		netavark = "usr/local/libexec/netavark/flatnet"
	)
	for _, tt := range []struct {
		podman, doors string
		want          []string
	}{
		{"3.4.4", "", []string{people, cni, conflist}},
		{"4.3.1", "", []string{people, cni, conflist}},
		{"4.9.3", "", []string{people, cni, conflist, netavark}},
		{"5.4.2", "", []string{people, netavark}},
		{"6.0.0", "", []string{people, netavark}},
		{"", "", []string{people, cni, conflist, netavark}},
		{"5.4.2", "cni", []string{people, cni, conflist}},
	} {
		t.Run(tt.podman+" "+tt.doors, func(t *testing.T) {
			dest, bin := t.TempDir(), t.TempDir()
			says, status := "podman version "+tt.podman, 0
			if tt.podman == "" {
				status = 127
			}
			script := fmt.Sprintf("#!/bin/sh\necho %s\nexit %d\n", says, status)
			if err := os.WriteFile(filepath.Join(bin, "podman"), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			runMake(t, bin, "install", dest, tt.doors)
			slices.Sort(tt.want)
			if got := filesBelow(t, dest); !slices.Equal(got, tt.want) {
				t.Errorf("install leaves %v, want %v", got, tt.want)
			}
			runMake(t, bin, "uninstall", dest, tt.doors)
			if got := filesBelow(t, dest); got != nil {
				t.Errorf("uninstall leaves %v", got)
			}
		})
	}
}

// runMake runs a target for dest with another Podman first in PATH.
func runMake(t *testing.T, bin, target, dest, doors string) {
	t.Helper()
	cmd := exec.Command("make", "-s", "-C", root, "-o", "build", target, "BIN="+program, "DESTDIR="+dest, "DOORS="+doors)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make %s: %v: %s", target, err, out)
	}
}

// filesBelow lists the regular files below a directory, in order.
func filesBelow(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
