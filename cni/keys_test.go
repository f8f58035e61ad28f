package cni

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"flatnet/internal/oddkeys"
)

// Whatever key of the top level the package reads is in the table.
func TestAllKeysAreKnown(t *testing.T) {
	files, _ := filepath.Glob("*.go")
	reads := regexp.MustCompile(`(?:doc\.(?:Bool|Uint|String|Strings|Object|Objects)\(|fields\.[A-Za-z]+\(doc, )"([^"]+)"`)
	count := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range reads.FindAllStringSubmatch(string(source), -1) {
			if count++; !slices.Contains(oddkeys.Top(), m[1]) {
				t.Errorf("%s reads %q, which oddkeys.Top lacks", file, m[1])
			}
		}
	}
	if count < 20 {
		t.Errorf("only %d keys were found", count)
	}
}
