// Package containersconf reads what containers.conf(5) says of Podman's networks, of
// which those in memory only are found nowhere else.
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
}

// maxSize bounds a file in bytes.
const maxSize = 1 << 20

// Read returns what root's Podman reads, or the user's whose configuration directory is
// home, if that is not empty: later files win. What can't be read says nothing.
func Read(home string) Networks {
	n := Networks{Default: "podman", Subnet: netip.MustParsePrefix("10.88.0.0/16")}
	var files []string
	for _, dir := range []string{"/usr/share/containers", "/etc/containers", home} {
		if dir != "" {
			more, _ := filepath.Glob(filepath.Join(dir, "containers.conf.d", "*.conf")) // sorted
			files = append(append(files, filepath.Join(dir, "containers.conf")), more...)
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

// read reads a TOML file, as far as these keys, which are strings, need it.
func (n *Networks) read(text string) {
	table := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(uncomment(line))
		key, value, _ := strings.Cut(line, "=")
		switch key = strings.Trim(strings.TrimSpace(key), `"'`); {
		case strings.HasPrefix(line, "["):
			table = strings.TrimSpace(strings.Trim(line, "[] "))
		case table == "network" && key == "default_network":
			n.Default = unquote(value)
		case table == "network" && key == "default_subnet":
			n.Subnet, _ = netip.ParsePrefix(unquote(value))
		}
	}
}

// uncomment returns a line without its comment; no value here has a # in it.
func uncomment(line string) string {
	before, _, _ := strings.Cut(line, "#")
	return before
}

func unquote(s string) string { return strings.Trim(strings.TrimSpace(s), `"'`) }
