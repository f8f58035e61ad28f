package tests

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestBinaryIsStaticAndStripped(t *testing.T) { staticAndStripped(t, program) }

func staticAndStripped(t *testing.T, binary string) {
	t.Helper()
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Type != elf.ET_EXEC {
		t.Errorf("type %v: position-independent", f.Type)
	}
	stack := false
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("%v: dynamically linked", p.Type)
		}
		if p.Flags&(elf.PF_W|elf.PF_X) == elf.PF_W|elf.PF_X {
			t.Errorf("%v is writable and executable", p.Type)
		}
		stack = stack || p.Type == elf.PT_GNU_STACK
	}
	if !stack {
		t.Error("no PT_GNU_STACK: whether the stack is executable is up to the kernel")
	}
	if f.Section(".symtab") != nil || f.Section(".debug_info") != nil || f.Section(".zdebug_info") != nil {
		t.Error("not stripped")
	}
}

func TestBuildIsReproducible(t *testing.T) {
	t.Parallel()
	here, there := t.TempDir(), copyOfTree(t)
	var binaries [2][]byte
	for i, dir := range []string{root, there} {
		bin := filepath.Join(here, "flatnet")
		output(t, dir, "make", "-s", "build", "VERSION=v0-test", "COMMIT=0123456789ab", "BIN="+bin)
		content, err := os.ReadFile(bin)
		if err != nil {
			t.Fatal(err)
		}
		binaries[i] = content
	}
	if !bytes.Equal(binaries[0], binaries[1]) {
		t.Error("builds of the same files in two directories differ")
	}
	home, _ := os.UserHomeDir()
	for _, path := range []string{root + "/", there, filepath.Join(home, "go")} {
		if bytes.Contains(binaries[0], []byte(path)) {
			t.Errorf("the binary contains %s", path)
		}
	}
	if !bytes.Contains(binaries[0], []byte("v0-test")) {
		t.Error("the version is not in the binary")
	}
}

// copyOfTree is the repository's files in another directory, without git's.
func copyOfTree(t *testing.T) string {
	t.Helper()
	there := t.TempDir()
	for _, name := range strings.Fields(output(t, root, "git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard")) {
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			continue // deleted, and not yet committed
		}
		to := filepath.Join(there, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return there
}

func TestTwoDirectDependencies(t *testing.T) {
	deps := strings.Fields(output(t, root, "go", "list", "-m", "-f", "{{if not (or .Main .Indirect)}}{{.Path}}{{end}}", "all"))
	if want := []string{"github.com/mdlayher/netlink", "golang.org/x/sys"}; !slices.Equal(deps, want) {
		t.Errorf("direct dependencies are %v", deps)
	}
}

// output runs a program outside of any world.
func output(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, stderr.String())
	}
	return string(out)
}
