package tests

import (
	"slices"
	"strings"
	"testing"
)

// layers are the module's packages, from the top down: each imports lower ones
// only.
var layers = [][]string{
	{"flatnet"},
	{"flatnet/internal/plan"},
	{"flatnet/cni", "flatnet/internal/netavark", "flatnet/internal/cli"},
	{"flatnet/internal/doctor"},
	{"flatnet/internal/inventory"},
	{"flatnet/internal/engine"},
	{"flatnet/ipam/delegate", "flatnet/internal/registry"},
	{"flatnet/bridge", "flatnet/bridge/deadend", "flatnet/bridge/publish", "flatnet/bridge/remains", "flatnet/ipam", "flatnet/internal/dns", "flatnet/internal/resolvconf",
		"flatnet/internal/oddkeys", "flatnet/internal/span", "flatnet/internal/subnetfile"},
	{"flatnet/bridge/restore"},
	{"flatnet/bridge/share", "flatnet/bridge/upkeep", "flatnet/bridge/signs"},
	parts,
	{"flatnet/bridge/host", "flatnet/bridge/elements", "flatnet/bridge/mss", "flatnet/ipam/memory", "flatnet/internal/lockdir", "flatnet/internal/fields", "flatnet/internal/advice", "flatnet/internal/containersconf", "flatnet/internal/listeners", "flatnet/internal/podman"},
	{"flatnet/internal/flock"},
	{"flatnet/internal/report"},
	{"flatnet/bridge/model"},
	{"flatnet/rtnl", "flatnet/internal/nft", "flatnet/ns", "flatnet/internal/conntrack", "flatnet/internal/iprule"},
	{"flatnet/internal/nl", "flatnet/internal/strictjson", "flatnet/internal/sysctl", "flatnet/internal/sha256", "flatnet/internal/metric", "flatnet/internal/subprocess",
		"flatnet/internal/rootless", "flatnet/internal/peer", "flatnet/internal/input"},
	{"flatnet/internal/trace", "flatnet/internal/testns"},
}

// parts are what an attachment consists of.
var parts = []string{
	"flatnet/bridge/link", "flatnet/bridge/firewall", "flatnet/bridge/ports", "flatnet/bridge/antispoof", "flatnet/bridge/shaping",
	"flatnet/bridge/vlan", "flatnet/bridge/path", "flatnet/bridge/conflict", "flatnet/bridge/dad", "flatnet/bridge/foreign", "flatnet/bridge/forward", "flatnet/bridge/records",
	"flatnet/bridge/mirrored", "flatnet/bridge/peers",
}

// sideways are the imports within a layer.
var sideways = map[string][]string{
	"flatnet/bridge/link":     {"flatnet/bridge/vlan", "flatnet/bridge/dad"}, // the gateway's interface is a VLAN's
	"flatnet/bridge/mirrored": {"flatnet/bridge/ports"},                      // rules of its own in the table of ports
	"flatnet/bridge/peers":    {"flatnet/bridge/records"},                    // other networks may have the same peers
}

// users are the only packages that may import some.
var users = map[string][]string{
	"flatnet/bridge":              {"flatnet/internal/engine", "flatnet/internal/plan"},
	"flatnet/ipam":                {"flatnet/ipam/delegate", "flatnet/internal/engine", "flatnet/internal/inventory", "flatnet/internal/plan"},
	"flatnet/ipam/delegate":       {"flatnet/internal/engine"},
	"flatnet/ipam/memory":         {"flatnet/ipam"},
	"flatnet/internal/subprocess": {"flatnet/ipam/delegate", "flatnet/internal/dns"},
	"flatnet/ns":                  {"flatnet/bridge/link", "flatnet/bridge/vlan", "flatnet/bridge/dad"},

	"flatnet/internal/testns":            {},
	"unsafe":                             {},
	"reflect":                            {},
	"os/exec":                            {},
	"github.com/mdlayher/netlink":        {"flatnet/internal/nl", "flatnet/internal/nft", "flatnet/internal/conntrack", "flatnet/internal/listeners", "flatnet/rtnl"},
	"github.com/mdlayher/netlink/nltest": {},
	"golang.org/x/sys/unix": slices.Concat(parts, []string{"flatnet/bridge", "flatnet/bridge/upkeep", "flatnet/bridge/deadend", "flatnet/bridge/publish", "flatnet/bridge/host", "flatnet/bridge/elements", "flatnet/bridge/mss", "flatnet/rtnl", "flatnet/ns",
		"flatnet/internal/nft", "flatnet/internal/nl", "flatnet/internal/conntrack", "flatnet/internal/iprule", "flatnet/internal/listeners",
		"flatnet/internal/lockdir", "flatnet/internal/sysctl", "flatnet/internal/flock", "flatnet/internal/dns", "flatnet/internal/doctor", "flatnet/internal/trace", "flatnet/internal/subnetfile", "flatnet/internal/registry", "flatnet/internal/testns"}),
}

// pure packages have no system calls: they reach each other and the standard
// library.
var pure = []string{"flatnet/cni", "flatnet/bridge/model", "flatnet/internal/advice", "flatnet/ipam/memory", "flatnet/internal/fields", "flatnet/internal/cli", "flatnet/internal/report", "flatnet/internal/strictjson", "flatnet/internal/sha256", "flatnet/internal/metric", "flatnet/internal/peer", "flatnet/internal/span", "flatnet/internal/oddkeys"}

func TestImportsPointDownward(t *testing.T) {
	depth := map[string]int{}
	for i, layer := range layers {
		for _, name := range layer {
			depth[name] = i + 1
		}
	}
	for line := range strings.Lines(output(t, root, "go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...")) {
		fields := strings.Fields(line)
		name, imports := fields[0], fields[1:]
		if depth[name] == 0 {
			t.Errorf("package %s is in no layer", name)
		}
		for _, i := range imports {
			if depth[i] > 0 && depth[i] <= depth[name] && !slices.Contains(sideways[name], i) {
				t.Errorf("%s imports %s, which is not below it", name, i)
			}
			only, limited := users[i]
			if slices.Contains(parts, i) {
				only, limited = []string{"flatnet/bridge", "flatnet/bridge/share", "flatnet/bridge/restore", "flatnet/bridge/upkeep", "flatnet/bridge/deadend", "flatnet/bridge/publish", "flatnet/bridge/remains", "flatnet/bridge/signs", "flatnet/bridge/link", "flatnet/bridge/mirrored", "flatnet/bridge/peers", "flatnet/internal/plan"}, true
			}
			if limited && !slices.Contains(only, name) {
				t.Errorf("%s imports %s", name, i)
			}
		}
	}
}

// The words and the CNI protocol can be read, and tested, without a kernel.
func TestPurePackages(t *testing.T) {
	for _, name := range pure {
		for path := range strings.FieldsSeq(output(t, root, "go", "list", "-deps", name)) {
			domain, _, _ := strings.Cut(path, "/")
			foreign := strings.Contains(domain, ".") || domain == "flatnet" && !slices.Contains(pure, path)
			if foreign || path == "os/exec" {
				t.Errorf("%s reaches %s", name, path)
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
