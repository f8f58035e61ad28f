// Package cli is flatnet's door for people.
package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/fields"
)

// A Host shows and restores attachments.
type Host interface {
	// Survey returns the networks that have attachments; with deep, it looks for
	// what they miss as well.
	Survey(deep bool) ([]*model.Survey, error)
	Reload() (mended []string, err error)
}

// A Call is what a command line is run with.
type Call struct {
	Args    []string
	Version string
	Host    Host
	// Names returns the names of containers by their IDs, of those whose engine has them.
	Names func() map[string]string
	// Examine looks for what keeps flatnet from working.
	Examine        func() []model.Finding
	Color          bool // stdout is a terminal of colours
	Stdout, Stderr io.Writer
}

// A command is a word that people type.
type command struct {
	name, other string // other is a second name
	argument    string // at most one, as the usage shows it; none if it is empty
	options     []string
	summary     string
	help        string // what else there is to say
	run         func(c *Call, q query) (lines []string, err error)
}

// A query is what an invocation asks for.
type query struct {
	argument string
	options  []string
}

func (q query) has(option string) bool { return slices.Contains(q.options, option) }

// commands lists all of them, in the order of the help.
func commands() []command {
	return []command{
		{name: "list", other: "ps", argument: "NETWORK", options: []string{"--json"}, summary: "list attachments, from the kernel's own records",
			help: "The state is \"attached\", or \"no record\" for an attachment that a reload can't\nrestore until the network's next ADD.", run: list},
		{name: "show", argument: "NETWORK", options: []string{"--dot", "--mermaid"}, summary: "draw networks as a tree, for Graphviz or for Mermaid", run: show},
		{name: "status", argument: "NETWORK", options: []string{"--json"}, summary: "compare networks with what they need on the host",
			help: "The exit status is 1 if anything is missing. flatnet reload mends it.", run: status},
		{name: "reload", summary: "restore what attachments have lost, and print each repair",
			help: "Run it after nft flush ruleset, or after a restart of the host's network or firewall.",
			run:  func(c *Call, _ query) ([]string, error) { return c.Host.Reload() }},
		{name: "doctor", options: []string{"--json"}, summary: "look for what keeps flatnet from working, and what repairs it",
			help: "The exit status is 1 if anything FAILs. It changes nothing on the network.", run: doctor},
		{name: "completion", argument: "SHELL", summary: "print completions for bash, zsh or fish",
			help: "bash: source <(flatnet completion bash)\nzsh:  source <(flatnet completion zsh)\nfish: flatnet completion fish | source", run: completion},
		{name: "version", other: "--version", summary: "print the version of this binary",
			run: func(c *Call, _ query) ([]string, error) { return []string{"flatnet " + c.Version}, nil }},
		{name: "help", other: "-h", argument: "COMMAND", summary: "print this text, or one command's", run: help},
	}
}

// Main runs the command that the arguments name and returns the process's exit status:
// 0 for success, 1 for failure, 2 for a command line that is not understood.
func Main(c *Call) int {
	name := append(slices.Clone(c.Args), "help")[0] // without arguments
	if name == "--help" {
		name = "help"
	}
	cmd, ok := find(name)
	if !ok {
		fmt.Fprintf(c.Stderr, "flatnet has no command %q%s\n\n%s\n", name, suggest(name, names()), usage())
		return 2
	}
	q, err := cmd.parse(c.Args[min(1, len(c.Args)):])
	if err != nil {
		fmt.Fprintf(c.Stderr, "flatnet %s: %v\n\n%s\n", cmd.name, err, cmd.usage())
		return 2
	}
	run := cmd.run
	if q.has("--help") {
		run = func(*Call, query) ([]string, error) { return []string{cmd.usage()}, nil }
	}
	lines, err := run(c, q)
	for _, line := range lines {
		_, werr := fmt.Fprintln(c.Stdout, line)
		err = errors.Join(err, werr)
	}
	if err != nil {
		fmt.Fprintln(c.Stderr, "flatnet:", err)
		return 1
	}
	return 0
}

func find(name string) (command, bool) {
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return c.name == name || c.other == name && name != "" })
	if i < 0 {
		return command{}, false
	}
	return all[i], true
}

func names() (all []string) {
	for _, c := range commands() {
		all = append(all, c.name)
	}
	return all
}

// suggest returns the word that is like the one given, as a question.
func suggest(word string, words []string) string {
	for _, w := range words {
		if strings.HasPrefix(w, word) || fields.Similar(word, w) {
			return fmt.Sprintf("; is %q meant?", w)
		}
	}
	return ""
}

// parse reads the arguments after the command's name.
func (c *command) parse(args []string) (q query, err error) {
	for _, a := range args {
		switch known := append(slices.Clone(c.options), "--help"); {
		case slices.Contains(known, a):
			q.options = append(q.options, a)
		case a == "-h":
			q.options = append(q.options, "--help")
		case strings.HasPrefix(a, "-"):
			return q, fmt.Errorf("there is no option %q%s", a, suggest(a, known))
		case c.argument == "" || q.argument != "":
			return q, fmt.Errorf("it takes no argument %q", a)
		default:
			q.argument = a
		}
	}
	return q, nil
}

func (c *command) line() string {
	words := []string{"flatnet", c.name}
	for _, o := range c.options {
		words = append(words, "["+o+"]")
	}
	if c.argument != "" {
		words = append(words, "["+c.argument+"]")
	}
	return strings.Join(words, " ")
}

func (c *command) usage() string {
	text := c.line() + "\n\n  " + c.summary
	if c.other != "" {
		text += "\n  It is also called " + c.other + "."
	}
	if c.help != "" {
		text += "\n\n  " + strings.ReplaceAll(c.help, "\n", "\n  ")
	}
	return text
}

func usage() string {
	var rows [][]string
	for _, c := range commands() {
		rows = append(rows, []string{"  " + c.name, c.summary})
	}
	return `flatnet gives containers a flat network. Container runtimes call it as a CNI
plugin, with CNI_COMMAND set, or as a plugin of netavark; people call it as root,
or for a rootless Podman's containers by podman unshare --rootless-netns flatnet ...

` + strings.Join(table(rows), "\n") + `

  flatnet list --json             for programs
  flatnet show flatnet            one network
  flatnet help status             more about a command`
}

func help(_ *Call, q query) ([]string, error) {
	if q.argument == "" {
		return []string{usage()}, nil
	}
	c, ok := find(q.argument)
	if !ok {
		return nil, fmt.Errorf("there is no command %q%s", q.argument, suggest(q.argument, names()))
	}
	return []string{c.usage()}, nil
}

// table aligns rows in columns. All texts are ASCII.
func table(rows [][]string) (lines []string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, text := range row {
			widths[i] = max(widths[i], len(text))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, text := range row {
			fmt.Fprintf(&line, "%-*s  ", widths[i], text)
		}
		lines = append(lines, strings.TrimRight(line.String(), " "))
	}
	return lines
}

// completion returns a script that completes commands and options.
func completion(_ *Call, q query) ([]string, error) {
	words := strings.Join(names(), " ")
	var lines []string
	switch q.argument {
	case "bash", "zsh":
		if q.argument == "zsh" {
			lines = append(lines, "autoload -U +X compinit bashcompinit && compinit && bashcompinit")
		}
		lines = append(lines, "_flatnet() {", `  case ${COMP_WORDS[1]} in`)
		for _, c := range commands() {
			lines = append(lines, fmt.Sprintf("  %s) words=%q ;;", c.name, strings.Join(append(c.options, "--help"), " ")))
		}
		lines = append(lines, "  *) words= ;;", "  esac", fmt.Sprintf("  [ $COMP_CWORD -gt 1 ] || words=%q", words),
			`  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))`, "}", "complete -F _flatnet flatnet")
	case "fish":
		lines = append(lines, "complete -c flatnet -f")
		for _, c := range commands() {
			lines = append(lines, fmt.Sprintf("complete -c flatnet -n __fish_use_subcommand -a %s -d %q", c.name, c.summary))
			for _, o := range c.options {
				lines = append(lines, fmt.Sprintf("complete -c flatnet -n '__fish_seen_subcommand_from %s' -l %s", c.name, o[2:]))
			}
		}
	default:
		return nil, fmt.Errorf("shell %q: it must be bash, zsh or fish", q.argument)
	}
	return lines, nil
}
