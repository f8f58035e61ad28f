package tests

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"flatnet/tests/lab"
)

// Two versions of the package, with the binary of this architecture.
const (
	oldVersion = "v1.0.0"
	newVersion = "v1.0.1"
)

// packages makes a release of this architecture for each version, and returns its
// packages of one format.
func packages(t *testing.T, pattern string, versions ...string) (contents []string) {
	t.Helper()
	for _, version := range versions {
		dist := filepath.Join(t.TempDir(), "dist")
		output(t, root, "make", "-s", "release", "ARCHES="+runtime.GOARCH, "VERSION="+version, "DIST="+dist)
		paths, err := filepath.Glob(filepath.Join(dist, pattern))
		if err != nil || len(paths) != 1 {
			t.Fatalf("packages %v: %v", paths, err)
		}
		content, err := os.ReadFile(paths[0])
		if err != nil {
			t.Fatal(err)
		}
		contents = append(contents, string(content))
	}
	return contents
}

// The Debian package on real Debians: it is installed, serves Podman, is replaced under
// a running container, stays while that needs it, and is gone without a trace.
func TestDebianPackage(t *testing.T) {
	t.Parallel()
	debs := packages(t, "*.deb", oldVersion, newVersion)
	for _, suite := range []string{"trixie", "bookworm"} {
		t.Run(suite, func(t *testing.T) {
			d := packaged{newBox(t).debianPodman(suite), debs, t}
			d.World.Run("make", "-s", "-C", lab.Repository, "uninstall") // of the laboratory's own
			before := d.trace()
			d.install()
			d.serve()
			d.upgrade()
			d.refuse()
			d.again()
			d.purgeBesideContainers()
			d.apt("purge", "-y", "flatnet")
			if after := d.trace(); after != before {
				t.Errorf("before the package and after its purge:\n%s", difference(before, after))
			}
		})
	}
}

// A packaged is a Debian for which there are packages.
type packaged struct {
	lab.Podman
	debs []string
	t    *testing.T
}

// apt runs apt-get, which has no network here.
func (d packaged) apt(args ...string) string {
	d.t.Helper()
	out, err := d.tryApt(args...)
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

func (d packaged) tryApt(args ...string) (string, error) {
	return d.World.Try(append([]string{"env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "APT::Sandbox::User=root"}, args...)...)
}

// trace is all that a package could leave behind: files, users, links and rules.
func (d packaged) trace() string {
	d.t.Helper()
	return d.World.Sh(`find / /run -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /oldroot -o -path '/tmp/*' -o -path '/root/*' \
			-o -path '/var/lib/dpkg/*' -o -path '/var/log/*' -o -path '/var/cache/*' -o -path '/var/lib/apt/*' -o -path '/run/lock/*' \
			-o -path /etc/containers/networks -o -path '/run/containers/*' -o -path '/run/crun*' -o -path '/run/runc*' -o -path '/run/libpod*' -o -path '/run/netns*' \
			-o -path '/var/lib/cni/*' -o -path /var/lib/cni -o -path '/run/user*' \) -prune -o -print | sort
		dpkg-query -W -f '${Package} ${db:Status-Abbrev}\n'
		cat /etc/passwd /etc/group
		nft list ruleset
		ip -o link | cut -d: -f2`)
}

// install installs the old version, which has the network of CNI in its place only where
// Podman has CNI.
func (d packaged) install() {
	d.World.Write("/root/old.deb", d.debs[0])
	d.World.Write("/root/new.deb", d.debs[1])
	d.apt("install", "-y", "--no-install-recommends", "/root/old.deb")
	if out := d.World.Run("flatnet", "version"); !strings.Contains(out, oldVersion) {
		d.t.Errorf("flatnet version: %s", out)
	}
	conf := d.World.Read("/etc/cni/net.d/87-flatnet.conflist")
	if (conf != "") != (d.Backend == "cni") {
		d.t.Errorf("with %s, the network of CNI is %q", d.Backend, conf)
	}
	if d.Backend == "netavark" {
		d.Do("network", "create", "--driver", "flatnet", "flatnet")
	}
	for _, path := range []string{"/usr/share/bash-completion/completions/flatnet", "/usr/share/zsh/vendor-completions/_flatnet",
		"/usr/share/fish/vendor_completions.d/flatnet.fish", "/usr/share/man/man1/flatnet.1.gz", "/usr/share/man/man7/flatnet-cni.7.gz",
		"/usr/share/doc/flatnet/copyright", "/usr/share/doc/flatnet/README.md", "/usr/lib/systemd/system/flatnet.service"} {
		if !strings.Contains(d.World.Run("dpkg", "-L", "flatnet"), path+"\n") {
			d.t.Errorf("the package has no %s", path)
		}
	}
}

// serve runs a container whose port is reached from outside.
func (d packaged) serve() {
	d.Do("run", "-d", "--name", "web", "--network", "flatnet", "--cap-add", "NET_RAW", d.World.Cgroup(), "-p", "8080:80", lab.Image,
		"/bin/busybox", "nc", "-ll", "-p", "80", "-e", "/bin/busybox", "echo", "served")
	d.reach()
}

func (d packaged) reach() {
	d.t.Helper()
	var got string
	err := lab.Until(10*time.Second, func() (err error) { // the server may still be starting
		got, err = d.World.Outside.Ask(net.JoinHostPort(lab.HostAddr, "8080"))
		return err
	})
	if strings.TrimSpace(got) != "served" {
		d.t.Errorf("from outside: %q, %v", got, err)
	}
	if err := d.PingFrom("web", lab.OutsideAddr); err != nil {
		d.t.Error(err)
	}
}

// upgrade replaces the package, and no echo request gets lost meanwhile.
func (d packaged) upgrade() {
	before := d.World.Sh("nft list ruleset; ip -o link; find /run/flatnet /var/lib/flatnet -type f -name '[a-z0-9]*' -exec cat {} +")
	ping := d.World.Cmd("ping", "-n", "-i", "0.02", d.Network("web", "flatnet", "IPAddress"))
	var said strings.Builder
	ping.Stdout, ping.Stderr = &said, &said
	if err := ping.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.apt("install", "-y", "--no-install-recommends", "/root/new.deb")
	d.World.Run("pkill", "-INT", "-x", "ping")
	ping.Wait()
	if !strings.Contains(said.String(), " 0% packet loss") {
		d.t.Errorf("while the package is replaced: %s", said.String())
	}
	if out := d.World.Run("flatnet", "version"); !strings.Contains(out, newVersion) {
		d.t.Errorf("flatnet version: %s", out)
	}
	after := d.World.Sh("nft list ruleset; ip -o link; find /run/flatnet /var/lib/flatnet -type f -name '[a-z0-9]*' -exec cat {} +")
	if after != before {
		d.t.Errorf("the new version changes\n%s", difference(before, after))
	}
	d.reach()
	d.Do("restart", "-t0", "web")
	d.reach()
}

// refuse wants to remove the package while a container needs it.
func (d packaged) refuse() {
	id := d.Do("inspect", "-f", "{{.ID}}", "web")[:12]
	_, err := d.tryApt("remove", "-y", "flatnet")
	if err == nil || !strings.Contains(err.Error(), id) || !strings.Contains(err.Error(), "FORCE=1 apt-get remove flatnet") {
		d.t.Errorf("removal while a container is attached: %v", err)
	}
	if status := d.World.Run("dpkg-query", "-W", "-f", "${db:Status-Abbrev}", "flatnet"); strings.TrimSpace(status) != "ii" {
		d.t.Errorf("after that the package is %s", status)
	}
	d.reach()
	d.Do("rm", "-fat0")
}

// purgeBesideContainers removes the package, and purges it when something else has attached
// a container meanwhile: that keeps what it has.
func (d packaged) purgeBesideContainers() {
	const lease = "/var/lib/flatnet/ipam/lease"
	d.apt("remove", "-y", "flatnet")
	d.World.Sh("ip link add fn-x type veth; ip link set fn-x alias 'flatnet flatnet/x/eth0 10.87.1.9'; mkdir -p /var/lib/flatnet/ipam; touch " + lease)
	d.apt("purge", "-y", "flatnet")
	if left := strings.TrimSpace(d.World.Sh("ls " + lease + " || true")); left != lease {
		d.t.Errorf("a purge beside a container leaves %q", left)
	}
	d.World.Sh("ip link delete fn-x; rm -f " + lease)
	d.apt("install", "-y", "--no-install-recommends", "/root/new.deb")
}

// again removes the package, installs it and removes it: the network of CNI comes and
// goes with it, as it was left.
func (d packaged) again() {
	const conf = "/etc/cni/net.d/87-flatnet.conflist"
	edited := ""
	if d.Backend == "cni" {
		edited = strings.Replace(d.World.Read(conf), `"flatnet"`, `"mine"`, 1)
		d.World.Write(conf, edited)
	} else {
		d.Do("network", "rm", "flatnet")
	}
	d.apt("remove", "-y", "flatnet")
	if left := d.World.Sh("ls " + conf + " /usr/bin/flatnet 2>/dev/null || true"); left != "" {
		d.t.Errorf("remove leaves %s", left)
	}
	d.apt("install", "-y", "--no-install-recommends", "/root/new.deb")
	if got := d.World.Read(conf); got != edited {
		d.t.Errorf("the network is %q, want %q", got, edited)
	}
}

// The RPM package, with Debian's rpm and a database of its own: as the Debian package, it
// is replaced under a container, and stays while that needs it.
func TestRPMPackage(t *testing.T) {
	b := newBox(t)
	rpms := packages(t, "*.rpm", oldVersion, newVersion)
	rpm := []string{"rpm", "--dbpath", "/run/rpmdb", "--nosignature"}
	for i, name := range []string{"/run/old.rpm", "/run/new.rpm"} {
		b.Write(name, rpms[i])
	}
	before := b.files()
	b.Run(append(rpm, "-i", "--nodeps", "/run/old.rpm")...)
	for _, path := range []string{"/usr/libexec/netavark/flatnet", "/usr/libexec/cni/flatnet"} {
		if out := b.Run(path, "version"); !strings.Contains(out, oldVersion) {
			t.Errorf("%s version: %s", path, out)
		}
	}
	b.attach("web")
	attached := b.state()
	b.Run(append(rpm, "-U", "--nodeps", "/run/new.rpm")...)
	if out := b.Run("/usr/bin/flatnet", "version"); !strings.Contains(out, newVersion) {
		t.Errorf("flatnet version: %s", out)
	}
	b.same(attached)
	if out, err := b.Try(append(rpm, "-e", "flatnet")...); err == nil || !strings.Contains(err.Error(), "FORCE=1 rpm -e flatnet") {
		t.Errorf("removal while a container is attached: %s, %v", out, err)
	}
	forced := b.Run(slices.Concat([]string{"env", "FORCE=1"}, rpm, []string{"-e", "flatnet"})...)
	if !strings.Contains(forced, "until\nflatnet is installed again:\nflatnet  web ") {
		t.Errorf("a forced removal says %s", forced)
	}
	b.same(attached)
	b.Run(append(rpm, "-i", "--nodeps", "/run/new.rpm")...)
	if r := b.Call("/usr/libexec/cni/flatnet", call("DEL", "web")); r.Exit != 0 {
		t.Errorf("DEL: %s", r.Stdout)
	}
	b.Run(append(rpm, "-e", "flatnet")...)
	if after := b.files(); after != before {
		t.Errorf("after the removal there is %s", difference(before, after))
	}
	if _, ok := links(t, b.Place)[bridgeName]; ok {
		t.Error("the bridge is left")
	}
}
