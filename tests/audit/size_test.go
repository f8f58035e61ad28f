package main

import (
	"os"
	"path/filepath"
	"testing"
)

// The binary is small. Its largest packages are shown if not, and by make audit.
func TestBinarySize(t *testing.T) {
	info, err := os.Stat(filepath.Join(root, program))
	if err != nil {
		t.Fatalf("make build first: %v", err)
	}
	bytes, err := sizes(root, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range []string{"runtime", "flatnet/rtnl", "github.com/mdlayher/netlink", "golang.org/x/sys/unix"} {
		if bytes[pkg] == 0 {
			t.Errorf("nothing of %s: the table is wrong", pkg)
		}
	}
	if t.Log("the largest packages:\n" + largest(bytes)); info.Size() > maxBinary {
		t.Errorf("%s has %d bytes, %d are allowed", program, info.Size(), maxBinary)
	}
}

func TestPackageOf(t *testing.T) {
	for symbol, want := range map[string]string{
		"main.main":                                    "main",
		"flatnet/bridge.(*Host).Add.func1":             "flatnet/bridge",
		"slices.insertionSort[go.shape.string]":        "slices",
		"slices.Sort[[]net/netip.Addr,net/netip.Addr]": "slices",
		"github.com/mdlayher/netlink.Dial":             "github.com/mdlayher/netlink",
		"gopkg.in/yaml%2ev3.Marshal":                   "gopkg.in/yaml.v3",
		"type:*flatnet/rtnl.Link":                      "(types and strings)",
		"go:string.*":                                  "(types and strings)",
	} {
		if got := packageOf(symbol); got != want {
			t.Errorf("%s: %s, want %s", symbol, got, want)
		}
	}
}
