package tests

import (
	"debug/buildinfo"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A release is binaries with their checksums and bills of materials.
func TestRelease(t *testing.T) {
	t.Parallel()
	dist := filepath.Join(t.TempDir(), "dist")
	output(t, root, "make", "-s", "release", "VERSION=v1-test", "DIST="+dist)
	files := strings.Fields(output(t, dist, "ls"))
	want := []string{
		"SHA256SUMS", "flatnet-v1-test-linux-amd64", "flatnet-v1-test-linux-amd64.cdx.json",
		"flatnet-v1-test-linux-arm64", "flatnet-v1-test-linux-arm64.cdx.json",
	}
	if !slices.Equal(files, want) {
		t.Fatalf("there are %v", files)
	}
	output(t, dist, "sha256sum", "-c", "SHA256SUMS")
	for _, arch := range []string{"amd64", "arm64"} {
		binary := filepath.Join(dist, "flatnet-v1-test-linux-"+arch)
		staticAndStripped(t, binary)
		bill := output(t, dist, "cat", binary+".cdx.json")
		checkBill(t, bill, binary, arch)
		if again := output(t, root, "internal/sbom.sh", binary, "v1-test"); again != bill {
			t.Errorf("%s: the bill varies from run to run", arch)
		}
	}
}

// checkBill checks that a bill of materials lists just what the binary is made
// of, which the Go linker wrote into it.
func checkBill(t *testing.T, bill, binary, arch string) {
	t.Helper()
	type component struct {
		Type, Name, Version, PURL string
		Hashes                    []struct{ Alg, Content string }
	}
	var bom struct {
		BOMFormat, SpecVersion string
		Metadata               struct{ Component component }
		Components             []component
	}
	fromJSON(t, bill, &bom)
	sum, _, _ := strings.Cut(output(t, root, "sha256sum", binary), " ")
	self := bom.Metadata.Component
	if bom.BOMFormat != "CycloneDX" || bom.SpecVersion != "1.5" || self.Type != "application" ||
		self.PURL != "pkg:generic/flatnet@v1-test?arch="+arch || len(self.Hashes) != 1 || self.Hashes[0].Content != sum {
		t.Errorf("%s: %s", binary, bill)
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"stdlib " + strings.TrimPrefix(info.GoVersion, "go")}
	for _, dep := range info.Deps {
		want = append(want, dep.Path+" "+dep.Version)
	}
	var got []string
	for _, c := range bom.Components {
		got = append(got, c.Name+" "+c.Version)
		if c.Type != "library" || c.PURL != "pkg:golang/"+c.Name+"@"+c.Version {
			t.Errorf("component %+v", c)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s is made of %v, and the bill says %v", binary, want, got)
	}
}
