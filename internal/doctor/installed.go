package doctor

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"flatnet/internal/containersconf"
	"flatnet/internal/input"
	"flatnet/internal/report"
	"flatnet/internal/rootless"
)

// A door is where engines look for the plugins of one kind.
type door struct {
	key, variable string   // of containers.conf, and of make install
	dirs          []string // by default: see docs/install.md
	configured    []string // by containers.conf, where Podman looks instead
}

func (d *Doctor) doors() []door {
	conf := containersconf.Read(d.Root, rootless.Settings())
	return []door{
		{"cni_plugin_dirs", "PLUGINDIR", []string{"/usr/local/lib/cni", "/usr/local/libexec/cni", "/usr/libexec/cni", "/usr/lib/cni", "/opt/cni/bin"}, conf.CNIDirs},
		{"netavark_plugin_dirs", "NETAVARKDIR", []string{"/usr/local/libexec/netavark", "/usr/libexec/netavark", "/usr/local/lib/netavark", "/usr/lib/netavark"},
			conf.NetavarkDirs},
	}
}

// installed looks for this binary where engines look for plugins.
func (d *Doctor) installed() {
	self, err := input.Read(d.Self, maxFile)
	if err != nil {
		d.add(report.Warn, "installation", err.Error(), "")
		return
	}
	found := 0
	for _, door := range d.doors() {
		var here, others int
		for _, dir := range door.configured {
			here += d.plugin(dir, self)
		}
		for _, dir := range door.dirs {
			if !slices.Contains(door.configured, dir) {
				others += d.plugin(dir, self)
			}
		}
		if len(door.configured) > 0 && here == 0 && others > 0 {
			d.add(report.Warn, "installation", fmt.Sprintf("Podman looks for such plugins only in %s (%s of containers.conf)",
				strings.Join(door.configured, ", "), door.key), fmt.Sprintf("make install %s=%s", door.variable, door.configured[0]))
		}
		found += here + others
	}
	if found == 0 {
		d.add(report.Warn, "installation", "no engine finds flatnet: it is in none of the directories for plugins of CNI and netavark", "make install")
	}
}

// plugin compares the plugin in a directory with this binary, and returns how many there are.
func (d *Doctor) plugin(dir string, self []byte) int {
	name := filepath.Join(dir, "flatnet")
	path := filepath.Join(d.Root, name)
	info, err := os.Stat(path)
	if os.IsNotExist(err) {
		return 0
	}
	data, err := input.Read(path, maxFile)
	switch {
	case err != nil:
		d.add(report.Warn, "installation", err.Error(), "make install")
	case info.Mode()&0o111 == 0:
		d.add(report.Fail, "installation", fmt.Sprintf("%s has the mode %#o, so no engine can execute it", name, info.Mode().Perm()), "chmod 755 "+name)
	case !bytes.Equal(data, self):
		d.add(report.Warn, "installation", name+" is another version than this program", "make install")
	default:
		d.add(report.OK, "installation", name+" is this version", "")
	}
	return 1
}
