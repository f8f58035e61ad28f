package tests

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"flatnet/tests/vm"
)

//go:embed vm_guest.sh
var guest string

// wsl2 is what of all this a WSL2 kernel has built in.
var wsl2 = []string{"bridge", "veth", "nf_tables", "nft_chain_nat", "nft_nat", "nft_masq"}

// bootTime bounds a whole run, which takes some 20 seconds of an idle CPU.
const bootTime = 10 * time.Minute

// The main job, and what flatnet says where a kernel lacks something, on the
// kernels that users have. The short version is one boot of each of Debian's
// two last releases.
func TestKernels(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"qemu-system-x86_64", "busybox", "modprobe", "xz"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("NOT TESTED: no kernel but this machine's: %v; tests/setup.sh test installs it", err)
		}
	}
	files := map[string]string{"bin/flatnet": program, "bin/confine": tool(t, "confine"), "bin/peer": tool(t, "demo")}
	for _, c := range []struct {
		name, suite, cmdline string
		always               bool
	}{
		{"6.1", "bookworm", "", true},
		{"6.12 without IPv6", "trixie", "ipv6.disable=1", true},
		{"6.12", "trixie", "", false},
		{"5.10", "bullseye", "", false},
		{"newest", "sid", "", false},
	} {
		if !c.always && !long {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			kernel, err := vm.Debian(c.suite)
			if err != nil {
				t.Skipf("NOT TESTED: %v", err)
			}
			m := vm.Machine{
				Kernel: kernel, Cmdline: c.cmdline, Modules: slices.Concat(wsl2, []string{"nft_meta_bridge"}), Init: guest, Timeout: bootTime,
				Files: files,
			}
			began := time.Now()
			console, err := m.Boot(t.TempDir())
			if err != nil {
				t.Errorf("qemu: %v", err)
			}
			passed := 0
			for line := range strings.Lines(console) {
				switch {
				case strings.HasPrefix(line, "PASS "):
					passed++
				case strings.HasPrefix(line, "FAIL "):
					t.Error(strings.TrimSpace(line))
				}
			}
			t.Logf("%s: %d passed in %v", kernel.Version, passed, time.Since(began).Round(time.Second))
			if !strings.Contains(console, "\nDONE\n") {
				t.Errorf("not done; the console says:\n%s", console)
			}
			if dir := os.Getenv("FLATNET_CONSOLE"); dir != "" {
				os.WriteFile(filepath.Join(dir, c.name), []byte(console), 0o644)
			}
		})
	}
}
