//go:build long

package tests

import (
	"debug/buildinfo"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A release's bill of materials lists just what the binary is made of.
func TestSBOM(t *testing.T) {
	var bom struct {
		BOMFormat, SpecVersion string
		Metadata               struct {
			Component struct{ Name, Version string }
		}
		Components []struct{ Type, Name, Version, PURL string }
	}
	text := output(t, root, "internal/sbom.sh", program, "v1-test")
	fromJSON(t, text, &bom)
	if bom.BOMFormat != "CycloneDX" || bom.SpecVersion != "1.5" || bom.Metadata.Component.Name != "flatnet" || bom.Metadata.Component.Version != "v1-test" {
		t.Errorf("%s", text)
	}
	info, err := buildinfo.ReadFile(program)
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
	if strings.Join(got, ",") != strings.Join(want, ",") {
		t.Errorf("lists %v, and the binary has %v", got, want)
	}
	if again := output(t, root, "internal/sbom.sh", program, "v1-test"); again != text {
		t.Error("varies from run to run")
	}
}

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
		t.Errorf("there are %v", files)
	}
	output(t, dist, "sha256sum", "-c", "SHA256SUMS")
}
