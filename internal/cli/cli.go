// Package cli is the command line, flatnet's door for people.
package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"time"

	"flatnet/bridge/model"
	"flatnet/internal/advice"
	"flatnet/internal/report"
)

// A Host shows and restores attachments.
type Host interface {
	// Survey returns the networks that have attachments; with deep, it looks for
	// what they miss as well.
	Survey(deep bool) ([]*model.Survey, error)
	Reload() (mended []string, err error)
}

// An Inventory lists attachments and leftovers: of one network or, if the name is empty, of
// all. The error reports what can't be read; the rest is returned all the same.
type Inventory interface {
	List(network string) ([]*report.Attachment, error)
	Status(network string) ([]*report.Network, error)
	Garbage(network string) ([]*report.Leftover, error)
	// Collect removes what Garbage lists, and returns what it removed and what it kept.
	Collect(network string) ([]*report.Leftover, error)
}

// A Call is one invocation. What commands need from other packages is a field here: this
// package makes no system calls.
type Call struct {
	Args  []string
	Build Build
	Host  Host
	// Inventory compares what the host has with what is leased.
	Inventory Inventory
	// Names maps IDs of containers to their names, as far as engines record them.
	Names     func() map[string]string
	Publisher Publisher
	// Examine looks for what keeps flatnet from working.
	Examine func() []report.Finding
	// Plan returns what an ADD would make.
	Plan func(PlanQuery) ([]string, error)
	// Refusal returns why the caller can't run a command that needs root, and what to type
	// instead; nil: everybody can.
	Refusal        func(args ...string) string
	Color          bool // stdout is a terminal of colours
	Stdout, Stderr io.Writer
	Now            func() time.Time // nil: the clock
}

// Exit statuses. Scripts rely on them.
const (
	failed        = 1 // or something is missing
	usageError    = 2 // a command line that is not understood
	somethingLeft = 3 // a gc without --yes found something
)

// commands lists all commands in the order of the help. Each is one entry here and one
// function; help, suggestions and completion are derived from the entry.
func commands() []command {
	return []command{
		{name: "list", root: true, other: "ps", alike: []string{"ls", "containers", "addresses"}, arguments: []string{"[NETWORK]"},
			options: []option{jsonOption(), {name: "--network", value: "NETWORK", summary: "only the containers of one network"},
				{name: "--quiet", short: "-q", summary: "print container IDs only"}, {name: "--no-header", summary: "leave out the first line"}},
			summary: "list containers, their addresses, published ports and state",
			help: "The state is attached, or\n  no record     a reload can't restore it; restart the container\n" +
				"  no lease      its address may be given to another container\n" +
				"  stale lease   its link is gone without a DEL (a reboot); gc removes it\n" +
				"  kept lease    the same, but gc keeps it, and says why\n" +
				"  stale record  the same without a lease\n" +
				"  arriving      its ADD is under way\n" +
				"  unfinished    its ADD was killed; removing the container removes it\n" +
				"  changed MAC, changed alias, changed MAC and alias\n                somebody has changed its host interface; the command that\n" +
				"                repairs it is on stderr\nAn age is the time since ADD. Names are Podman's, CRI-O's or containerd's.",
			examples: []string{"flatnet list web # the containers of network web", "flatnet ps -q --network web # their IDs, for scripts"}, run: list},
		{name: "show", root: true, alike: []string{"inspect", "tree", "graph", "map"}, arguments: []string{"[NETWORK]"},
			options:  []option{{name: "--dot", summary: "for Graphviz"}, {name: "--mermaid", summary: "for Mermaid"}},
			summary:  "draw networks as a tree, for Graphviz or for Mermaid",
			examples: []string{"flatnet show --dot | dot -Tsvg >flatnet.svg # as a picture"}, run: show},
		{name: "status", root: true, alike: []string{"check", "health"}, arguments: []string{"[NETWORK]"}, options: []option{jsonOption()},
			summary: "print a line for each network: addresses, rules, state",
			help: "Rules are in place, or some are missing. The status is ok, or\n" +
				"  incomplete   something is missing; flatnet reload restores it\n" +
				"  limited      something that is not flatnet's cuts containers off\n" +
				"  unavailable  the next container can't be attached\n" +
				"  no record    it is not known what the network or a container needs", status: "0 nothing is missing, 1 something is, or failed, 2 wrong command line", run: status},
		{name: "doctor", alike: []string{"diagnose", "debug", "netcheck"}, options: []option{jsonOption()},
			summary: "find what keeps flatnet from working, and how to repair it",
			help:    "It changes nothing on the network.", status: "0 no check FAILs, 1 one does, 2 wrong command line", run: doctor},
		{name: "reload", root: true, alike: []string{"restore", "heal", "repair", "restart", "up"}, options: []option{jsonOption()},
			summary: "restore rules, addresses, links and sysctls that are missing",
			help:    "Run it after nft flush ruleset, or after a restart of the host's network or\nfirewall. It prints each repair.", run: reload},
		{name: "gc", root: true, alike: []string{"prune", "clean", "cleanup", "purge"}, arguments: []string{"[NETWORK]"},
			options: []option{{name: "--yes", short: "-y", summary: "remove it"}, jsonOption()},
			summary: "list what containers have left behind; --yes removes it",
			help: "These are leases, rules, records and devices of containers whose link is gone\nwithout a DEL. A container that has a link, an ADD under way, or a record in\n" +
				"another network namespace keeps all that it has.",
			status: "0 nothing to remove, or all of it was, 1 failed, 2 wrong command line,\n3 something to remove (without --yes)", examples: []string{"flatnet gc # what would be removed", "flatnet gc --yes # removes it"}, run: gc},
		{name: "publish", root: true, alike: []string{"port", "expose", "forward", "map"}, arguments: []string{"[CONTAINER]", "[PORT...]"},
			options: []option{networkOption(), jsonOption()}, summary: "publish ports of a running container, or list them",
			help: portHelp, examples: []string{"flatnet publish web 8080:80 # until web stops", "flatnet publish # what is published"}, run: publish},
		{name: "unpublish", root: true, alike: []string{"unexpose", "close"}, arguments: []string{"CONTAINER", "[PORT...]"},
			options: []option{networkOption(), {name: "--all", summary: "all ports of the container"}},
			summary: "take published ports away", help: unpublishHelp,
			examples: []string{"flatnet unpublish web 8080 # wherever it leads", "flatnet unpublish web 53/udp"}, run: unpublish},
		{name: "completion", arguments: []string{"SHELL"}, summary: "print completions for bash, zsh or fish",
			examples: []string{"source <(flatnet completion bash) # in ~/.bashrc", "source <(flatnet completion zsh) # in ~/.zshrc",
				"flatnet completion fish | source # in ~/.config/fish/config.fish"}, run: completion},
		planCommand(),
		traceCommand(),
		versionCommand(),
		{name: "help", other: "-h", alike: []string{"man", "usage", "?"}, arguments: []string{"[COMMAND]"},
			summary: "print this text, or the help of a command", run: help},
	}
}

// Main runs the command that the arguments name and returns the process's exit status.
func Main(c *Call) int {
	name := append(slices.Clone(c.Args), "help")[0] // without arguments
	rest := c.Args[min(1, len(c.Args)):]
	switch name {
	case "--help":
		name = "help"
	case completing:
		return c.print(c.candidates(rest))
	}
	cmd, ok := find(name)
	if !ok {
		fmt.Fprintln(c.Stderr, "flatnet:", noCommand(name))
		return usageError
	}
	q, err := cmd.parse(rest)
	if err != nil {
		fmt.Fprintf(c.Stderr, "flatnet %s: %v\nUsage: %s\nflatnet help %s has more.\n", cmd.name, err, cmd.line(), cmd.name)
		return usageError
	}
	run := cmd.run
	if q.has("--help") {
		run = func(*Call, query) ([]string, error) { return []string{cmd.usage()}, nil }
	}
	if cmd.root && !q.has("--help") && c.Refusal != nil {
		if refusal := c.Refusal(c.Args...); refusal != "" {
			fmt.Fprintln(c.Stderr, "flatnet:", refusal)
			return failed
		}
	}
	lines, err := run(c, q)
	printed := c.print(lines)
	if err == nil {
		return printed
	}
	if err.Error() != "" {
		fmt.Fprintln(c.Stderr, "flatnet:", advice.Of(err))
	}
	status := exit{status: failed}
	if errors.As(err, &status); printed != 0 {
		return printed
	}
	return status.status
}

// print writes lines to stdout and returns the exit status. A reader that has closed its pipe,
// such as head, needs no message.
func (c *Call) print(lines []string) int {
	if len(lines) == 0 {
		return 0
	}
	_, err := io.WriteString(c.Stdout, strings.Join(lines, "\n")+"\n")
	if err == nil {
		return 0
	}
	if !errors.Is(err, syscall.EPIPE) {
		fmt.Fprintln(c.Stderr, "flatnet:", err)
	}
	return failed
}

// noCommand returns the message about a command that does not exist.
func noCommand(name string) string {
	return fmt.Sprintf("there is no command %q%s\nflatnet --help lists the commands.", name, suggestCommand(name))
}

// usage returns the help, which fits on a screen of 80 columns.
func usage() string {
	var rows [][]string
	for _, c := range commands() {
		rows = append(rows, []string{"  " + c.name, c.summary})
	}
	shown := examples([]string{
		"  flatnet list web # the containers of network web",
		"  flatnet status || flatnet reload # repair what is missing",
		"  flatnet show --help # more about a command",
	})
	return `flatnet gives containers a flat network. Runtimes call it as a plugin of CNI or
netavark. People call it as root, or for the containers of their rootless Podman
by "podman unshare --rootless-netns flatnet".

Commands:
` + strings.Join(table(rows), "\n") + `

Examples:
` + strings.Join(shown, "\n") + `

Exit status: 0 done, 1 failed or something is missing, 2 wrong command line,
3 gc found something to remove`
}

func help(_ *Call, q query) ([]string, error) {
	if q.arg(0) == "" {
		return []string{usage()}, nil
	}
	c, ok := find(q.arg(0))
	if !ok {
		return nil, misused("%s", noCommand(q.arg(0)))
	}
	return []string{c.usage()}, nil
}

// The colours of a terminal (SGR of ECMA-48).
const red, green, yellow = 31, 32, 33

// paint colours a text, if stdout is a terminal.
func (c *Call) paint(text string, colour int) string {
	if !c.Color {
		return text
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[m", colour, text)
}
