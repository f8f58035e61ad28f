package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2/files"
)

const header = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: flatnet

Files: *
Copyright: the authors of flatnet
License: Apache-2.0

License: Apache-2.0
 On Debian systems, the full text of the Apache License 2.0 is in
 /usr/share/common-licenses/Apache-2.0.

Comment:
`

// licenses adds flatnet's license, and those of the modules that are linked into the
// binary, which ask for it.
func (l *list) licenses(arch string) {
	linked, err := l.linked(arch)
	l.fail(err)
	if l.format == "deb" {
		l.bytes([]byte(header+indent(linked)), documentation+"/copyright")
		return
	}
	const dir = "/usr/share/licenses/flatnet"
	l.dir(dir)
	l.add(files.TypeRPMLicense, filepath.Join(l.repo, "LICENSE"), dir+"/LICENSE", 0o644)
	l.bytes([]byte(linked), dir+"/LICENSES.linked")
}

// linked has the licenses of all modules that the binary's own build information lists.
// Go's standard library has the same one as golang.org/x/sys.
func (l *list) linked(arch string) (string, error) {
	info, err := buildinfo.ReadFile(l.binary(arch))
	if err != nil {
		return "", err
	}
	text := "The binary is linked with the standard library of Go, which has the license of\n" +
		"golang.org/x/sys, and with these modules:\n"
	for _, dep := range info.Deps {
		cmd := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", dep.Path)
		cmd.Dir = l.repo
		dir, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("go list %s: %w", dep.Path, err)
		}
		found, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "LICENSE*"))
		if err != nil || len(found) == 0 {
			return "", fmt.Errorf("%s has no license file (%v)", dep.Path, err)
		}
		license, err := os.ReadFile(found[0])
		if err != nil {
			return "", err
		}
		text += fmt.Sprintf("\n%s %s\n\n%s", dep.Path, dep.Version, license)
	}
	return text, nil
}

// indent makes a text one paragraph of a Debian control file.
func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			line = ".\n"
		}
		b.WriteString(" " + line)
	}
	return b.String()
}
