package tests

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

func TestInstallAndUninstall(t *testing.T) {
	const conf = "/etc/cni/net.d/87-flatnet.conflist"
	b := newBox(t)
	before := b.files()
	b.makeTarget("install")
	if network := b.Read(conf); !strings.Contains(network, `"cniVersion": "0.4.0"`) { // Podman 3 knows no newer one
		t.Errorf("the network is %s", network)
	}
	for _, script := range completionFiles() {
		if b.Run("cat", "/"+script) == "" {
			t.Errorf("%s is empty", script)
		}
	}
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
	for _, want := range []string{"flatnet  webserver ", "10.87.1.2", "podman rm -f", "make uninstall FORCE=1"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("uninstall does not say %q: %v", want, err)
		}
	}
	if after := b.files(); after != before {
		t.Errorf("uninstall has removed files; left are\n%s", after)
	}
	if out := b.Run("make", "-s", "-C", root, "uninstall", "FORCE=1"); !strings.Contains(out, "until\nflatnet is installed again:\nflatnet  webserver ") {
		t.Errorf("uninstall FORCE=1 says %s", out)
	}
	if left := b.Sh("find /usr/local/bin /usr/local/lib* /etc/cni -name '*flatnet*'"); left != "" {
		t.Errorf("uninstall FORCE=1 leaves %s", left)
	}
	b.makeTarget("install")
	b.do(call("DEL", "webserver"))
	b.makeTarget("uninstall")
}

// rootlessNamespace attaches a container in a network namespace that is mounted as a
// rootless Podman's is: where only the user's processes see it.
const rootlessNamespace = `mkdir -p /run/user
mount -t tmpfs user /run/user
d=/run/user/1000/containers/networks/rootless-netns
mkdir -p $d
touch $d/rootless-netns /run/user/c1
mount --bind /proc/self/ns/net $d/rootless-netns
hostile='/run/user/!|;e echo HIJACKED #/containers/networks/rootless-netns'
mkdir -p "$hostile"
touch "$hostile/rootless-netns"
mount --bind /proc/self/ns/net "$hostile/rootless-netns"
ip link set lo up
unshare --net=/run/user/c1 true
echo '{"cniVersion":"1.0.0","name":"flatnet","type":"flatnet","ipam":{"dataDir":"/run/user/ipam"}}' |
	CNI_COMMAND=ADD CNI_CONTAINERID=users CNI_NETNS=/run/user/c1 CNI_IFNAME=eth0 $0 >/dev/null
echo ready
exec cat >/dev/null`

// Containers of users are named as well, and those that are not known are not taken for
// none. Users choose the names of directories there, which are no part of a command.
func TestUninstallWithContainersOfUsers(t *testing.T) {
	b := newBox(t)
	b.makeTarget("install")
	cmd := b.Cmd("unshare", "-n", "-m", "--propagation", "private", "sh", "-ec", rootlessNamespace, program)
	in, out := b.open(cmd)
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	says := func(want string, env ...string) {
		t.Helper()
		out, err := b.Try(slices.Concat([]string{"env"}, env, []string{"make", "-s", "-C", root, "uninstall"})...)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(out+err.Error(), "HIJACKED") {
			t.Errorf("uninstall says %s, %v; want %q", out, err, want)
		}
	}
	says("(user 1000)")
	without := t.TempDir()
	for _, name := range []string{"sh", "make", "dirname", "stat", "tail", "sed", "env", "cmp", "rm", "git"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(without, name)); err != nil {
			t.Fatal(err)
		}
	}
	says("(which ones is not known)", "PATH="+without) // which has no nsenter
	if left := b.Sh("ls /usr/local/bin/flatnet"); left == "" {
		t.Error("flatnet is removed")
	}
	in.Close()
	cmd.Wait()
	b.makeTarget("uninstall")
}

// With real Podmans, by both doors, which also have networks that need flatnet.
func TestUninstallWithPodman(t *testing.T) {
	for _, suite := range []string{"trixie", "bookworm"} {
		t.Run(suite, func(t *testing.T) {
			b := newBox(t)
			p := b.debianPodman(suite)
			uninstall := []string{"make", "-s", "-C", lab.Repository, "uninstall"}
			want := "" // of uninstall
			if suite == "trixie" {
				p.Do("network", "create", "--driver", "flatnet", "flatnet")
				want = "no container starts on the network flatnet (podman network rm flatnet)"
			}
			p.Start("web", "-p", "8080:80")
			id := p.Do("inspect", "-f", "{{.ID}}", "web")
			if out, err := p.World.Try(uninstall...); err == nil || !strings.Contains(err.Error(), id[:12]) {
				t.Errorf("uninstall does not name %s: %s, %v", id, out, err)
			}
			p.Do("stop", "-t0", "web")
			p.Do("start", "web") // with the plugin, which is still there
			p.Do("rm", "-fat0")
			if out := p.World.Run(uninstall...); !strings.Contains(out, want) {
				t.Errorf("uninstall says %s", out)
			}
			installAsTold(t, p, suite == "bookworm")
		})
	}
}

// installAsTold installs without a configuration of Podman, and does what that says.
func installAsTold(t *testing.T, p lab.Podman, cni bool) {
	t.Helper()
	out := p.World.Sh("rm /etc/containers/containers.conf; make -s -C " + lab.Repository + " -o build install 2>&1")
	_, told, found := strings.Cut(out, "Podman 4 must be told to use CNI, once, before it has containers:\n")
	if found != cni || cni && !strings.Contains(out, "has netavark 1.4.0, which knows no plugins") {
		t.Errorf("install says %s", out)
	}
	if !cni {
		return
	}
	p.World.Sh(told)
	if again := p.World.Sh("make -s -C " + lab.Repository + " -o build install 2>&1"); strings.Contains(again, "must be told") {
		t.Errorf("a second install says %s", again)
	}
	if backend := p.Do("info", "-f", "{{.Host.NetworkBackend}}"); backend != "cni" {
		t.Errorf("Podman uses %s", backend)
	}
}

// withoutGo is a directory of all tools that internal/go.sh needs, and no Go.
func withoutGo(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"sh", "sed", "dirname", "cut", "sort", "head", "tail", "git", "mount"} {
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

// adviseOnGo reports whether make says where a Go is: on this machine, or else what each
// distribution has.
func adviseOnGo(said string) bool {
	if strings.Contains(said, "/usr/local/go/bin:$PATH make") {
		return strings.Count(said, "\n") == 2
	}
	for _, has := range []string{"Debian 13, sid  apt install golang", "Debian 12       apt install -t bookworm-backports", "Ubuntu 24.04    apt",
		"Ubuntu 22.04    apt install golang-1.23-go", "Fedora          dnf install golang", "Alpine          apk add go", "https://go.dev/dl"} {
		if !strings.Contains(said, has) {
			return false
		}
	}
	return true
}

// On a machine that has no Go at all, make says what each distribution has.
func TestMakeNamesDistributions(t *testing.T) {
	b := newBox(t)
	out, err := b.Try("env", "PATH="+withoutGo(t), "sh", "-c", "! test -d /usr/local/go || mount -t tmpfs none /usr/local/go; "+root+"/internal/go.sh")
	if err == nil || !strings.Contains(err.Error(), "flatnet needs Go 1.2") || !adviseOnGo(err.Error()) || !strings.Contains(err.Error(), "Any Go from 1.21") {
		t.Errorf("go.sh says %s, %v", out, err)
	}
}

// Where no Go can build flatnet, make says which one it needs, and who has it.
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
				if err == nil || !adviseOnGo(said) {
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

// make alone lists what it can do.
func TestMakeListsItsTargets(t *testing.T) {
	t.Parallel()
	list := output(t, root, "make")
	for _, target := range []string{"build", "man", "release", "install", "uninstall", "demo", "test", "audit", "clean"} {
		if !strings.Contains("\n"+list, "\n"+target+"\t") {
			t.Errorf("make does not list %s: %s", target, list)
		}
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
		podman, netavark, doors string
		want                    []string
		says                    string
	}{
		{"3.4.4", "", "", []string{people, cni, conflist}, ""},
		{"4.3.1", "1.4.0", "", []string{people, cni, conflist}, "podman version 4.3.1 has netavark 1.4.0, which knows no plugins"},
		{"4.9.3", "1.4.0", "", []string{people, cni, conflist}, "podman version 4.9.3 has netavark 1.4.0, which knows no plugins"}, // Ubuntu 24.04
		{"4.9.3", "1.6.0", "", []string{people, cni, conflist, netavark}, ""},
		{"4.9.3", "", "", []string{people, cni, conflist, netavark}, ""},
		{"5.4.2", "1.14.0", "", []string{people, netavark}, ""},
		{"5.4.2", "1.5.0", "", []string{people}, "Install a newer netavark"},
		{"6.1.1", "2.0.0-dev", "", []string{people, netavark}, ""},
		{"6.0.0", "", "", []string{people, netavark}, ""},
		{"", "", "", []string{people, cni, conflist, netavark}, ""},
		{"5.4.2", "1.14.0", "cni", []string{people, cni, conflist}, ""},
	} {
		t.Run(tt.podman+" "+tt.netavark+" "+tt.doors, func(t *testing.T) {
			dest, bin := t.TempDir(), t.TempDir()
			fake(t, filepath.Join(bin, "podman"), "podman version ", tt.podman)
			fake(t, filepath.Join(bin, "netavark"), "netavark ", tt.netavark)
			if out := runMake(t, bin, "install", dest, tt.doors); !strings.Contains(out, tt.says) || tt.says == "" && strings.Contains(out, "plugins") {
				t.Errorf("install says %s", out)
			}
			tt.want = append(tt.want, completionFiles()...)
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

// completionFiles are where make install puts completions.
func completionFiles() []string {
	return []string{"usr/local/share/bash-completion/completions/flatnet", "usr/local/share/zsh/site-functions/_flatnet",
		"usr/local/share/fish/vendor_completions.d/flatnet.fish"}
}

// The manual pages are installed if they have been made, and PREFIX and DESTDIR say where.
func TestInstallManualPages(t *testing.T) {
	t.Parallel()
	dest, pages := t.TempDir(), t.TempDir()
	for _, page := range []string{"flatnet.1", "flatnet-cni.7"} {
		if err := os.WriteFile(filepath.Join(pages, page), []byte(page), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	target := func(name string) []string {
		output(t, root, "make", "-s", "-o", "build", name, "BIN="+program, "DESTDIR="+dest, "PREFIX=/opt/f", "NETAVARKDIR=/opt/f/libexec/netavark", "CONFDIR=/opt/c", "DOORS=netavark", "MAN="+pages)
		return filesBelow(t, dest)
	}
	want := []string{"opt/f/bin/flatnet", "opt/f/libexec/netavark/flatnet", "opt/f/share/bash-completion/completions/flatnet", "opt/f/share/fish/vendor_completions.d/flatnet.fish",
		"opt/f/share/man/man1/flatnet.1", "opt/f/share/man/man7/flatnet-cni.7", "opt/f/share/zsh/site-functions/_flatnet"}
	if got := target("install"); !slices.Equal(got, want) {
		t.Errorf("install leaves %v, want %v", got, want)
	}
	for _, path := range want[4:6] {
		if info, err := os.Stat(filepath.Join(dest, path)); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	if got := target("uninstall"); got != nil {
		t.Errorf("uninstall leaves %v", got)
	}
}

// fake makes a program that says its version, or fails without one.
func fake(t *testing.T, path, says, version string) {
	t.Helper()
	status := 0
	if version == "" {
		status = 127
	}
	script := fmt.Sprintf("#!/bin/sh\n[ %d != 0 ] || echo %s%s\nexit %[1]d\n", status, says, version)
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
}

// runMake runs a target for dest with another Podman first in PATH, and another netavark.
// It returns what is said.
func runMake(t *testing.T, bin, target, dest, doors string) string {
	t.Helper()
	cmd := exec.Command("make", "-s", "-C", root, "-o", "build", target, "BIN="+program, "DESTDIR="+dest, "DOORS="+doors, "MAN=/none")
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "CONTAINERS_HELPER_BINARY_DIR="+bin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("make %s: %v: %s", target, err, out)
	}
	return string(out)
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
