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
	here, there := t.TempDir(), t.TempDir()
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
	var binaries [2][]byte
	for i, dir := range []string{root, there} {
		bin := filepath.Join(here, "flatnet")
		output(t, dir, "make", "-s", "build", "VERSION=v0-test", "BIN="+bin)
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

// pkg is what go list says of a package, less the standard library.
type pkg struct {
	name    string
	imports []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	var list []pkg
	for line := range strings.Lines(output(t, root, "go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...")) {
		f := strings.Fields(line)
		list = append(list, pkg{f[0], f[1:]})
	}
	return list
}

// parts are what an attachment consists of. None imports another, but that link puts
// ports into VLANs.
var parts = []string{
	"flatnet/bridge/link", "flatnet/bridge/vlan", "flatnet/bridge/forward", "flatnet/bridge/firewall",
	"flatnet/bridge/foreign", "flatnet/bridge/shaping", "flatnet/bridge/antispoof", "flatnet/bridge/ports",
}

// arrows is which of the module's packages each one may import: downward only
// (DESIGN.md, "The house").
var arrows = map[string][]string{
	"flatnet":                     {"flatnet/cni", "flatnet/internal/netavark", "flatnet/internal/cli", "flatnet/internal/engine"},
	"flatnet/cni":                 {"flatnet/bridge/model", "flatnet/internal/fields", "flatnet/internal/strictjson"},
	"flatnet/internal/fields":     {"flatnet/bridge/model", "flatnet/internal/strictjson"},
	"flatnet/internal/engine":     {"flatnet/bridge", "flatnet/bridge/model", "flatnet/ipam", "flatnet/internal/dns", "flatnet/internal/listeners"},
	"flatnet/internal/netavark":   {"flatnet/bridge/model", "flatnet/internal/engine", "flatnet/internal/fields", "flatnet/internal/sha256", "flatnet/internal/strictjson"},
	"flatnet/internal/cli":        {"flatnet/bridge/model"},
	"flatnet/internal/dns":        {"flatnet/bridge/model", "flatnet/internal/flock", "flatnet/internal/sockdiag", "flatnet/internal/subprocess"},
	"flatnet/ipam":                {"flatnet/bridge/model", "flatnet/internal/lockdir", "flatnet/internal/strictjson", "flatnet/internal/subprocess"},
	"flatnet/internal/lockdir":    {"flatnet/bridge/model", "flatnet/internal/sysctl", "flatnet/internal/flock"},
	"flatnet/bridge":              append(parts, "flatnet/bridge/host", "flatnet/bridge/model", "flatnet/bridge/records", "flatnet/rtnl"),
	"flatnet/bridge/link":         {"flatnet/bridge/host", "flatnet/bridge/model", "flatnet/bridge/vlan", "flatnet/internal/sysctl", "flatnet/ns", "flatnet/rtnl"},
	"flatnet/bridge/vlan":         {"flatnet/bridge/host", "flatnet/bridge/model", "flatnet/internal/sha256", "flatnet/ns", "flatnet/rtnl"},
	"flatnet/bridge/forward":      {"flatnet/bridge/host", "flatnet/bridge/model"},
	"flatnet/bridge/firewall":     {"flatnet/bridge/host", "flatnet/bridge/model", "flatnet/internal/nft"},
	"flatnet/bridge/foreign":      {"flatnet/bridge/host", "flatnet/bridge/model", "flatnet/internal/nft"},
	"flatnet/bridge/shaping":      {"flatnet/bridge/host", "flatnet/bridge/model", "flatnet/rtnl"},
	"flatnet/bridge/antispoof":    {"flatnet/bridge/elements", "flatnet/bridge/host", "flatnet/bridge/model", "flatnet/internal/nft"},
	"flatnet/bridge/ports":        {"flatnet/bridge/elements", "flatnet/bridge/host", "flatnet/bridge/model", "flatnet/internal/conntrack", "flatnet/internal/nft"},
	"flatnet/bridge/elements":     {"flatnet/bridge/model", "flatnet/internal/nft"},
	"flatnet/bridge/host":         {"flatnet/bridge/model", "flatnet/internal/nft", "flatnet/internal/sysctl", "flatnet/rtnl"},
	"flatnet/bridge/records":      {"flatnet/bridge/model", "flatnet/internal/flock", "flatnet/internal/strictjson"},
	"flatnet/bridge/model":        {"flatnet/internal/sha256"},
	"flatnet/rtnl":                {"flatnet/internal/nl"},
	"flatnet/internal/nft":        {"flatnet/internal/nl"},
	"flatnet/internal/conntrack":  {"flatnet/internal/nl"},
	"flatnet/internal/listeners":  {"flatnet/bridge/model", "flatnet/internal/sockdiag"},
	"flatnet/internal/sockdiag":   {"flatnet/internal/nl"},
	"flatnet/internal/nl":         nil,
	"flatnet/internal/strictjson": nil,
	"flatnet/internal/sha256":     nil,
	"flatnet/internal/subprocess": nil,
	"flatnet/internal/sysctl":     nil,
	"flatnet/internal/flock":      nil,
	"flatnet/ns":                  nil,
}

// users is who may import what is not to be used everywhere.
var users = map[string][]string{
	"unsafe":                             {},
	"reflect":                            {},
	"os/exec":                            {},
	"github.com/mdlayher/netlink":        {"flatnet/internal/nl", "flatnet/internal/nft", "flatnet/internal/conntrack", "flatnet/internal/sockdiag", "flatnet/rtnl"},
	"golang.org/x/sys/unix":              {"flatnet/internal/nl", "flatnet/internal/nft", "flatnet/internal/conntrack", "flatnet/internal/sockdiag", "flatnet/rtnl", "flatnet/ns", "flatnet/bridge", "flatnet/bridge/host", "flatnet/bridge/link", "flatnet/bridge/vlan", "flatnet/bridge/forward", "flatnet/bridge/antispoof", "flatnet/bridge/foreign", "flatnet/bridge/shaping", "flatnet/bridge/ports", "flatnet/bridge/elements", "flatnet/bridge/records", "flatnet/internal/lockdir", "flatnet/internal/sysctl", "flatnet/internal/flock", "flatnet/internal/dns"},
	"github.com/mdlayher/netlink/nltest": {},
}

func TestImportsPointDownward(t *testing.T) {
	for _, p := range packages(t) {
		allowed, known := arrows[p.name]
		if !known {
			t.Errorf("package %s is not in the plan of the house", p.name)
		}
		for _, i := range p.imports {
			if strings.HasPrefix(i, "flatnet/") && !slices.Contains(allowed, i) {
				t.Errorf("%s imports %s", p.name, i)
			}
			if only, limited := users[i]; limited && !slices.Contains(only, p.name) {
				t.Errorf("%s imports %s", p.name, i)
			}
		}
	}
}

// What is large and has a smaller way stays out of the binary, whoever would
// bring it. The net package comes with the netlink one: of it, only the parts
// that are called are linked.
func TestLargePackagesStayOut(t *testing.T) {
	for path := range strings.FieldsSeq(output(t, root, "go", "list", "-deps", ".")) {
		for _, out := range []string{"crypto", "encoding/json", "math/big", "os/exec", "text/tabwriter"} {
			if path == out || strings.HasPrefix(path, out+"/") {
				t.Errorf("the binary contains %s", path)
			}
		}
	}
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
