package main

import (
	"cmp"
	"debug/elf"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// sizes builds the program with its symbols, in a directory, and returns the bytes
// of code and data of each package in it.
func sizes(root, dir string) (map[string]int, error) {
	bin := filepath.Join(dir, "flatnet.symbols")
	cmd := exec.Command("make", "-s", "-C", root, "build", "STRIP=", "BIN="+bin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make build: %w: %s", err, out)
	}
	f, err := elf.Open(bin)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		return nil, err
	}
	bytes := map[string]int{}
	for _, s := range symbols {
		if int(s.Section) < len(f.Sections) && f.Sections[s.Section].Type == elf.SHT_PROGBITS {
			bytes[packageOf(s.Name)] += int(s.Size)
		}
	}
	if s := f.Section(".gopclntab"); s != nil {
		bytes["(.gopclntab: tables of all functions)"] = int(s.Size)
	}
	return bytes, nil
}

// packageOf returns the import path in a symbol's name, such as
// flatnet/bridge.(*Host).Add or slices.SortFunc[go.shape.[]string].
func packageOf(symbol string) string {
	name, _, _ := strings.Cut(symbol, "[")
	if strings.HasPrefix(name, "type:") || strings.HasPrefix(name, "go:") || strings.HasPrefix(name, "go.") {
		return "(types and strings)"
	}
	slash := strings.LastIndex(name, "/") + 1
	last, _, ok := strings.Cut(name[slash:], ".")
	if !ok {
		return "(types and strings)"
	}
	return strings.ReplaceAll(name[:slash]+last, "%2e", ".")
}

// largest is a table of the ten largest packages.
func largest(bytes map[string]int) string {
	bySize := func(a, b string) int { return cmp.Or(bytes[b]-bytes[a], strings.Compare(a, b)) }
	s := ""
	for _, pkg := range slices.SortedFunc(maps.Keys(bytes), bySize)[:min(10, len(bytes))] {
		s += fmt.Sprintf("%8d   %s\n", bytes[pkg], pkg)
	}
	return s
}
