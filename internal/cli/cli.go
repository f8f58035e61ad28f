// Package cli is flatnet's door for people.
package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"flatnet/bridge/model"
)

const usage = `flatnet gives containers a flat network. Container runtimes call it as a CNI
plugin, with CNI_COMMAND set; people call it as

  flatnet list      show the attachments of this host, from the kernel's own records
  flatnet reload    restore what attachments have lost, after nft flush ruleset or a
                    restart of the host's network, and print each repair
  flatnet version   print the version of this binary
  flatnet help      print this text

All commands require root.`

// A Host lists and restores attachments.
type Host interface {
	Owners() ([]model.Owner, error)
	Reload() (mended []string, err error)
}

// Main runs the command that args name and returns the process's exit status:
// 0 for success, 1 for failure, 2 for a command that does not exist.
func Main(args []string, version string, host Host, stdout, stderr io.Writer) int {
	command := append(slices.Clone(args), "help")[0] // without arguments
	var lines []string
	var err error
	switch {
	case len(args) > 1:
		fmt.Fprintf(stderr, "flatnet %s takes no argument, got %q\n", command, args[1])
		return 2
	case command == "list":
		lines, err = list(host)
	case command == "reload":
		lines, err = host.Reload()
	case command == "version" || command == "--version":
		lines = []string{"flatnet " + version}
	case command == "help" || command == "--help" || command == "-h":
		lines = []string{usage}
	default:
		fmt.Fprintf(stderr, "flatnet has no command %q\n\n%s\n", command, usage)
		return 2
	}
	for _, line := range lines {
		_, werr := fmt.Fprintln(stdout, line)
		err = errors.Join(err, werr)
	}
	if err != nil {
		fmt.Fprintln(stderr, "flatnet:", err)
		return 1
	}
	return 0
}

// list returns a table of the attachments.
func list(host Host) (lines []string, err error) {
	owners, err := host.Owners()
	if err != nil {
		return nil, err
	}
	rows := [][5]string{{"NETWORK", "CONTAINER", "INTERFACE", "ADDRESSES", "HOST INTERFACE"}}
	for _, o := range owners {
		if k := o.Key; k != (model.Key{}) {
			id := fmt.Sprintf("%.12s", k.ContainerID)
			rows = append(rows, [5]string{k.Network, id, k.IfName, model.JoinAddrs(o.Addresses), o.Link})
		}
	}
	var widths [5]int
	for _, row := range rows {
		for i, text := range row { // all are ASCII
			widths[i] = max(widths[i], len(text))
		}
	}
	for _, r := range rows {
		lines = append(lines, fmt.Sprintf("%-*s  %-*s  %-*s  %-*s  %s",
			widths[0], r[0], widths[1], r[1], widths[2], r[2], widths[3], r[3], r[4]))
	}
	return lines, nil
}
