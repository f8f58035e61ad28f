// Package containersconf reads what containers.conf(5) says of Podman's networks, of
// which those in memory only are found nowhere else, and of its network back end.
package containersconf

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"flatnet/internal/input"
)

// Networks is the table [network].
type Networks struct {
	Default string       // name of the default network, which exists in memory unless it is stored
	Subnet  netip.Prefix // of that network, while it is in memory
	Backend string       // "cni" or "netavark"; empty: Podman chooses
	// Where Podman looks for plugins of each back end; none: in its own directories.
	CNIDirs, NetavarkDirs []string
}

// maxSize bounds a file in bytes.
const maxSize = 1 << 20

// Read returns what root's Podman reads, or the user's whose configuration directory is
// home, if that is not empty: later files win. What can't be read says nothing. All files
// are below root, which is "/" but for tests.
func Read(root, home string) Networks {
	n := Networks{Default: "podman", Subnet: netip.MustParsePrefix("10.88.0.0/16")}
	var files []string
	for _, dir := range []string{"/usr/share/containers", "/etc/containers", home} {
		if dir != "" {
			more, _ := filepath.Glob(filepath.Join(root, dir, "containers.conf.d", "*.conf")) // sorted
			files = append(append(files, filepath.Join(root, dir, "containers.conf")), more...)
		}
	}
	if only := os.Getenv("CONTAINERS_CONF"); only != "" {
		files = []string{only}
	}
	for _, file := range append(files, os.Getenv("CONTAINERS_CONF_OVERRIDE")) {
		if data, err := input.Read(file, maxSize); err == nil {
			n.read(string(data))
		}
	}
	return n
}

// read reads a TOML file, as far as these keys, which are strings or lists of them, need it.
func (n *Networks) read(text string) {
	table, key, value := "", "", ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(uncomment(line))
		switch name, rest, _ := strings.Cut(line, "="); {
		case open(value): // a list goes on
			value += line
		case strings.HasPrefix(line, "["):
			table, key, value = strings.TrimSpace(strings.Trim(line, "[] ")), "", ""
		default:
			key, value = unquote(name), strings.TrimSpace(rest)
		}
		if table == "network" && !open(value) {
			n.set(key, value)
		}
	}
}

// open reports whether a value is a list that goes on in the next line. No string here has
// a bracket in it.
func open(value string) bool { return strings.Count(value, "[") > strings.Count(value, "]") }

func (n *Networks) set(key, value string) {
	switch key {
	case "default_network":
		n.Default = unquote(value)
	case "default_subnet":
		n.Subnet, _ = netip.ParsePrefix(unquote(value))
	case "network_backend":
		n.Backend = unquote(value)
	case "cni_plugin_dirs":
		n.CNIDirs = list(value, n.CNIDirs)
	case "netavark_plugin_dirs":
		n.NetavarkDirs = list(value, n.NetavarkDirs)
	}
}

// list returns the strings of a list, which replace those of earlier files unless it says
// {append=true} ("Appending to String Arrays" of containers.conf(5)).
func list(value string, before []string) (all []string) {
	for item := range strings.SplitSeq(strings.Trim(value, "[] "), ",") {
		switch item = strings.TrimSpace(item); {
		case strings.HasPrefix(item, "{"):
			if strings.Join(strings.Fields(item), "") == "{append=true}" {
				all = append(before[:len(before):len(before)], all...)
			}
		case unquote(item) != "":
			all = append(all, unquote(item))
		}
	}
	return all
}

// uncomment returns a line without its comment; no value here has a # in it.
func uncomment(line string) string {
	before, _, _ := strings.Cut(line, "#")
	return before
}

func unquote(s string) string { return strings.Trim(strings.TrimSpace(s), `"'`) }
