package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// Unit tests of other architectures, by qemu's emulation of user processes, of packages
// that depend on the size of a word or the order of its bytes. It passes netlink on, but
// not nf_tables, and not all of rtnetlink: the tests that skipped names need a kernel of
// the architecture. On s390x, whose bytes have the other order, packages whose tests
// compare recorded messages of a little-endian machine are left out, except rtnl, which
// leaves out these tests.
func TestOtherArchitectures(t *testing.T) {
	t.Parallel()
	const skipped = "Kernel|^TestTransact|^TestLargeBatch|^TestCapped|^TestGenerationAfter|^TestRulesOfOthers|^TestPeerOfAPair"
	for _, a := range []struct{ arch, qemu, packages string }{
		{"arm64", "qemu-aarch64", "./internal/nl ./internal/nft ./internal/conntrack ./rtnl ./bridge/model ./internal/sha256 ./internal/strictjson ./ipam/memory"},
		{"s390x", "qemu-s390x", "./rtnl ./bridge/model ./internal/sha256 ./internal/strictjson"},
	} {
		t.Run(a.arch, func(t *testing.T) {
			runTests(t, a.arch, append(strings.Fields(a.packages), "-exec", a.qemu, "-skip", skipped)...)
		})
	}
}

// runTests runs unit tests of the product for an architecture.
func runTests(t *testing.T, arch string, args ...string) {
	t.Helper()
	// As in a release, so that the standard library is compiled once.
	cmd := exec.Command("go", append([]string{"test", "-trimpath", "-vet=off", "-count=1"}, args...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOARCH="+arch, "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("go %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// A binary of 32 bits speaks to a kernel of 64: its netlink messages are the same, and
// so is what it leaves. The kernel runs it on amd64.
func Test32Bits(t *testing.T) {
	if machine := strings.TrimSpace(output(t, root, "uname", "-m")); machine != "x86_64" {
		t.Logf("NOT RUN on %s: it takes an amd64 kernel to run a binary of 386", machine)
		return
	}
	b := newBox(t)
	runTests(t, "386", "./internal/nl", "./internal/nft", "./internal/conntrack", "./rtnl", "./bridge/model", "./ipam")
	binary := filepath.Join(t.TempDir(), "flatnet")
	output(t, root, "env", "GOARCH=386", "make", "-s", "build", "BIN="+binary)
	outside := lab.OutsideAddr + ":80"
	b.Outside.Serve(outside)
	web := b.NetNS("web")
	add := call("ADD", "web")
	add.Conf = conf(`"macspoofchk":true,"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}`)
	r := b.Call(binary, add)
	if r.Exit != 0 {
		t.Fatalf("ADD: %s", r.Stdout)
	}
	web.Serve(":80")
	if _, err := b.Outside.Ask(lab.HostAddr + ":8080"); err != nil {
		t.Error(err)
	}
	if _, err := web.Ask(outside); err != nil {
		t.Error(err)
	}
	later := add
	later.Conf = lab.WithPrev(add.Conf, r)
	for _, verb := range []string{"CHECK", "DEL"} {
		later.Command = verb
		if r := b.Call(binary, later); r.Exit != 0 {
			t.Errorf("%s: %s", verb, r.Stdout)
		}
	}
	b.clean()
}
