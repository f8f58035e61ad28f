package doctor

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"flatnet/internal/input"
	"flatnet/internal/report"
)

// Where engines look for plugins: see docs/install.md.
func cniDirs() []string {
	return []string{"usr/local/lib/cni", "usr/local/libexec/cni", "usr/libexec/cni", "usr/lib/cni", "opt/cni/bin"}
}

func netavarkDirs() []string {
	return []string{"usr/local/libexec/netavark", "usr/libexec/netavark", "usr/local/lib/netavark", "usr/lib/netavark"}
}

// podman reads Podman's version, its network back end and netavark's version, as far as
// files tell: flatnet executes nothing.
func (d *Doctor) podman() {
	podman := d.version("podman")
	if podman == "" {
		d.add(report.OK, "Podman", "is not known to the package manager", "")
		return
	}
	backend := d.read("var/lib/containers/storage/defaultNetworkBackend")
	netavark := d.version("netavark")
	seen := "version " + podman
	if backend != "" {
		seen += ", back end " + backend
	}
	if netavark != "" {
		seen += ", netavark " + netavark
	}
	if netavark != "" && less(netavark, 1, 6) && backend != "cni" {
		repair := "install netavark 1.6 or newer"
		if less(podman, 5, 0) {
			repair = `put network_backend = "cni" into the [network] section of /etc/containers/containers.conf`
		}
		d.add(report.Warn, "Podman", seen+": netavark before 1.6 knows no plugins", repair)
		return
	}
	d.add(report.OK, "Podman", seen, "")
}

// version returns that of an installed package of Debian's or Alpine's package manager,
// or nothing.
func (d *Doctor) version(name string) string {
	for _, m := range []struct{ path, begin, version string }{
		{"var/lib/dpkg/status", "Package: " + name + "\n", "Version: "}, {"lib/apk/db/installed", "P:" + name + "\n", "V:"},
	} {
		data, _ := input.Read(filepath.Join(d.Root, m.path), maxFile)
		for entry := range strings.SplitSeq(string(data), "\n\n") {
			if !strings.Contains("\n"+entry+"\n", "\n"+m.begin) || strings.Contains(entry, "\nStatus: deinstall") {
				continue
			}
			for line := range strings.SplitSeq(entry, "\n") {
				if v, ok := strings.CutPrefix(line, m.version); ok {
					return v
				}
			}
		}
	}
	return ""
}

// less reports whether a version is before major.minor. A Debian epoch is ignored; what
// is no number is not before anything.
func less(version string, major, minor int) bool {
	if _, rest, found := strings.Cut(version, ":"); found {
		version = rest
	}
	first, rest, _ := strings.Cut(version, ".")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		rest = rest[:end]
	}
	a, err := strconv.Atoi(first)
	b, berr := strconv.Atoi(rest)
	return err == nil && berr == nil && (a < major || a == major && b < minor)
}

// installed looks for this binary where engines look for plugins.
func (d *Doctor) installed() {
	self, err := input.Read(d.Self, maxFile)
	if err != nil {
		d.add(report.Warn, "installation", err.Error(), "")
		return
	}
	found := 0
	for _, dir := range append(cniDirs(), netavarkDirs()...) {
		path := filepath.Join(d.Root, dir, "flatnet")
		data, err := input.Read(path, maxFile)
		switch {
		case os.IsNotExist(err):
			continue
		case err != nil:
			d.add(report.Warn, "installation", err.Error(), "make install")
		case !bytes.Equal(data, self):
			d.add(report.Warn, "installation", fmt.Sprintf("/%s/flatnet is another version than this program", dir), "make install")
		default:
			d.add(report.OK, "installation", fmt.Sprintf("/%s/flatnet is this version", dir), "")
		}
		found++
	}
	if found == 0 {
		d.add(report.Warn, "installation", "no engine finds flatnet: it is in none of the directories for plugins of CNI and netavark", "make install")
	}
}
