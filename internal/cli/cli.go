// Package cli is flatnet's door for people.
package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/advice"
)

// A Host shows and restores attachments.
type Host interface {
	// Survey returns the networks that have attachments; with deep, it looks for
	// what they miss as well.
	Survey(deep bool) ([]*model.Survey, error)
	Reload() (mended []string, err error)
}

// A Call is what a command line is run with. What a command needs of other packages is a
// field here, for this package makes no system call.
type Call struct {
	Args  []string
	Build Build
	Host  Host
	// Names returns the names of containers by their IDs, of those whose engine has them.
	Names     func() map[string]string
	Publisher Publisher
	// Examine looks for what keeps flatnet from working.
	Examine        func() []model.Finding
	Color          bool // stdout is a terminal of colours
	Stdout, Stderr io.Writer
}

// The exit statuses, which scripts rely on.
const (
	failed     = 1 // or something is missing
	usageError = 2 // a command line that is not understood
)

// commands lists all of them, in the order of the help. Each is one entry here and one
// function: help, suggestions and completion follow.
func commands() []command {
	return []command{
		{name: "list", other: "ps", alike: []string{"ls", "containers", "addresses"}, arguments: []string{"[NETWORK]"},
			options: []option{jsonOption()}, summary: "list attachments, from the kernel's own records",
			help: "The state is \"attached\", or \"no record\" for an attachment that a reload can't\nrestore until the network's next ADD.", run: list},
		{name: "show", alike: []string{"inspect", "tree", "graph", "map"}, arguments: []string{"[NETWORK]"},
			options:  []option{{name: "--dot", summary: "for Graphviz"}, {name: "--mermaid", summary: "for Mermaid"}},
			summary:  "draw networks as a tree, for Graphviz or for Mermaid",
			examples: []string{"flatnet show --dot | dot -Tsvg >flatnet.svg # as a picture"}, run: show},
		{name: "status", alike: []string{"check", "health"}, arguments: []string{"[NETWORK]"}, options: []option{jsonOption()},
			summary: "compare networks with what they need on the host",
			help:    "What is missing, flatnet reload restores.", status: ", also if anything is missing", run: status},
		{name: "doctor", alike: []string{"diagnose", "debug", "netcheck"}, options: []option{jsonOption()},
			summary: "find what keeps flatnet from working, and its repair",
			help:    "It changes nothing on the network.", status: ", also if a check FAILs", run: doctor},
		{name: "reload", alike: []string{"restore", "heal", "repair", "restart", "up"}, summary: "restore what attachments have lost",
			help: "Run it after nft flush ruleset, or after a restart of the host's network or\nfirewall. It prints each repair.",
			run:  func(c *Call, _ query) ([]string, error) { return c.Host.Reload() }},
		{name: "publish", alike: []string{"port", "expose", "forward", "map"}, arguments: []string{"[CONTAINER]", "[PORT...]"},
			options: []option{networkOption(), jsonOption()}, summary: "publish ports of a running container, or list them",
			help: portHelp, examples: []string{"flatnet publish web 8080:80 # until web stops", "flatnet publish # what is published"}, run: publish},
		{name: "unpublish", alike: []string{"unexpose", "close"}, arguments: []string{"CONTAINER", "[PORT...]"},
			options: []option{networkOption(), {name: "--all", summary: "all ports of the container"}},
			summary: "take published ports away", help: unpublishHelp,
			examples: []string{"flatnet unpublish web 8080 # wherever it leads", "flatnet unpublish web 53/udp"}, run: unpublish},
		{name: "completion", arguments: []string{"SHELL"}, summary: "print completions for bash, zsh or fish",
			examples: []string{"source <(flatnet completion bash) # in ~/.bashrc", "source <(flatnet completion zsh) # in ~/.zshrc",
				"flatnet completion fish | source # in ~/.config/fish/config.fish"}, run: completion},
		traceCommand(),
		versionCommand(),
		{name: "help", other: "-h", alike: []string{"man", "usage", "?"}, arguments: []string{"[COMMAND]"},
			summary: "print this text, or a command's", run: help},
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
		fmt.Fprintln(c.Stdout, strings.Join(c.candidates(rest), "\n"))
		return 0
	}
	cmd, ok := find(name)
	if !ok {
		fmt.Fprintf(c.Stderr, "flatnet has no command %q%s\nflatnet help lists the commands.\n", name, suggestCommand(name))
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
	lines, err := run(c, q)
	for _, line := range lines {
		_, werr := fmt.Fprintln(c.Stdout, line)
		err = errors.Join(err, werr)
	}
	if err == nil {
		return 0
	}
	if err.Error() != "" {
		fmt.Fprintln(c.Stderr, "flatnet:", advice.Of(err))
	}
	status := exit{status: failed}
	errors.As(err, &status)
	return status.status
}

// usage is the help, which fits on a screen of 80 columns.
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
netavark. People call it as root; if they have a rootless Podman, after
"podman unshare --rootless-netns".

Commands:
` + strings.Join(table(rows), "\n") + `

Examples:
` + strings.Join(shown, "\n") + `

Exit status: 0 done, 1 failed or something is missing, 2 wrong command line`
}

func help(_ *Call, q query) ([]string, error) {
	if q.arg(0) == "" {
		return []string{usage()}, nil
	}
	c, ok := find(q.arg(0))
	if !ok {
		return nil, misused("there is no command %q%s", q.arg(0), suggestCommand(q.arg(0)))
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
