package tests

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"flatnet/tests/lab"
)

// Podman 5.4 with netavark 1.14, of Debian 13, goes through its verbs: it knows
// no CNI. So do Debian sid's, which are 5.8 with 1.17 so far, and experimental's: 6.1 with
// 2.0.
func TestNetavarkPodman(t *testing.T)    { testPodman(t, "trixie") }
func TestNetavarkPodmanSid(t *testing.T) { testPodman(t, "sid") }
func TestNetavarkPodman6(t *testing.T)   { testPodman(t, "experimental") }

func testPodman(t *testing.T, suite string) {
	b := newBox(t)
	podman := b.debianPodman(suite)
	podman.Do("network", "create", "--driver", "flatnet", "flatnet")
	podman.Do("network", "create", "--driver", "flatnet", "second")
	podman.Do("network", "create", "--driver", "flatnet", "--ipv6", "--subnet", "10.99.6.0/24", "--subnet", "fd00:6::/64", "dual")
	podman.Do("network", "create", "--driver", "flatnet", "--disable-dns", "--subnet", "10.99.7.0/24", "nameless")
	for _, s := range []struct {
		name string
		run  func(nv)
	}{
		{"networks are completed", nv.networks},
		{"networks that can't be are refused", nv.refusedNetworks},
		{"a network that is made anew is as before", nv.recreated},
		{"run: reaches and is reached", nv.reaches},
		{"--ip, --ip6 and --mac-address", nv.wanted},
		{"an --ip that can't be had", nv.refusedIP},
		{"options of Podman 6", nv.options},
		{"this host's part of several", nv.spanning},
		{"network update of the DNS servers", nv.update},
		{"several networks", nv.several},
		{"the default route of several networks", nv.defaultRoute},
		{"IPv6", nv.dual},
		{"a pod", nv.pod},
		{"a user namespace", nv.userns},
		{"network connect and disconnect", nv.connect},
		{"network reload", nv.reload},
		{"stop, start and restart", nv.restart},
		{"rm -f after kill -9", nv.killed},
		{"reboot", nv.reboot},
		{"a namespace that is gone", nv.noNamespace},
		{"a setup that fails", nv.failing},
		{"both doors on one network", nv.bothDoors},
		{"rules of macspoofchk can be saved", nv.savedGuard},
		{"names", nv.names},
		{"names that are asked for while the server comes and goes", nv.flapping},
		{"names of several networks", nv.namesOfSeveral},
		{"names of both doors", nv.namesOfBothDoors},
		{"names in an internal network", nv.namesInternal},
		{"names behind the host's firewall", nv.namesBehindFirewall},
		{"names in capitals, and such that DNS can't hold", nv.oddNames},
		{"names while a container has port 53", nv.portOfNames},
		{"names by a server on another port", nv.namesOnAnotherPort},
		{"no names where the server is not installed", nv.noServer},
		{"many at once", nv.storm},
	} {
		t.Run(s.name, func(t *testing.T) {
			p := nv{podman.In(t), b.Outside, b.Cgroup(), t}
			defer func() {
				p.Do("rm", "-fat0")
				p.clean()
			}()
			s.run(p)
		})
	}
}

// An nv is the world as Podman 5 sees it.
type nv struct {
	lab.Podman
	outside lab.Place
	cgroup  string // option of containers
	t       *testing.T
}

// sleep is the command of a container that does nothing until it is stopped.
var sleep = []string{lab.Image, "sh", "-c", "trap exit TERM; while :; do sleep 1000 & wait; done"}

// run runs a container on the networks that are named "name" or "name:options".
func (p nv) run(name string, networks []string, options ...string) {
	p.t.Helper()
	args := []string{"run", "-d", p.cgroup, "--name", name, "--cap-add", "NET_RAW"}
	for _, n := range networks {
		args = append(args, "--network", n)
	}
	p.Do(slices.Concat(args, options, sleep)...)
}

// flatnet is the network of most tests.
var flatnet = []string{"flatnet"}

func (p nv) addr(name, network string) string { return p.Network(name, network, "IPAddress") }

// ping sends echo requests from a container.
func (p nv) ping(from, to string) {
	p.t.Helper()
	if err := p.PingFrom(from, to); err != nil {
		p.t.Fatal(err)
	}
}

// clean fails unless all that containers had is gone.
func (p nv) clean() {
	p.t.Helper()
	if left := p.World.Sh(`ip -o link show type veth | grep -v up0 || true
		ls /run/containers/networks/aardvark-dns 2>/dev/null | grep -v aardvark.pid || true
		nft list tables
		jq -r '.allocations | keys[]' $(find /var/lib/flatnet -name allocations.json)`); strings.TrimSpace(left) != "" {
		p.t.Errorf("left behind: %s", left)
	}
}

func (p nv) refused(want string, args ...string) {
	p.t.Helper()
	if out, err := p.Try(args...); err == nil || !strings.Contains(err.Error(), want) {
		p.t.Errorf("podman %s: %s, %v; want %q", strings.Join(args, " "), out, err, want)
	}
}

func (p nv) inspect(network, format string) string {
	p.t.Helper()
	return p.Do("network", "inspect", "-f", format, network)
}

func (p nv) networks() {
	const format = "{{.NetworkInterface}} {{range .Subnets}}{{.Subnet}} {{.Gateway}} {{end}}{{.IPv6Enabled}} {{.Internal}} {{.DNSEnabled}} {{.IPAMOptions.driver}} {{.Options}} {{.Labels}}"
	for _, n := range []struct {
		want, inside string
		args         []string
	}{
		{"flatnet-br5 10.87.5.0/24 10.87.5.1 false true true flatnet map[isolate:true mtu:1300] map[a:b]", "mtu 1300 ",
			[]string{"--subnet", "10.87.5.0/24", "--internal", "-o", "mtu=1300", "-o", "isolate=true", "--label", "a=b"}},
		{"br-x 10.87.3.0/24 10.87.3.1 false false true flatnet map[] map[]", "mtu 1400 ", []string{"--interface-name", "br-x"}},
		{"flatnet-4f3567b 10.99.1.0/24 10.99.1.254 false false false flatnet map[] map[]", "inet 10.99.1.65/24 ",
			[]string{"--subnet", "10.99.1.0/24", "--gateway", "10.99.1.254", "--ip-range", "10.99.1.64/26", "--disable-dns"}},
	} {
		p.Do(slices.Concat([]string{"network", "create", "--driver", "flatnet"}, n.args, []string{"extra"})...)
		if got := p.inspect("extra", format); got != n.want {
			p.t.Errorf("%v: %q, want %q", n.args, got, n.want)
		}
		p.run("a", []string{"extra"})
		if out := p.Do("exec", "a", "ip", "addr", "show", "eth0"); !strings.Contains(out, n.inside) {
			p.t.Errorf("%v: no %q inside: %s", n.args, n.inside, out)
		}
		p.Do("rm", "-fat0")
		p.Do("network", "rm", "extra")
	}
	if got := p.inspect("flatnet", format); !strings.HasPrefix(got, "flatnet-br0 10.87.1.0/24 10.87.1.1 ") {
		p.t.Errorf("flatnet: %s", got)
	}
	if got := p.inspect("second", format); !strings.HasPrefix(got, "flatnet-br2 10.87.2.0/24 10.87.2.1 ") {
		p.t.Errorf("second: %s", got)
	}
}

func (p nv) refusedNetworks() {
	for _, n := range []struct {
		want string
		args []string
	}{
		{"overlaps with 10.87.1.0/24 of network flatnet", []string{"--subnet", "10.87.1.128/25"}},
		{"overlaps with the address " + lab.HostAddr + "/24 of interface " + lab.Uplink, []string{"--subnet", "192.0.2.0/25"}},
		{"interface flatnet-br0 is the one of network flatnet", []string{"--interface-name", "flatnet-br0"}},
		{"options.vrf", []string{"-o", "vrf=v"}},
		{"options.mtu", []string{"-o", "mtu=big"}},
		{"10.99.2.1 is not in subnet", []string{"--subnet", "10.99.1.0/24", "--gateway", "10.99.2.1"}},
	} {
		p.refused(n.want, slices.Concat([]string{"network", "create", "--driver", "flatnet"}, n.args, []string{"extra"})...)
	}
}

func (p nv) recreated() {
	for range 2 {
		p.Do("network", "create", "--driver", "flatnet", "--subnet", "10.99.5.0/24", "extra")
		p.run("a", []string{"extra"})
		p.Do("rm", "-fat0")
		p.Do("network", "rm", "extra")
	}
	p.Do("network", "create", "--driver", "flatnet", "--subnet", "10.99.5.0/24", "other")
	p.run("a", []string{"other"})
	p.ping("a", "10.99.5.1")
	p.Do("rm", "-fat0")
	p.Do("network", "rm", "other")
}

func (p nv) reaches() {
	p.run("a", flatnet)
	p.run("b", flatnet)
	addr := p.addr("a", "flatnet")
	if !strings.HasPrefix(addr, "10.87.1.") {
		p.t.Errorf("inspect shows the address %q", addr)
	}
	if err := p.World.Ping(addr); err != nil {
		p.t.Error(err)
	}
	for _, to := range []string{gateway, p.addr("b", "flatnet"), lab.OutsideAddr} {
		p.ping("a", to)
	}
	if out := p.Do("exec", "a", "ip", "addr"); !strings.Contains(out, "inet "+addr+"/24") {
		p.t.Errorf("ip addr: %s", out)
	}
}

func (p nv) wanted() {
	p.run("a", flatnet, "--ip", "10.87.1.77", "--mac-address", "02:aa:bb:cc:dd:01")
	if addr, mac := p.addr("a", "flatnet"), p.Network("a", "flatnet", "MacAddress"); addr != "10.87.1.77" || mac != "02:aa:bb:cc:dd:01" {
		p.t.Errorf("inspect shows %s and %s", addr, mac)
	}
	p.run("b", []string{"dual:ip=10.99.6.77,ip6=fd00:6::77,mac=02:aa:bb:cc:dd:02,interface_name=net9"})
	out := p.Do("exec", "b", "ip", "addr", "show", "net9")
	for _, want := range []string{"02:aa:bb:cc:dd:02", "10.99.6.77/24", "fd00:6::77/64"} {
		if !strings.Contains(out, want) {
			p.t.Errorf("no %s: %s", want, out)
		}
	}
	p.ping("b", "10.99.6.1")
	p.ping("b", "fd00:6::1")
}

func (p nv) refusedIP() {
	p.run("a", flatnet, "--ip", "10.87.1.77")
	for _, ip := range []string{"10.87.1.77", "10.88.0.7", "10.87.1.1", "10.87.1.255"} {
		p.refused(ip, "run", "--rm", p.cgroup, "--network", "flatnet", "--ip", ip, lab.Image, "true")
	}
}

// options are what Podman 6's users type, less what this Podman refuses.
func (p nv) options() {
	create := []string{"network", "create", "--driver", "flatnet", "--subnet", "10.99.5.0/24", "-o", "metric=333", "-o", "isolate=1",
		"-o", "masquerade=false", "-o", "no_masquerade=10.4.0.0/16", "-o", "com.docker.network.driver.mtu=1234", "extra"}
	typed := []string{"--route", "10.5.0.0/16,blackhole,7"}
	if out, err := p.Try(slices.Concat(create, typed)...); err != nil {
		p.t.Logf("without %v: %s, %v", typed, out, err)
		typed = nil
		p.Do(create...)
	}
	defer p.Do("network", "rm", "-f", "extra")
	want := []string{"inet 10.99.5.7/24", "inet 10.99.5.9/24", "default via 10.99.5.1 dev eth0", "metric 333", "mtu 1234"}
	if typed != nil {
		want = append(want, "blackhole 10.5.0.0/16")
	}
	p.run("a", []string{"extra:ip=10.99.5.7,ip=10.99.5.9"}, "-p", localhost+":8066:80", "-p", "[::1]:8066:80")
	out := p.Do("exec", "a", "sh", "-c", "ip addr; ip route")
	for _, w := range want {
		if !strings.Contains(out, w) {
			p.t.Errorf("no %q: %s", w, out)
		}
	}
	if typed != nil {
		p.Do("network", "connect", "second", "a")
		p.Do("network", "disconnect", "extra", "a")
		if out := p.Do("exec", "a", "ip", "route"); strings.Contains(out, "blackhole") {
			p.t.Errorf("disconnected, and still %s", out)
		}
	}
}

// update changes the servers that are asked about other names, with and without containers.
func (p nv) update() {
	p.Do("network", "create", "--driver", "flatnet", "--dns", "192.0.2.53", "extra")
	defer p.Do("network", "rm", "-f", "extra")
	header := func() string {
		return p.World.Sh("head -n1 /run/containers/networks/aardvark-dns/extra")
	}
	gateway := p.inspect("extra", "{{range .Subnets}}{{.Gateway}}{{end}}")
	p.run("a", []string{"extra"})
	for _, u := range []struct{ option, server, want string }{
		{"", "", gateway + " 192.0.2.53\n"},
		{"--dns-add", "192.0.2.54", gateway + " 192.0.2.53,192.0.2.54\n"},
		{"--dns-drop", "192.0.2.53", gateway + " 192.0.2.54\n"},
		{"--dns-drop", "192.0.2.54", gateway + "\n"},
	} {
		if u.option != "" {
			p.Do("network", "update", u.option, u.server, "extra")
		}
		if got := header(); got != u.want {
			p.t.Errorf("%s %s: %q, want %q", u.option, u.server, got, u.want)
		}
		p.run("b", []string{"extra"})
		if got := header(); got != u.want {
			p.t.Errorf("%s %s and a container: %q, want %q", u.option, u.server, got, u.want)
		}
		p.Do("rm", "-ft0", "b")
	}
}

func (p nv) several() {
	p.run("a", []string{"flatnet", "second", "dual"})
	p.run("b", []string{"second"})
	p.ping("a", p.addr("b", "second"))
	for _, to := range []string{"10.87.1.1", "10.87.2.1", "10.99.6.1", "fd00:6::1", lab.OutsideAddr} {
		p.ping("a", to)
	}
}

// The first interface has the default route in both families, also beside a network of
// netavark's own driver, and in whatever order they come.
func (p nv) defaultRoute() {
	p.Do("network", "create", "--ipv6", "theirs")
	defer func() {
		p.Do("rm", "-fat0")
		p.Do("network", "rm", "-f", "theirs")
		p.World.Run("nft", "delete", "table", "inet", "netavark")
	}()
	leadsBy := func(ifName string) {
		p.t.Helper()
		for _, to := range []string{"198.51.100.1", "2001:db8:77::1"} {
			if route := p.Do("exec", "a", "ip", "route", "get", to); !strings.Contains(route, " dev "+ifName+" ") {
				p.t.Errorf("not by %s: %s", ifName, route)
			}
		}
	}
	p.Do("network", "create", "--driver", "flatnet", "--ipv6", "another")
	defer p.Do("network", "rm", "-f", "another")
	for _, pair := range [][2]string{{"dual", "theirs"}, {"theirs", "dual"}, {"dual", "another"}, {"another", "dual"}} {
		p.run("a", []string{pair[0] + ":interface_name=eth0", pair[1] + ":interface_name=eth1"})
		leadsBy("eth0")
		p.Do("network", "disconnect", pair[0], "a")
		leadsBy("eth1")
		p.Do("network", "connect", pair[0], "a")
		leadsBy("eth0")
		p.Do("rm", "-ft0", "a")
	}
}

func (p nv) dual() {
	p.run("a", []string{"dual"})
	p.run("b", []string{"dual"})
	addr := p.Network("b", "dual", "GlobalIPv6Address")
	if !strings.HasPrefix(addr, "fd00:6::") {
		p.t.Errorf("address %q", addr)
	}
	p.ping("a", addr)
	p.ping("a", "2001:db8::2")
}

func (p nv) pod() {
	p.Do("pod", "create", p.cgroup, "--name", "pod", "--network", "flatnet", "--infra-image", lab.Image, "--infra-command", "sleep 1000")
	defer p.Do("pod", "rm", "-fat0")
	p.Do(slices.Concat([]string{"run", "-d", "--pod", "pod", "--name", "a", "--cap-add", "NET_RAW"}, sleep)...)
	p.ping("a", lab.OutsideAddr)
}

func (p nv) userns() {
	p.run("a", flatnet, "--uidmap", "0:100000:65536")
	p.ping("a", gateway)
}

func (p nv) connect() {
	p.run("a", flatnet)
	p.Do("network", "connect", "second", "a")
	p.ping("a", "10.87.2.1")
	if err := p.World.Ping(p.addr("a", "second")); err != nil {
		p.t.Error(err)
	}
	p.Do("network", "disconnect", "second", "a")
	if out := p.Do("exec", "a", "ip", "addr"); strings.Contains(out, "10.87.2.") {
		p.t.Errorf("disconnected, and still %s", out)
	}
	p.ping("a", gateway)
}

func (p nv) reload() {
	p.run("a", []string{"flatnet", "dual"})
	ident := func() string {
		return fmt.Sprint(p.addr("a", "flatnet"), p.Network("a", "flatnet", "MacAddress"),
			p.addr("a", "dual"), p.Network("a", "dual", "GlobalIPv6Address"), p.Network("a", "dual", "MacAddress"))
	}
	before := ident()
	p.World.Run("nft", "flush", "ruleset")
	p.Do("network", "reload", "a")
	if after := ident(); after != before {
		p.t.Errorf("reload made %s of %s", after, before)
	}
	p.ping("a", lab.OutsideAddr)
}

func (p nv) restart() {
	start := func(name string) { p.run(name, []string{"dual"}) }
	addrs := func(name string) string {
		return p.addr(name, "dual") + " " + p.Network(name, "dual", "GlobalIPv6Address")
	}
	sameAgain(p.t, p.Podman, again{start, addrs, p.clean})
}

// kill ends a container and its monitor in a way that nobody hears of.
func (p nv) kill(name string) {
	p.t.Helper()
	pids := strings.Fields(p.Do("inspect", "-f", "{{.State.ConmonPid}} {{.State.Pid}}", name))
	p.World.Run(slices.Concat([]string{"kill", "-9"}, pids)...)
}

func (p nv) killed() {
	p.run("a", flatnet)
	p.kill("a")
	p.Try("rm", "-ft0", "a") // Podman 5.4 complains that conmon is gone, and removes it the next time
	p.Do("rm", "-fat0")
	p.clean()
}

// A reboot takes the kernel's state and /run, and leaves the files.
func (p nv) reboot() {
	p.run("a", flatnet)
	addr := p.addr("a", "flatnet")
	p.kill("a")
	p.World.Sh(`umount -R /run/netns
		pkill -9 aardvark-dns
		ip link del flatnet-br0
		nft flush ruleset
		rm -rf /run/netns /run/libpod /run/containers /run/runc`)
	p.Do("start", "a")
	if again := p.addr("a", "flatnet"); again != addr {
		p.t.Errorf("%s had %s before", again, addr)
	}
	p.ping("a", lab.OutsideAddr)
}

func (p nv) noNamespace() {
	p.run("a", flatnet)
	id := p.Do("inspect", "-f", "{{.Id}}", "a")
	ns := p.Do("inspect", "-f", "{{.NetworkSettings.SandboxKey}}", "a")
	p.kill("a")
	p.World.Sh("umount " + ns + "; rm " + ns)
	p.Try("rm", "-ft0", "a")
	// Whether netavark calls the plugin then depends on its version. If it does:
	in := `{"container_id":"` + id + `","container_name":"a","network":{"name":"flatnet"},"network_options":{"interface_name":"eth0"}}`
	for range 2 {
		if out, err := p.plugin(in, "teardown", ns); out != "" || err != nil {
			p.t.Errorf("teardown: %q, %v", out, err)
		}
	}
}

// plugin calls the plugin as netavark does.
func (p nv) plugin(stdin string, args ...string) (string, error) {
	cmd := p.World.Cmd(append([]string{lab.NetavarkPlugin}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	return string(out), err
}

func (p nv) failing() {
	p.World.Run("ip", "link", "add", "flatnet-br9", "type", "veth", "peer", "name", "other9")
	defer p.World.Run("ip", "link", "del", "flatnet-br9")
	in := `{"container_id":"c1","network":{"name":"nine","network_interface":"flatnet-br9","subnets":[{"subnet":"10.87.9.0/24"}]},"network_options":{"interface_name":"eth0"}}`
	p.World.Run("ip", "netns", "add", "c1")
	defer p.World.Run("ip", "netns", "del", "c1")
	out, err := p.plugin(in, "setup", "/run/netns/c1")
	if err == nil || !strings.HasPrefix(out, `{"error":"`) || !strings.Contains(out, "flatnet-br9") {
		p.t.Errorf("%q, %v", out, err)
	}
	if out := p.World.Run("ip", "-n", "c1", "-br", "link"); strings.Contains(out, "eth0") {
		p.t.Errorf("left in the container: %s", out)
	}
}

func (p nv) bothDoors() {
	p.run("a", flatnet)
	c := lab.Call{Command: "ADD", ID: "cni1", NetNS: "/run/netns/cni1", IfName: "eth0", Conf: lab.Conf}
	p.World.Run("ip", "netns", "add", "cni1")
	defer p.World.Run("ip", "netns", "del", "cni1")
	r := p.World.Call(lab.NetavarkPlugin, c)
	if r.Exit != 0 || r.Addr() == p.addr("a", "flatnet") || !strings.HasPrefix(r.Addr(), "10.87.1.") {
		p.t.Fatalf("ADD: %s", r.Stdout)
	}
	p.ping("a", r.Addr())
	p.refused(r.Addr(), "run", "--rm", p.cgroup, "--network", "flatnet", "--ip", r.Addr(), lab.Image, "true")
	p.Do("rm", "-ft0", "a")
	if err := p.World.Ping(r.Addr()); err != nil {
		p.t.Errorf("the other door's container is cut off: %v", err)
	}
	c.Command = "DEL"
	if r := p.World.Call(lab.NetavarkPlugin, c); r.Exit != 0 {
		p.t.Errorf("DEL: %s", r.Stdout)
	}
}

// Debian 12's nft can't, and so TestRulesCanBeSaved is without macspoofchk.
func (p nv) savedGuard() {
	c := lab.Call{Command: "ADD", ID: "cni1", NetNS: "/run/netns/cni1", IfName: "eth0", Conf: conf(`"macspoofchk":true`)}
	p.World.Run("ip", "netns", "add", "cni1")
	defer p.World.Run("ip", "netns", "del", "cni1")
	if r := p.World.Call(lab.NetavarkPlugin, c); r.Exit != 0 {
		p.t.Fatalf("ADD: %s", r.Stdout)
	}
	p.World.Sh(saveAndLoad + "; grep -q 'icmpv6 taddr != @addrs6' /run/saved")
	c.Command = "DEL"
	if r := p.World.Call(lab.NetavarkPlugin, c); r.Exit != 0 {
		p.t.Errorf("DEL: %s", r.Stdout)
	}
}

func (p nv) storm() {
	const count = 10
	var wg sync.WaitGroup
	for i := range count {
		wg.Go(func() {
			args := []string{"run", "-d", p.cgroup, "--name", fmt.Sprint("s", i), "--network", "flatnet", "--network", "nameless"}
			if _, err := p.Try(append(args, sleep...)...); err != nil {
				p.t.Error(err)
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for i := range count {
		seen[p.addr(fmt.Sprint("s", i), "flatnet")] = true
	}
	if len(seen) != count {
		p.t.Errorf("addresses: %v", seen)
	}
	for i := range count {
		wg.Go(func() {
			if _, err := p.Try("rm", "-ft0", fmt.Sprint("s", i)); err != nil {
				p.t.Error(err)
			}
		})
	}
	wg.Wait()
}
