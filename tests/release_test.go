package tests

import (
	"debug/buildinfo"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// arches are the architectures of a release, with the names that Debian and RPM give them.
var arches = map[string][2]string{
	"amd64": {"amd64", "x86_64"}, "arm64": {"arm64", "aarch64"}, "arm": {"armhf", "armv6hl"}, "riscv64": {"riscv64", "riscv64"},
	"386": {"i386", "i686"}, "ppc64le": {"ppc64el", "ppc64le"}, "s390x": {"s390x", "s390x"},
}

// filesOf are the files of a release for an architecture, without the checksums.
func filesOf(arch string) []string {
	binary := "flatnet-v1.2-rc1-linux-" + arch
	return []string{binary, binary + ".cdx.json", "flatnet_1.2~rc1-1_" + arches[arch][0] + ".deb", "flatnet-1.2~rc1-1." + arches[arch][1] + ".rpm"}
}

// A release is, for each architecture, a binary with its bill of materials and packages;
// and the checksums. Built elsewhere, later and by somebody else, it is the same.
func TestRelease(t *testing.T) {
	t.Parallel()
	dist, again := filepath.Join(t.TempDir(), "dist"), filepath.Join(t.TempDir(), "again")
	const variables = "VERSION=v1.2-rc1 COMMIT=0123456789ab SOURCE_DATE_EPOCH=1700000000 DIST=" // git's there
	output(t, root, "sh", "-ec", "make -s release "+variables+dist)
	want := []string{"SHA256SUMS"}
	for arch := range arches {
		want = append(want, filesOf(arch)...)
	}
	slices.Sort(want)
	if files := strings.Fields(output(t, dist, "env", "LC_ALL=C", "ls")); !slices.Equal(files, want) {
		t.Fatalf("there are %v, want %v", files, want)
	}
	output(t, dist, "sha256sum", "-c", "SHA256SUMS")
	for arch := range arches {
		binary := filepath.Join(dist, filesOf(arch)[0])
		staticAndStripped(t, binary)
		checkBill(t, output(t, dist, "cat", binary+".cdx.json"), binary, arch)
		deb := filepath.Join(dist, filesOf(arch)[2])
		if got := output(t, dist, "dpkg-deb", "-f", deb, "Version", "Architecture"); got != "Version: 1.2~rc1-1\nArchitecture: "+arches[arch][0]+"\n" {
			t.Errorf("%s: %s", deb, got)
		}
	}
	output(t, copyOfTree(t), "sh", "-ec", "umask 077; TZ=Asia/Tokyo make -s release ARCHES='arm64 386' "+variables+again)
	for _, name := range slices.Concat(filesOf("arm64"), filesOf("386")) {
		output(t, dist, "cmp", name, filepath.Join(again, name))
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
		self.PURL != "pkg:generic/flatnet@v1.2-rc1?arch="+arch || len(self.Hashes) != 1 || self.Hashes[0].Content != sum {
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
