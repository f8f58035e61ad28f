// Package cli is flatnet's door for people.
package cli

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"

	"flatnet/bridge/model"
)

const usage = `flatnet gives containers a flat network. Container runtimes call it as a CNI
plugin, with CNI_COMMAND set; people call it as

  flatnet list      what is attached to this host, from the kernel's own records
  flatnet reload    restore what attachments have lost, after nft flush ruleset or a
                    restart of the host's network, and say what that was
  flatnet version   the version of this binary
  flatnet help      this text
`

// A Host answers what people ask about.
type Host interface {
	Owners() ([]model.Owner, error)
	Reload() (mended []string, err error)
}

// Main runs the command that args name and returns the process's exit status:
// 0 for success, 1 for failure, 2 for a command that does not exist.
func Main(args []string, version string, host Host, stdout, stderr io.Writer) int {
	command := "help"
	if len(args) > 0 {
		command = args[0]
	}
	var err error
	switch {
	case len(args) > 1:
		fmt.Fprintf(stderr, "flatnet %s takes no argument, got %q\n", command, args[1])
		return 2
	case command == "list":
		err = list(host, stdout)
	case command == "reload":
		err = reload(host, stdout)
	case command == "version" || command == "--version":
		_, err = fmt.Fprintln(stdout, "flatnet", version)
	case command == "help" || command == "--help" || command == "-h":
		_, err = io.WriteString(stdout, usage)
	default:
		fmt.Fprintf(stderr, "flatnet has no command %q\n\n%s", command, usage)
		return 2
	}
	if err != nil {
		fmt.Fprintln(stderr, "flatnet:", err)
		return 1
	}
	return 0
}

func reload(host Host, w io.Writer) error {
	mended, err := host.Reload()
	for _, line := range mended {
		if _, werr := fmt.Fprintln(w, line); err == nil {
			err = werr
		}
	}
	return err
}

func list(host Host, w io.Writer) error {
	owners, err := host.Owners()
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NETWORK\tCONTAINER\tINTERFACE\tADDRESSES\tHOST INTERFACE")
	for _, o := range owners {
		if k := o.Key; k != (model.Key{}) {
			fmt.Fprintf(t, "%s\t%.12s\t%s\t%s\t%s\n", k.Network, k.ContainerID, k.IfName, join(o.Addresses), o.Link)
		}
	}
	return t.Flush()
}

func join(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, ",")
}
