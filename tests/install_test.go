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

// While containers are attached, uninstall names them and leaves the plugin that
// takes them off the network again.
func TestUninstallWithContainers(t *testing.T) {
	b := newBox(t)
	b.makeTarget("install")
	b.attach("webserver")
	before := b.files()
	out, err := b.Try("make", "-s", "-C", root, "uninstall")
	if err == nil {
		t.Fatalf("uninstall says %s", out)
	}
	for _, want := range []string{"flatnet  webserver  eth0       10.87.1.2", "podman rm -f", "make uninstall FORCE=1"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("uninstall does not say %q: %v", want, err)
		}
	}
	if after := b.files(); after != before {
		t.Errorf("uninstall has removed files; left are\n%s", after)
	}
	b.Run("make", "-s", "-C", root, "uninstall", "FORCE=1")
	if left := b.Sh("find /usr/local/bin /usr/local/lib* /etc/cni -name '*flatnet*'"); left != "" {
		t.Errorf("uninstall FORCE=1 leaves %s", left)
	}
	b.makeTarget("install")
	b.do(call("DEL", "webserver"))
	b.makeTarget("uninstall")
}

// withoutGo is a directory of all tools that internal/go.sh needs, and no Go.
func withoutGo(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"sh", "sed", "dirname", "cut", "sort", "head", "tail", "git"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Where no Go can build flatnet, make says in one line what to do.
func TestMakeWithoutGo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, script string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	env := append(os.Environ(), "SUDO_USER=", "MAKELEVEL=", "MAKEFLAGS=", "PATH="+dir+":"+withoutGo(t))
	for _, c := range []struct {
		name, script string // of a go command, if there is one
		env          string
		want         []string
	}{
		{"none", "", "", []string{"there is none in PATH"}},
		{"none by sudo", "", "SUDO_USER=me", []string{"there is none in PATH", "sudo env PATH=$PATH make"}},
		{"Debian 12's", "case $1 in version) echo go version go1.19.8 linux/amd64 ;; *) echo go1.19.8 ;; esac", "", []string{"/go is 1.19.8, too old"}},
		{"one that must not fetch", `case $1 in version) echo go version go1.24.4 linux/amd64 ;; *) echo "go: go.mod requires go >= 1.26.0 (running go 1.24.4; GOTOOLCHAIN=local)"; exit 1 ;; esac`,
			"", []string{"/go is 1.24.4", "GOTOOLCHAIN=auto make"}},
		{"one that can't fetch", `case $1 in version) echo go version go1.24.4 linux/amd64 ;; *) echo "go: download go1.26.0: no route"; exit 1 ;; esac`,
			"", []string{"/go is 1.24.4", "no route"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			os.Remove(filepath.Join(dir, "go"))
			if c.script != "" {
				write("go", c.script)
			}
			for _, target := range []string{"build", "install", "demo", "test", "lint"} {
				cmd := exec.Command("make", "-s", "-C", root, target, "BIN="+dir+"/flatnet", "DESTDIR="+dir)
				cmd.Env = append(env, c.env)
				out, err := cmd.CombinedOutput()
				said, _, _ := strings.Cut(string(out), "make: ***")
				here := strings.Contains(said, "/usr/local/go/bin:$PATH make") // where this machine has one
				if err == nil || strings.Count(said, "\n") != 1 || !here && !strings.Contains(said, "https://go.dev/dl") {
					t.Errorf("make %s: %v: %s", target, err, out)
				}
				for _, want := range append(c.want, "flatnet needs Go 1.2") {
					if !strings.Contains(said, want) {
						t.Errorf("make %s does not say %q: %s", target, want, said)
					}
				}
			}
		})
	}
	write("go", "case $1 in env) echo go1.99.1 ;; *) exit 1 ;; esac")
	cmd := exec.Command("make", "-s", "-C", root, "go")
	cmd.Env = env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("a newer Go: %v: %s", err, out)
	}
}

// A build in another user's clone, as sudo makes it, has its version: git
// refuses to look into it unless it is told that it may.
func TestVersionInAnothersClone(t *testing.T) {
	t.Parallel()
	clone := filepath.Join(t.TempDir(), "clone")
	output(t, root, "git", "-c", "safe.directory=*", "clone", "-q", ".", clone)
	for _, name := range []string{"Makefile", "internal/go.sh"} { // as they are, committed or not
		output(t, root, "cp", name, filepath.Join(clone, name))
	}
	output(t, clone, "git", "-c", "user.name=t", "-c", "user.email=t@example", "commit", "-qam", "t", "--allow-empty")
	want := strings.TrimSpace(output(t, clone, "git", "rev-parse", "--short=12", "HEAD"))
	output(t, clone, "chown", "-R", "12345", clone)
	cmd := exec.Command("make", "-s", "-C", clone, "--eval=show: ; @echo $(VERSION)", "show")
	cmd.Env = append(os.Environ(), "GIT_CONFIG_SYSTEM=/dev/null", "GIT_CONFIG_GLOBAL=/dev/null", "SUDO_UID=")
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != want {
		t.Errorf("the version is %s, want %s (%v)", out, want, err)
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
