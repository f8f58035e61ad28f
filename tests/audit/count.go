package main

import (
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A file is a Go file of the program or of its tests.
type file struct {
	name  string // slash-separated, from the root of the repository
	lines int    // lines of code: with at least one token; blank lines and comments have none
	long  []function
	names []string // of what it declares
}

// A function is one declared at the top level.
type function struct {
	name  string
	lines int // from func to the closing brace
}

// pkg is the directory of the file's package, "." for main.
func (f file) pkg() string { return path.Dir(f.name) }

// test reports whether the file is no part of the program.
func (f file) test() bool {
	return strings.HasSuffix(f.name, "_test.go") || strings.HasPrefix(f.name, "tests/")
}

// read counts all Go files below a directory, sorted by name.
func read(root string) ([]file, error) {
	var files []file
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		src, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		f := file{name: name, lines: codeLines(src)}
		set := token.NewFileSet()
		parsed, err := parser.ParseFile(set, name, src, parser.SkipObjectResolution)
		if err == nil {
			f.long, f.names = longFunctions(set, parsed), declared(parsed)
		}
		files = append(files, f)
		return err
	})
	return files, err
}

// codeLines counts the lines on which a token is, or a part of a raw string.
func codeLines(src []byte) int {
	set := token.NewFileSet()
	f := set.AddFile("", -1, len(src))
	var s scanner.Scanner
	s.Init(f, src, nil, 0)
	lines := map[int]bool{}
	for {
		pos, tok, text := s.Scan()
		switch {
		case tok == token.EOF:
			return len(lines)
		case tok == token.SEMICOLON && text == "\n": // the scanner's own
			continue
		}
		first := f.Line(pos)
		for i := range strings.Count(text, "\n") + 1 {
			lines[first+i] = true
		}
	}
}

func longFunctions(set *token.FileSet, parsed *ast.File) (long []function) {
	for _, d := range parsed.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok {
			lines := set.Position(fn.End()).Line - set.Position(fn.Pos()).Line + 1
			if lines > maxFunction {
				long = append(long, function{fn.Name.Name, lines})
			}
		}
	}
	return long
}

// declared are the names of functions, methods, also of interfaces, types, variables
// and constants.
func declared(parsed *ast.File) (names []string) {
	for _, d := range parsed.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			names = append(names, d.Name.Name)
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					names = append(names, s.Name.Name)
					if i, ok := s.Type.(*ast.InterfaceType); ok {
						for _, m := range i.Methods.List {
							for _, n := range m.Names {
								names = append(names, n.Name)
							}
						}
					}
				case *ast.ValueSpec:
					for _, n := range s.Names {
						names = append(names, n.Name)
					}
				}
			}
		}
	}
	return names
}

// A table has the lines of code of each package of the program.
type table map[string]int

func count(files []file) table {
	t := table{}
	for _, f := range files {
		if !f.test() {
			t[f.pkg()] += f.lines
		}
	}
	return t
}

// sum is over the packages named, or over all of them.
func (t table) sum(pkgs ...string) int {
	n := 0
	for pkg, lines := range t {
		if len(pkgs) == 0 || slices.Contains(pkgs, pkg) {
			n += lines
		}
	}
	return n
}

// packages are those of the core first, in the order of reading, then the others.
func (t table) packages() []string {
	list := slices.Clone(core)
	for _, pkg := range slices.Sorted(maps.Keys(t)) {
		if !slices.Contains(list, pkg) {
			list = append(list, pkg)
		}
	}
	return slices.DeleteFunc(list, func(pkg string) bool { return t[pkg] == 0 })
}
