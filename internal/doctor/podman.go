package doctor

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"flatnet/internal/containersconf"
	"flatnet/internal/input"
	"flatnet/internal/report"
	"flatnet/internal/rootless"
)

// useCNI is the command of docs/install.md: later files of that directory win.
const useCNI = "mkdir -p /etc/containers/containers.conf.d && " +
	`printf '[network]\nnetwork_backend = "cni"\n' >/etc/containers/containers.conf.d/flatnet.conf`

// podman reads Podman's version, its network back end and netavark's version, as far as files
// show them: flatnet executes nothing.
func (d *Doctor) podman() {
	podman := d.version("podman")
	if podman == "" {
		d.unversioned()
		return
	}
	backend := d.backend()
	netavark := d.version("netavark")
	seen := "version " + podman
	if backend != "" {
		seen += ", back end " + backend
	}
	if netavark != "" {
		seen += ", netavark " + netavark
	}
	chooses := !less(podman, 4, 0) && less(podman, 5, 0) // older ones have CNI only, and newer ones netavark only
	switch {
	case netavark == "" || less(podman, 4, 0) || chooses && backend == "cni":
		d.add(report.OK, "Podman", seen, "")
	case less(netavark, 1, 6) && !chooses:
		d.add(report.Warn, "Podman", seen+": netavark before 1.6 knows no plugins", d.install("netavark"))
	case less(netavark, 1, 6):
		d.add(report.Warn, "Podman", seen+": netavark before 1.6 knows no plugins", useCNI)
	case less(podman, 4, 5):
		d.add(report.Warn, "Podman", seen+": Podman before 4.5 knows no plugins of netavark", useCNI)
	default:
		d.add(report.OK, "Podman", seen, "")
	}
}

// unversioned reports a Podman whose version no list has that can be read: RPM's is a database.
func (d *Doctor) unversioned() {
	for _, dir := range []string{"usr/bin", "usr/local/bin"} {
		if _, err := os.Stat(filepath.Join(d.Root, dir, "podman")); err == nil {
			seen := fmt.Sprintf("/%s/podman is of a version that dpkg and apk don't know: `podman info` prints it; "+
				"flatnet needs netavark 1.6 or newer, or the back end cni", dir)
			if backend := d.backend(); backend != "" {
				seen += "; the back end is " + backend
			}
			d.add(report.OK, "Podman", seen, "")
			return
		}
	}
	d.add(report.OK, "Podman", "is not installed", "")
}

// backend returns Podman's network back end: the one that is configured or, without one, the
// one that it chose when it first ran; empty if neither is known.
func (d *Doctor) backend() string {
	chosen := d.read(cmp.Or(rootless.Storage(), "var/lib/containers/storage") + "/defaultNetworkBackend")
	return cmp.Or(containersconf.Read(d.Root, rootless.Settings()).Backend, chosen)
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

// install returns the command by which this distribution installs a package, by os-release(5).
func (d *Doctor) install(pkg string) string {
	data, _ := input.Read(filepath.Join(d.Root, "etc/os-release"), 1<<20)
	var like []string
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key == "ID" || key == "ID_LIKE" {
			like = append(like, strings.Fields(strings.Trim(value, `"'`))...)
		}
	}
	for _, id := range like {
		switch id {
		case "debian", "ubuntu":
			return "apt install " + pkg
		case "fedora", "rhel", "centos":
			return "dnf install " + pkg
		case "suse", "opensuse":
			return "zypper install " + pkg
		case "alpine":
			return "apk add " + pkg
		case "arch":
			return "pacman -S " + pkg
		}
	}
	return "install the package " + pkg + " of this distribution"
}

func (d *Doctor) names() {
	if d.Engine.Names.Installed() {
		d.add(report.OK, "container names", "aardvark-dns is installed", "")
		return
	}
	d.add(report.Warn, "container names", "aardvark-dns is not installed, so containers don't find each other by name", d.install("aardvark-dns"))
}
