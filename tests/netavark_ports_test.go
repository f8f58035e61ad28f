package tests

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"flatnet/tests/lab"
)

// Published ports are right only if bytes come through: conmon listens on them
// itself, so that a connection alone says nothing.
func TestNetavarkPorts(t *testing.T)    { testNetavarkPorts(t, "trixie") }
func TestNetavarkPortsSid(t *testing.T) { testNetavarkPorts(t, "sid") }
func TestNetavarkPorts6(t *testing.T)   { testNetavarkPorts(t, "experimental") }

func testNetavarkPorts(t *testing.T, suite string) {
	b := newBox(t)
	podman := b.debianPodman(suite)
	podman.Do("network", "create", "--driver", "flatnet", "--disable-dns", "flatnet")
	podman.Do("network", "create", "--driver", "flatnet", "--disable-dns", "second")
	podman.Do("network", "create", "--driver", "flatnet", "--disable-dns", "--subnet", "10.99.6.0/24", "--subnet", "fd00:6::/64", "dual")
	for _, p := range publications {
		t.Run(p.name, func(t *testing.T) { p.reach(b.in(t), nv{podman.In(t), b.Outside, b.Cgroup(), t}) })
	}
	t.Run("a port that another has", func(t *testing.T) { nv{podman.In(t), b.Outside, b.Cgroup(), t}.portTaken() })
}

const localhost = "127.0.0.1"

// A publication is a container's options, and where they have it reached.
type publication struct {
	name    string
	options []string
	reached []string // from outside, or, if they are the host's loopback, from the host
	not     []string
}

var publications = []publication{
	{"a port", []string{"-p", "8092:80"}, []string{lab.HostAddr + ":8092", localhost + ":8092"}, []string{lab.HostAddr + ":8093"}},
	{"a range", []string{"-p", "9000-9001:80-81"}, []string{lab.HostAddr + ":9000", lab.HostAddr + ":9001"}, []string{lab.HostAddr + ":9002"}},
	{"a host address", []string{"-p", lab.HostAddr + ":8094:81"}, []string{lab.HostAddr + ":8094"}, []string{localhost + ":8094"}},
	{"loopback only", []string{"-p", localhost + ":8095:80"}, []string{localhost + ":8095"}, []string{lab.HostAddr + ":8095"}},
	{"several networks", []string{"-p", "8096:80", "--network", "second"}, []string{lab.HostAddr + ":8096", localhost + ":8096"}, nil},
	{"IPv6", []string{"-p", "8097:80", "--network", "dual"}, []string{"[2001:db8::1]:8097", lab.HostAddr + ":8097"}, nil},
}

// reach runs a container with the options and asks its servers, on ports 80 and 81.
func (pub publication) reach(b box, p nv) {
	defer p.Do("rm", "-fat0")
	args := []string{"run", "-d", p.cgroup, "--name", "web"}
	if !slices.Contains(pub.options, "dual") {
		args = append(args, "--network", "flatnet")
	}
	serve := `while :; do echo "port $1" | busybox nc -l -p $1; done`
	p.Do(slices.Concat(args, pub.options, []string{lab.Image, "sh", "-c",
		fmt.Sprintf("serve() { %s; }; serve 80 & serve 81", serve)})...)
	for _, addr := range pub.reached {
		// The server may not have begun, or be between two clients.
		if err := lab.Until(10*time.Second, func() error {
			if got := b.ask(addr); !strings.HasPrefix(got, "port 8") {
				return fmt.Errorf("%s: %q", addr, got)
			}
			return nil
		}); err != nil {
			b.t.Error(err)
		}
	}
	b.closed(pub.not)
	p.Do("rm", "-fat0")
	b.closed(pub.reached)
	p.clean()
}

// ask returns what a server says, or the error.
func (b box) ask(addr string) string {
	from := b.Outside
	if strings.HasPrefix(addr, localhost) {
		from = b.Place
	}
	got, err := from.Ask(addr)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(got)
}

// closed fails the test if a server is reached at one of the addresses.
func (b box) closed(addrs []string) {
	b.t.Helper()
	for _, addr := range addrs {
		if got := b.ask(addr); strings.HasPrefix(got, "port") {
			b.t.Errorf("%s is reached: %q", addr, got)
		}
	}
}

// portTaken publishes a port that another container has.
func (p nv) portTaken() {
	in := func(id, network string) string {
		return fmt.Sprintf(`{"container_id":%q,"port_mappings":[{"host_port":8099,"container_port":80,"protocol":"tcp,udp","range":2}],`+
			`"network":%s,"network_options":{"interface_name":"eth0"}}`, id, network)
	}
	network := `{"name":"flatnet","network_interface":"flatnet-br0","subnets":[{"subnet":"10.87.1.0/24"}]}`
	for _, id := range []string{"c1", "c2"} {
		p.World.Run("ip", "netns", "add", id)
		defer p.World.Run("ip", "netns", "del", id)
	}
	if out, err := p.plugin(in("c1", network), "setup", "/run/netns/c1"); err != nil {
		p.t.Fatalf("%s: %v", out, err)
	}
	out, err := p.plugin(in("c2", network), "setup", "/run/netns/c2")
	if err == nil || !strings.Contains(out, "c1") || !strings.Contains(out, "8099") {
		p.t.Errorf("%s, %v: want an error that names port and holder", out, err)
	}
	if out, err := p.plugin(in("c1", network), "teardown", "/run/netns/c1"); err != nil {
		p.t.Errorf("%s: %v", out, err)
	}
	p.clean()
}
