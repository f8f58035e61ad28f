// Command audit counts. Given the root of the repository, it prints the lines of
// code of each package and the bytes of the largest ones in the binary, and writes
// the counts of docs/audit.md anew; it fails if that lacks a file of the core or
// names one that is not there.
//
//	audit ROOT
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: audit ROOT")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "audit:", err)
		os.Exit(1)
	}
}

func run(root string) error {
	files, err := read(root)
	if err != nil {
		return err
	}
	fmt.Print("lines of code (* the core):\n", report(files))
	if err := printSizes(root); err != nil {
		return err
	}
	path := filepath.Join(root, document)
	doc, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(update(string(doc), files)), 0o644); err != nil {
		return err
	}
	list := problems(string(doc), files)
	for _, p := range list {
		fmt.Println(p)
	}
	if len(list) > 0 {
		return fmt.Errorf("%s needs an edit", document)
	}
	return nil
}

func printSizes(root string) error {
	info, err := os.Stat(filepath.Join(root, program))
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "audit")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bytes, err := sizes(root, dir)
	if err == nil {
		fmt.Printf("bytes of the largest packages in %s, which has %d:\n%s", program, info.Size(), largest(bytes))
	}
	return err
}

// report is the table of packages; a star marks those of the core.
func report(files []file) string {
	t := count(files)
	s := ""
	for _, pkg := range t.packages() {
		star := " "
		if slices.Contains(core, pkg) {
			star = "*"
		}
		s += fmt.Sprintf("%6d %s %s\n", t[pkg], star, pkg)
	}
	return s + fmt.Sprintf("%6d * core\n%6d   all\n", t.sum(core...), t.sum())
}
