// Command man writes the manual pages flatnet(1) and flatnet-cni(7), from the documents
// that people read in docs/.
//
//	man [-version VERSION] [-date YYYY-MM-DD] [-docs DIR] DIR
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
)

// A page is a manual page, and the document that it is made of.
type page struct {
	name, section, about string
	document             string
	see                  string // the other pages that it names
}

var pages = []page{
	{"flatnet", "1", "show, check and repair the flat network of containers", "commands.md",
		"**flatnet-cni**(7), **podman-network-create**(1), **ip**(8), **nft**(8)"},
	{"flatnet-cni", "7", "configuration of a flat network for containers", "configuration.md",
		"**flatnet**(1), **podman-network-create**(1), **containers.conf**(5)"},
}

func main() {
	version := flag.String("version", "unknown", "what the pages are about")
	date := flag.String("date", "", "of the last change")
	docs := flag.String("docs", "../docs", "directory of the documents")
	flag.Parse()
	if err := write(flag.Arg(0), *docs, *version, *date); err != nil {
		fmt.Fprintln(os.Stderr, "man:", err)
		os.Exit(1)
	}
}

func write(dir, docs, version, date string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range pages {
		text, err := os.ReadFile(filepath.Join(docs, p.document))
		if err != nil {
			return err
		}
		roff := p.roff(string(text), version, date)
		if err := os.WriteFile(filepath.Join(dir, p.name+"."+p.section), []byte(roff), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// roff renders a document as the page. The title of the document makes room for those
// sections that each page has (man-pages(7)).
func (p page) roff(text, version, date string) string {
	_, body, _ := strings.Cut(text, "\n")
	head := fmt.Sprintf("%% %q %q %q %q %q\n\n# NAME\n\n%s - %s\n\n# DESCRIPTION\n\n", // a title block, see md2man
		strings.ToUpper(p.name), p.section, date, "flatnet "+version, "flatnet", p.name, p.about)
	return hyphens(string(md2man.Render([]byte(head + manual(body) + "\n# SEE ALSO\n\n" + p.see + "\n"))))
}

var (
	link    = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	heading = regexp.MustCompile(`(?m)^## (.*)$`)
	fence   = regexp.MustCompile("(?ms)^```\\w*\n.*?^```\n")
)

// manual is the text as a page of a manual has it: sections by name in capitals, no links
// to files that are not there, and lists in place of tables, whose columns a terminal has
// no room for.
func manual(text string) string {
	blocks := fence.FindAllString(text, -1)
	var b strings.Builder
	for i, part := range fence.Split(text, -1) {
		part = link.ReplaceAllString(part, "$1")
		part = heading.ReplaceAllStringFunc(part, func(s string) string { return strings.ToUpper(s[1:]) })
		b.WriteString(lists(part))
		if i < len(blocks) {
			b.WriteString(blocks[i])
		}
	}
	return b.String()
}

// lists replaces each row of a table by an item that begins with its first cell.
func lists(text string) string {
	var b strings.Builder
	inside := false // a table's rows, after its head
	for line := range strings.Lines(text) {
		switch {
		case !strings.HasPrefix(line, "|"):
			inside = false
			b.WriteString(line)
		case strings.HasPrefix(line, "|--") || strings.HasPrefix(line, "| --"):
			inside = true
		case inside:
			row := cells(line)
			b.WriteString("- " + strings.Join(row[:min(1, len(row))], "") + ": " + strings.Join(row[min(1, len(row)):], "; ") + "\n")
		}
	}
	return b.String()
}

// cells returns those of a row that are not empty; a row has at least two.
func cells(line string) (row []string) {
	const bar = "\x00"
	line = strings.ReplaceAll(strings.Trim(strings.TrimSpace(line), "|"), `\|`, bar)
	for _, cell := range strings.Split(line, "|") {
		if cell = strings.TrimSpace(strings.ReplaceAll(cell, bar, "|")); cell != "" {
			row = append(row, cell)
		}
	}
	return row
}

var (
	code    = regexp.MustCompile(`\\fB[^\n]*?\\f[RP]`)
	example = regexp.MustCompile(`(?ms)^\.EX\n.*?^\.EE\n`)
)

// hyphens makes those of code the ASCII character (groff_char(7)), which can be copied.
func hyphens(roff string) string {
	escape := func(s string) string { return strings.ReplaceAll(strings.ReplaceAll(s, `\-`, "-"), "-", `\-`) }
	roff = code.ReplaceAllStringFunc(example.ReplaceAllStringFunc(roff, escape), escape)
	return strings.ReplaceAll(roff, "--", `\-\-`)
}
