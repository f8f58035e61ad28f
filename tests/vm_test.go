package tests

import (
	_ "embed"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"flatnet/tests/vm"
)

// What happens in the machines: functions, and what calls them.
//
//go:embed vm_functions.sh
var functions string

//go:embed vm_guest.sh
var guest string

//go:embed vm_wsl2.sh
var guestWSL2 string

// wsl2 is what of all this a WSL2 kernel has built in.
var wsl2 = []string{"bridge", "veth", "nf_tables", "nft_chain_nat", "nft_nat", "nft_masq"}

// wsl2Loaded is what WSL2 2.5 and newer have as modules, and load when somebody asks for
// it. That no kernel of Debian's lacks the bridge family is made up for by what is not
// here: nft_meta_bridge, without which the family has no interface.
var wsl2Loaded = []string{
	"nft_ct", "nft_fib_ipv4", "nft_fib_ipv6", "br_netfilter", "iptable_filter", "iptable_nat", "ip6table_filter", "nf_conntrack_netlink",
	"sch_tbf", "sch_ingress", "cls_u32", "act_mirred", "ifb",
}

// bootTime bounds a whole run, which takes some 20 seconds of an idle CPU.
const bootTime = 10 * time.Minute

// A boot is a run of a script in a virtual machine.
type boot struct {
	name, suite, cmdline string
	modules              []string
	script               string
	always               bool // also in short
}

// The main job, and what flatnet says where a kernel lacks something, on the
// kernels that users have; and all that the README promises on a kernel as WSL2 has it.
// The short version is one boot of each of Debian's two last releases, and WSL2's.
func TestKernels(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"qemu-system-x86_64", "busybox", "modprobe", "xz"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("NOT TESTED: no kernel but this machine's: %v; tests/setup.sh test installs it", err)
		}
	}
	files := map[string]string{"bin/flatnet": program, "bin/confine": tool(t, "confine"), "bin/peer": tool(t, "demo")}
	minimal := slices.Concat(wsl2, []string{"nft_meta_bridge"})
	for _, b := range []boot{
		{"6.1", "bookworm", "", minimal, guest, true},
		{"6.12 without IPv6", "trixie", "ipv6.disable=1", minimal, guest, true},
		{"WSL2", "trixie", "", slices.Concat(wsl2, wsl2Loaded), guestWSL2, true},
		{"6.12", "trixie", "", minimal, guest, false},
		{"5.10", "bullseye", "", minimal, guest, false},
		{"newest", "sid", "", minimal, guest, false},
	} {
		if !b.always && !long {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			own := maps.Clone(files)
			if b.name == "WSL2" {
				dynamic(t, own, "nft")
			}
			b.run(t, own)
		})
	}
}

// dynamic adds a program of this machine to files, and the libraries that it needs.
func dynamic(t *testing.T, files map[string]string, name string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	libraries, err := exec.Command("ldd", path).Output()
	if err != nil {
		t.Fatalf("ldd %s: %v", path, err)
	}
	files["bin/"+name] = path
	for word := range strings.FieldsSeq(string(libraries)) {
		if filepath.IsAbs(word) {
			files[word] = word
		}
	}
}

func (b *boot) run(t *testing.T, files map[string]string) {
	kernel, err := vm.Debian(b.suite)
	if err != nil {
		t.Skipf("NOT TESTED: %v", err)
	}
	m := vm.Machine{Kernel: kernel, Cmdline: b.cmdline, Modules: b.modules, Init: functions + b.script, Timeout: bootTime, Files: files}
	began := time.Now()
	console, err := m.Boot(t.TempDir())
	if err != nil {
		t.Errorf("qemu: %v", err)
	}
	t.Logf("%s: %d passed in %v", kernel.Version, verdict(t, console), time.Since(began).Round(time.Second))
	if dir := os.Getenv("FLATNET_CONSOLE"); dir != "" {
		os.WriteFile(filepath.Join(dir, b.name), []byte(console), 0o644)
	}
}

// verdict fails for what the console of a machine has as failed, and returns how many
// passed.
func verdict(t *testing.T, console string) (passed int) {
	t.Helper()
	for line := range strings.Lines(console) {
		switch {
		case strings.HasPrefix(line, "PASS "):
			passed++
		case strings.HasPrefix(line, "FAIL "):
			t.Error(strings.TrimSpace(line))
		}
	}
	if !strings.Contains(console, "\nDONE\n") {
		t.Errorf("not done; the console says:\n%s", console)
	}
	return passed
}

// A machine whose initramfs has the kernel's modules, a first process, and of flatnet the
// binary alone: nothing else, no shell and no directory.
func TestInitramfs(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skipf("NOT TESTED: %v; tests/setup.sh test installs it", err)
	}
	kernel, err := vm.Debian("trixie")
	if err != nil {
		t.Skipf("NOT TESTED: %v", err)
	}
	m := vm.Machine{Kernel: kernel, Modules: wsl2, First: tool(t, "initramfs"), Timeout: bootTime, Files: map[string]string{"flatnet": program}}
	console, err := m.Boot(t.TempDir())
	if err != nil {
		t.Errorf("qemu: %v", err)
	}
	if passed := verdict(t, console); passed < 12 {
		t.Errorf("%d passed; the console says:\n%s", passed, console)
	}
}
