package doctor

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flatnet/internal/dns"
	"flatnet/internal/engine"
	"flatnet/internal/report"
)

// tree makes a root with files.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		content, plain := strings.CutSuffix(content, " mode 644")
		mode := os.FileMode(0o755)
		if plain {
			mode = 0o644
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// A filesOfHost is a host's files, and what is found there.
type filesOfHost struct {
	name    string
	files   map[string]string
	examine func(*Doctor)
	want    []string // verdict and a part of what was seen or repairs it, for each finding
}

func filesOfHosts() []filesOfHost {
	const (
		dpkg = "Package: other\nStatus: install ok installed\nVersion: 9\n\nPackage: podman\nStatus: install ok installed\nVersion: %p\n\n" +
			"Package: netavark\nStatus: install ok installed\nVersion: %n\n"
		status  = "var/lib/dpkg/status"
		backend = "var/lib/containers/storage/defaultNetworkBackend"
		conf    = "etc/containers/containers.conf.d/flatnet.conf"
		release = "proc/sys/kernel/osrelease"
		wsl     = "6.6.87.2-microsoft-standard-WSL2\n"
	)
	versions := func(podman, netavark string) string {
		return strings.NewReplacer("%p", podman, "%n", netavark).Replace(dpkg)
	}
	return []filesOfHost{
		{"Ubuntu 24.04", map[string]string{status: versions("4.9.3+ds1-1", "1.4.0-3")}, (*Doctor).podman, []string{"WARN network_backend = \"cni\"\\n' >/etc/containers/containers.conf.d/flatnet.conf"}},
		{"Ubuntu 24.04 as docs/install.md has it", map[string]string{status: versions("4.9.3", "1.4.0"), backend: "netavark", conf: "[network]\nnetwork_backend = \"cni\"\n"},
			(*Doctor).podman, []string{"OK back end cni"}},
		{"configured for netavark", map[string]string{status: versions("4.9.3", "1.4.0"), backend: "cni", conf: "[network]\nnetwork_backend = \"netavark\"\n"},
			(*Doctor).podman, []string{"WARN back end netavark"}},
		{"netavark is newer than Podman", map[string]string{status: versions("4.3.1", "1.14.0")}, (*Doctor).podman, []string{"WARN Podman before 4.5"}},
		{"Ubuntu 22.04", map[string]string{status: versions("3.4.4", "1.4.0")}, (*Doctor).podman, []string{"OK version 3.4.4"}},
		{"Podman 5 with an old netavark", map[string]string{status: versions("5.0.0", "1.4.0"), "etc/os-release": "ID=ubuntu\nID_LIKE=debian\n"},
			(*Doctor).podman, []string{"WARN apt install netavark"}},
		{"Ubuntu 24.04 with CNI", map[string]string{status: versions("4.9.3", "1.4.0"), backend: "cni"}, (*Doctor).podman, []string{"OK back end cni"}},
		{"Debian 13", map[string]string{status: versions("5.4.2", "1.14.0-2"), backend: "netavark"}, (*Doctor).podman, []string{"OK netavark 1.14.0-2"}},
		{"epoch", map[string]string{status: versions("1:4.9.3", "1:1.4.0")}, (*Doctor).podman, []string{"WARN 1:1.4.0"}},
		{"removed", map[string]string{status: "Package: podman\nStatus: deinstall ok config-files\nVersion: 4\n"}, (*Doctor).podman, []string{"OK is not installed"}},
		{"Alpine", map[string]string{"lib/apk/db/installed": "C:x\nP:podman\nV:5.6.0-r1\n\nP:netavark\nV:1.16.1-r0\n"}, (*Doctor).podman, []string{"OK 5.6.0-r1, netavark 1.16.1-r0"}},
		{"no Podman", nil, (*Doctor).podman, []string{"OK is not installed"}},
		{"Fedora", map[string]string{"usr/bin/podman": "", backend: "netavark"}, (*Doctor).podman, []string{"OK /usr/bin/podman is of a version that dpkg and apk don't know"}},
		{"names on Fedora", map[string]string{"etc/os-release": "NAME=\"Fedora Linux\"\nID=fedora\n"}, (*Doctor).names, []string{"WARN dnf install aardvark-dns"}},
		{"names on Rocky", map[string]string{"etc/os-release": "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"}, (*Doctor).names, []string{"WARN dnf install aardvark-dns"}},
		{"names on Alpine", map[string]string{"etc/os-release": "ID=alpine\n"}, (*Doctor).names, []string{"WARN apk add aardvark-dns"}},
		{"names elsewhere", nil, (*Doctor).names, []string{"WARN install the package aardvark-dns"}},
		{"not executable", map[string]string{"usr/local/lib/cni/flatnet": "self mode 644"}, (*Doctor).installed, []string{"FAIL chmod 755 /usr/local/lib/cni/flatnet"}},
		{"directories of containers.conf", map[string]string{conf: "[network]\ncni_plugin_dirs = [\n \"/opt/mine\",\n]\n", "opt/mine/flatnet": "self"}, (*Doctor).installed,
			[]string{"OK /opt/mine/flatnet is this version"}},
		{"other directories than those of containers.conf", map[string]string{conf: "[network]\nnetavark_plugin_dirs = [\"/opt/mine\"]\n", "usr/lib/netavark/flatnet": "self"},
			(*Doctor).installed, []string{"OK /usr/lib/netavark/flatnet", "WARN make install NETAVARKDIR=/opt/mine"}},
		{"not installed", nil, (*Doctor).installed, []string{"WARN make install"}},
		{"installed", map[string]string{"usr/local/lib/cni/flatnet": "self", "usr/libexec/netavark/flatnet": "old"}, (*Doctor).installed,
			[]string{"OK /usr/local/lib/cni/flatnet", "WARN /usr/libexec/netavark/flatnet is another version"}},
		{"no user namespaces", map[string]string{"proc/sys/user/max_user_namespaces": "0\n", "proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"},
			(*Doctor).rootless, []string{"OK can't run: user.max_user_namespaces is 0", "OK needs the AppArmor profile"}},
		{"user namespaces", map[string]string{"proc/sys/user/max_user_namespaces": "9\n", "proc/sys/kernel/unprivileged_userns_clone": "1\n"}, (*Doctor).rootless, nil},
		{"no WSL", map[string]string{release: "6.1.0-41-amd64\n"}, (*Doctor).wsl, nil},
		{"WSL2", map[string]string{release: wsl}, (*Doctor).wsl, []string{"OK route add 10.87.0.0 mask 255.255.0.0 "}},
		{"mirrored WSL2", map[string]string{release: wsl, "sys/class/net/loopback0/ifindex": "3"}, (*Doctor).wsl, []string{"OK mirrored"}},
	}
}

func TestFiles(t *testing.T) {
	for _, tt := range filesOfHosts() {
		t.Run(tt.name, func(t *testing.T) {
			root := tree(t, tt.files)
			d := Doctor{Engine: engine.Engine{Names: dns.Server{Program: func() string { return "" }}}, Root: root, Self: filepath.Join(tree(t, map[string]string{"self": "self"}), "self")}
			tt.examine(&d)
			if len(d.found) != len(tt.want) {
				t.Fatalf("%+v", d.found)
			}
			for i, f := range d.found {
				verdict, text, _ := strings.Cut(tt.want[i], " ")
				if f.Verdict != verdict || !strings.Contains(f.Seen+"\n"+f.Repair, text) {
					t.Errorf("%+v, want %s", f, tt.want[i])
				}
			}
		})
	}
}

func TestDisks(t *testing.T) {
	d := Doctor{Root: "/proc"} // which has no free space, and no directory of that name
	d.disks()
	for _, f := range d.found {
		if f.Verdict != report.Fail || !strings.HasPrefix(f.Seen, "0 KiB are free") {
			t.Errorf("%+v", f)
		}
	}
}

// Windows gets a route to each network that there is.
func TestRoutes(t *testing.T) {
	d := Doctor{}
	for _, tt := range []struct {
		subnets []netip.Prefix
		want    string
	}{
		{nil, "route add 10.87.0.0 mask 255.255.0.0 192.0.2.9"},
		{[]netip.Prefix{netip.MustParsePrefix("172.30.0.1/23"), netip.MustParsePrefix("fd87::/64"), netip.MustParsePrefix("172.30.0.0/23"), netip.MustParsePrefix("10.87.1.0/24")},
			"route add 172.30.0.0 mask 255.255.254.0 192.0.2.9, route add 10.87.1.0 mask 255.255.255.0 192.0.2.9"},
	} {
		d.subnets = tt.subnets
		if got := strings.Join(d.routes("192.0.2.9"), ", "); got != tt.want {
			t.Errorf("%v: %s", tt.subnets, got)
		}
	}
}
