package hosts

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flatnet/tests/vm"
)

//go:embed wireguard.sh
var wireguard string

// bootTime bounds a whole run, which takes some 40 seconds of an idle CPU.
const bootTime = 10 * time.Minute

// The recipe of docs/hosts.md, with a kernel that has WireGuard: one of Debian's, in a
// virtual machine.
func TestRecipeWireGuard(t *testing.T) {
	t.Parallel()
	dir := engines(t)
	for _, name := range []string{"qemu-system-x86_64", "busybox", "modprobe", "xz"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("NOT TESTED: no kernel but this machine's: %v; tests/setup.sh test installs it", err)
		}
	}
	kernel, err := vm.Debian("trixie")
	if err != nil {
		t.Skipf("NOT TESTED: %v", err)
	}
	peer := filepath.Join(t.TempDir(), "peer")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", peer, "../demo")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const unit = "lib/systemd/system/wg-quick@.service"
	files := map[string]string{"bin/flatnet": program, "bin/peer": peer, "bin/systemctl": "systemctl", "bin/podman": "podman",
		"usr/bin/wg-quick": filepath.Join(dir, "usr/bin/wg-quick"), "usr/lib/systemd/system/wg-quick@.service": filepath.Join(dir, unit)}
	if _, err := os.Stat(filepath.Join(dir, unit)); err != nil { // a suite with all of it in /usr
		files["usr/lib/systemd/system/wg-quick@.service"] = filepath.Join(dir, "usr", unit)
	}
	for to, name := range map[string]string{"usr/bin/wg": filepath.Join(dir, "usr/bin/wg"), "usr/sbin/ip": "ip", "bin/bash": "bash"} {
		dynamic(t, files, to, name)
	}
	for i, b := range recipe(t, "WireGuard") {
		for n := 1; n <= 3; n++ {
			name := fmt.Sprintf("%d.%d", i+1, n)
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, []byte(b.on(n)), 0o600); err != nil {
				t.Fatal(err)
			}
			files["recipe/"+name] = path
		}
	}
	m := vm.Machine{Kernel: kernel, Init: wireguard, Timeout: bootTime, Files: files,
		Modules: []string{"bridge", "veth", "nf_tables", "nft_chain_nat", "nft_nat", "nft_masq", "nft_ct", "wireguard"}}
	console, err := m.Boot(t.TempDir())
	if err != nil {
		t.Errorf("qemu: %v", err)
	}
	judge(t, console)
}

// judge fails for each line that says so.
func judge(t *testing.T, console string) {
	t.Helper()
	passed := 0
	for line := range strings.Lines(console) {
		switch {
		case strings.HasPrefix(line, "PASS "):
			passed++
		case strings.HasPrefix(line, "FAIL "):
			t.Error(strings.TrimSpace(line))
		}
	}
	t.Logf("%d passed", passed)
	if !strings.Contains(console, "\nDONE\n") || t.Failed() {
		t.Errorf("the console says:\n%s", console)
	}
}

// dynamic adds a program of this machine to files, and the libraries that it needs.
func dynamic(t *testing.T, files map[string]string, to, name string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	libraries, err := exec.Command("ldd", path).Output()
	if err != nil {
		t.Fatalf("ldd %s: %v", path, err)
	}
	files[to] = path
	for word := range strings.FieldsSeq(string(libraries)) {
		if filepath.IsAbs(word) {
			files[word] = word
		}
	}
}
