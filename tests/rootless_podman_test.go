package tests

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"flatnet/tests/lab"
)

// A user's Podman on a machine whose root uses flatnet as well.
func TestRootlessPodman(t *testing.T)    { testRootlessPodman(t, "trixie") }
func TestRootlessPodmanSid(t *testing.T) { testRootlessPodman(t, "sid") }

func testRootlessPodman(t *testing.T, suite string) {
	b := newBox(t)
	rootful := b.debianPodman(suite)
	rootful.Do("network", "create", "--driver", "flatnet", "flatnet")
	rootful.Do("network", "create", "--driver", "flatnet", "--disable-dns", "two") // 10.87.2.0/24
	rootful.Start("rooted", "--network", "two")
	b.rootless(rootful, []step{
		{"networks are the user's", rootless.networks},
		{"containers reach each other by name, and the outside", rootless.reaches},
		{"published ports, by the port forwarder", rootless.ports},
		{"stop, start and restart", rootless.restart},
		{"list and reload", rootless.people},
		{"another run root", rootless.otherRunRoot},
	})
}

// Podman 4 with CNI and slirp4netns gives plugins a /var/lib that ends with the last
// container, where there is no /var/lib/cni; the leases are in the user's home even so.
func TestRootlessPodmanCNI(t *testing.T) {
	b := newBox(t)
	rootful := b.debianPodman("bookworm")
	rootful.Start("rooted")
	b.rootless(rootful, []step{
		{"a configuration", rootless.conflist},
		{"published ports, by the port forwarder", rootless.ports},
		{"stop, start and restart", rootless.restart},
		{"list and reload", rootless.people},
	})
}

type step struct {
	name string
	run  func(rootless)
}

// rootless runs the steps as a user, beside root's containers.
func (b box) rootless(rootful lab.Podman, steps []step) {
	t := b.t
	p, err := rootful.Rootless("1000")
	if err != nil {
		t.Skipf("NO ROOTLESS PODMAN TO TEST WITH: %v", err)
	}
	host := box{p.World, t}
	const list = "for d in /run/flatnet /run/containers/networks /etc/containers/networks; do test ! -d $d || find $d -ls; done"
	before := host.state() + host.Sh(list)
	r := rootless{nv{p, b.Outside, "--cgroups=disabled", t}, b.Place}
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			r := r
			r.Podman, r.t = p.In(t), t
			defer func() {
				r.Do("rm", "-fat0")
				r.clean()
			}()
			s.run(r)
		})
	}
	if after := host.state() + host.Sh(list); after != before {
		t.Errorf("the host's was\n%s\nand now is\n%s", before, after)
	}
	host.Run("umount", "/sys/fs/cgroup") // see lab.Podman.Rootless
	rootful.Do("rm", "-fat0")
}

// A rootless is an nv of an ordinary user.
type rootless struct {
	nv
	host lab.Place
}

const (
	userLeases = "/home/u1000/.local/share/flatnet/ipam"
	userNames  = "/run/user/1000/containers/networks/aardvark-dns"
)

// clean fails unless all that containers had is gone, or ends within a moment with the
// user's network namespace.
func (r rootless) clean() {
	r.t.Helper()
	out := r.World.Sh("jq -r '.allocations | keys[]' $(find " + userLeases + " -name allocations.json 2>/dev/null) /dev/null; ls " + userNames + " 2>/dev/null | grep -v aardvark.pid || true")
	if out != "" {
		r.t.Errorf("left behind: %s", out)
	}
}

// networks avoid the user's other networks and what the host has, except that root has a
// network of the same name.
func (r rootless) networks() {
	r.Do("network", "create", "--driver", "flatnet", "flatnet")
	r.Do("network", "create", "--driver", "flatnet", "--ipv6", "second")
	r.Do("network", "create", "other") // netavark's own
	const format = "{{.NetworkInterface}} {{range .Subnets}}{{.Subnet}} {{end}}"
	if got := r.inspect("flatnet", format); got != "flatnet-br0 10.87.1.0/24" {
		r.t.Errorf("flatnet: %s", got)
	}
	if got := r.inspect("second", format); !strings.HasPrefix(got, "flatnet-br3 10.87.3.0/24 fd") {
		r.t.Errorf("second: %s", got)
	}
	r.refused("overlaps with 10.87.3.0/24 of network second", "network", "create", "--driver", "flatnet", "--subnet", "10.87.3.0/25", "third")
	r.refused("overlaps with the address "+lab.HostAddr+"/24 of interface "+lab.Uplink, "network", "create", "--driver", "flatnet", "--subnet", "192.0.2.0/25", "third")
}

func (r rootless) conflist() {
	const dir = "/home/u1000/.config/cni/net.d"
	r.World.Run("mkdir", "-p", dir)
	r.World.Write(dir+"/87-flatnet.conflist", `{"cniVersion":"1.0.0","name":"flatnet","plugins":[
		{"type":"flatnet","dnsEnabled":true,"capabilities":{"portMappings":true,"aliases":true}}]}`)
}

func (r rootless) reaches() {
	r.run("a", []string{"flatnet", "other"})
	r.run("b", []string{"flatnet", "second"})
	r.run("c", []string{"other"})
	for _, to := range [][2]string{{"a", "b"}, {"b", "a"}, {"a", "c"}, {"c", "a"}} {
		r.ping(to[0], to[1])
	}
	r.ping("b", "10.87.3.1")
	if out := r.World.Sh("stat -c '%u %a' " + userLeases + " " + userNames + "/flatnet"); out != "1000 700\n1000 600\n" {
		r.t.Errorf("owners and modes: %s", out)
	}
	r.outside.In(r.t).Serve(lab.OutsideAddr + ":7000")
	if out := r.Do("exec", "a", "busybox", "nc", lab.OutsideAddr, "7000"); out != lab.HostAddr {
		r.t.Errorf("the outside sees %q", out)
	}
}

// ports are listened to by rootlessport, which connects to the container from within.
func (r rootless) ports() {
	r.Do("run", "-d", r.cgroup, "--name", "web", "--network", "flatnet", "-p", "8080:80", "-p", "127.0.0.1:8081:80",
		lab.Image, "sh", "-c", "while :; do echo hello | busybox nc -l -p 80; done")
	from := func(place lab.Place, addr string) error {
		return lab.Until(10*time.Second, func() error { // the server may be between two clients
			if got, err := place.Ask(addr); got != "hello\n" {
				return fmt.Errorf("%s: %q, %v", addr, got, err)
			}
			return nil
		})
	}
	for addr, place := range map[string]lab.Place{"127.0.0.1:8080": r.host.In(r.t), "127.0.0.1:8081": r.host.In(r.t), lab.HostAddr + ":8080": r.outside.In(r.t)} {
		if err := from(place, addr); err != nil {
			r.t.Error(err)
		}
	}
	r.run("b", flatnet)
	r.Do("restart", "-t0", "web")
	if err := from(r.host.In(r.t), "127.0.0.1:8080"); err != nil {
		r.t.Errorf("after a restart: %v", err)
	}
	r.refused("8080", "run", "-d", r.cgroup, "--network", "flatnet", "-p", "8080:80", lab.Image, "true")
}

func (r rootless) restart() {
	r.run("a", flatnet)
	r.run("b", flatnet)
	r.Do("stop", "-t0", "a")
	for _, verb := range []string{"start", "restart"} {
		r.Do(verb, "a")
		r.ping("b", r.addr("a", "flatnet"))
		r.ping("b", "a")
	}
	r.Do("network", "reload", "a")
	r.ping("b", "a")
}

// people use the command line in the user's network namespace, and are told where that
// is anywhere else.
func (r rootless) people() {
	r.run("a", flatnet, "-p", "8080:80")
	within := []string{"podman", "unshare", "--rootless-netns"}
	inside := func(args ...string) string {
		out, err := r.As(append(within, args...)...)
		if err != nil {
			r.t.Error(err)
		}
		return out
	}
	if out := inside("flatnet", "list"); !strings.Contains(out, r.addr("a", "flatnet")) || strings.Count(out, "fn-") != 1 {
		r.t.Errorf("list: %s", out)
	}
	if out, err := r.World.Try("make", "-s", "-C", lab.Repository, "uninstall"); err == nil ||
		!strings.Contains(err.Error(), "(user 1000)") || !strings.Contains(err.Error(), r.addr("a", "flatnet")) {
		r.t.Errorf("uninstall does not name the user's container: %s, %v", out, err)
	}
	inside("/usr/sbin/nft", "flush", "ruleset")
	if out := inside("flatnet", "reload"); !strings.Contains(out, "mended") {
		r.t.Errorf("reload: %s", out)
	}
	if out := inside("/usr/sbin/nft", "list", "ruleset"); !strings.Contains(out, "8080") {
		r.t.Errorf("rules after reload: %s", out)
	}
	for _, at := range []string{"podman unshare flatnet", "flatnet"} {
		out, err := r.As("sh", "-c", at+" reload 2>&1")
		if err == nil || !strings.Contains(out, "podman unshare --rootless-netns flatnet reload") {
			r.t.Errorf("%s reload: %v, %s", at, err, out)
		}
	}
}

// otherRunRoot has a network namespace of its own, and so leases.
func (r rootless) otherRunRoot() {
	r.run("a", flatnet)
	run := []string{"--runroot", "/run/user/1000/other", "--root", "/home/u1000/other", "--tmpdir", "/run/user/1000/tmp"}
	other := r
	other.Podman = r.With(run...)
	defer other.Do("rm", "-fat0")
	if err := other.Load(); err != nil {
		r.t.Fatal(err)
	}
	other.Do("network", "create", "--driver", "flatnet", "flatnet")
	other.run("b", flatnet)
	if out := r.World.Sh("jq -c .allocations[] " + userLeases + "/allocations.json /run/user/1000/other/networks/flatnet/ipam/allocations.json"); strings.Count(out, "\n") != 2 {
		r.t.Errorf("leases: %s", out)
	}
}
