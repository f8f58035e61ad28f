package main

import (
	"os"
	"strings"
	"testing"
)

// The README shows what docs/performance.md has, as it is now.
func TestReadmeIsCurrent(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	measured, err := os.ReadFile("../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	got, err := renew(string(readme), string(measured))
	if err != nil {
		t.Fatal(err)
	}
	if got != string(readme) {
		t.Errorf("cd tests && go run ./figures ..: README.md must be\n%s", got)
	}
	if _, err := renew(strings.Replace(got, "| on disk |", "", 1), string(measured)); err == nil {
		t.Error("a row that is missing is no error")
	}
	if _, err := renew(got, strings.ReplaceAll(string(measured), "netavark, nftables", "x")); err == nil {
		t.Error("a figure that is missing is no error")
	}
}
