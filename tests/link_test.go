package tests

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"flatnet/tests/lab"
)

func TestVethIsAsAsked(t *testing.T) {
	b := newBox(t)
	c := b.attach("0123456789abcdef", func(c *lab.Call) { c.IfName = "net0" })
	host, own := links(t, b.Place)["fn-01234567"], links(t, c.Place)["net0"]
	if host.Linkinfo.Kind != "veth" || own.Linkinfo.Kind != "veth" || host.Master != bridgeName {
		t.Errorf("host end %+v, own end %+v", host, own)
	}
	if host.MTU != lab.UplinkMTU || own.MTU != lab.UplinkMTU {
		t.Errorf("MTUs are %d and %d, the default route's device has %d", host.MTU, own.MTU, lab.UplinkMTU)
	}
	for _, text := range []string{"flatnet", "0123456789abcdef", "net0", c.addr} {
		if !strings.Contains(host.Ifalias, text) {
			t.Errorf("alias %q does not name %q", host.Ifalias, text)
		}
	}
	if !links(t, c.Place)["lo"].up() {
		t.Error("lo is down")
	}
	b.isTrue(c)
}

func TestHostNamesThatCollide(t *testing.T) {
	t.Parallel()
	second := func(c *lab.Call) { c.IfName = "eth1" }
	for _, c := range []struct {
		name string
		then func(b box) lab.Call // attaches another with the same short ID
	}{
		{"two containers", func(b box) lab.Call { return b.attach("12345678bbbb").then("DEL") }},
		{"two interfaces", func(b box) lab.Call {
			add := call("ADD", "12345678aaaa")
			second(&add)
			b.do(add)
			add.Command = "DEL"
			return add
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			first := b.attach("12345678aaaa")
			before := b.state()
			del := c.then(b)
			if n := len(b.leases()); n != 2 {
				t.Errorf("%d leases", n)
			}
			b.do(del)
			b.same(before)
			if err := b.Ping(first.addr); err != nil {
				t.Errorf("the first one is hurt: %v", err)
			}
			b.do(first.then("DEL"))
			b.clean()
		})
	}
}

func TestInterfaceNameThatExists(t *testing.T) {
	b := newBox(t)
	c := b.attach("c1")
	// Without the operational state and what depends on it, which settle later.
	const show = "ip -4 -o addr; ip -4 route; ip -o link | grep -o 'link/ether [^ ]*'"
	before, inside := b.state(), c.Sh(show)
	again := c.add
	again.ID = "c2"
	b.refused(again, 0, "eth0")
	b.refused(c.add, 0, "eth0")
	b.same(before)
	if now := c.Sh(show); now != inside {
		t.Errorf("the container had\n%s\nand has\n%s", inside, now)
	}
}

func TestForeignLinkOfTheWantedName(t *testing.T) {
	b := newBox(t)
	b.Sh("ip link add fn-c1 type veth peer name other; ip link set fn-c1 alias precious")
	before := b.state()
	c := b.attach("c1")
	b.isTrue(c)
	b.do(c.then("CHECK"))
	b.do(c.then("DEL"))
	if l := links(t, b.Place)["fn-c1"]; l.Ifalias != "precious" {
		t.Errorf("fn-c1 is %+v", l)
	}
	b.Run("ip", "link", "del", bridgeName)
	b.same(before)
}

// Podman, after a reboot or a crash, sends ADD again for a container whose
// earlier namespace is gone without a DEL.
func TestADDAgainInANewNamespace(t *testing.T) {
	b := newBox(t)
	first := b.attach("c1")
	b.NetNS("new")
	again := first.add
	again.NetNS = "/run/netns/new"
	if r := b.do(again); r.Addr() != first.addr {
		t.Errorf("the container had %s and got %s", first.addr, r.Addr())
	}
	if err := b.Ping(first.addr); err != nil {
		t.Error(err)
	}
	again.Command = "DEL"
	b.do(again)
	b.clean()
}

func TestBridgeIsMadeOnceAndStays(t *testing.T) {
	b := newBox(t)
	const n = 64
	for i := range n {
		b.NetNS(fmt.Sprint("c", i))
	}
	b.together(n, "ADD")
	br := links(t, b.Place)[bridgeName]
	if len(br.ipv4()) != 1 || br.ipv4()[0] != gateway+"/24" || br.Linkinfo.Kind != "bridge" || !br.up() {
		t.Errorf("bridge: %+v", br)
	}
	if forward := b.Run("cat", "/proc/sys/net/ipv4/ip_forward"); forward != "1\n" {
		t.Errorf("ip_forward is %q", forward)
	}
	b.together(n, "DEL")
	b.clean()
	if after := links(t, b.Place)[bridgeName]; after.Address != br.Address || len(after.ipv4()) != 1 {
		t.Errorf("the bridge was %+v and is %+v", br, after)
	}
}

// A DEL that waits for an ADD asks ever less often whether that has its link, and gives up.
func TestDELWaitsForAnADD(t *testing.T) {
	b := newBox(t)
	c1 := b.attach("c1")
	b.NetNS("c2")
	kill := b.stop(call("ADD", "c2"))
	r := b.Call(program, c1.then("DEL"), "env", "FLATNET_TRACE=1")
	if asked := strings.Count(r.Stderr, "RTM_GETLINK NLM_F_DUMP"); r.Exit == 0 || r.Code != 11 || asked < 3 || asked > 25 {
		t.Errorf("asked %d times: %s %s", asked, r.Stdout, r.Stderr)
	}
	kill()
	b.do(c1.then("DEL"))
	b.do(call("DEL", "c2"))
	b.clean()
}

// numbered makes a call one of a network with a bridge of its own.
func numbered(i int) func(*lab.Call) {
	return func(c *lab.Call) {
		c.Conf = fmt.Sprintf(`{"cniVersion":"1.0.0","name":"net%d","type":"flatnet","bridge":"br%[1]d","ipam":{"subnet":"10.99.%[1]d.0/24"}}`, i)
	}
}

// Commands about all networks list the host's links as often as about one.
func TestLinksAreListedOnce(t *testing.T) {
	b := newBox(t)
	asked := func() (n []int) {
		for _, command := range []string{"list", "gc", "reload"} {
			listed := 0
			for line := range strings.Lines(b.Run("sh", "-c", program+" trace "+command+" 2>&1")) {
				if strings.Contains(line, "RTM_GETLINK NLM_F_DUMP") && !strings.Contains(line, "IFLA_MASTER") {
					listed++
				}
			}
			n = append(n, listed)
		}
		return n
	}
	b.attach("c1", numbered(1))
	one := asked()
	for i := 2; i < 6; i++ {
		b.attach(fmt.Sprint("c", i), numbered(i))
	}
	if five := asked(); !slices.Equal(one, five) || slices.Contains(one, 0) {
		t.Errorf("list, gc and reload ask %v times about one network, %v times about five", one, five)
	}
}

// What a network's first ADD and last DEL cost does not grow with the records of other networks.
func TestRecordsOfOthersAreNotRead(t *testing.T) {
	b := newBox(t)
	b.attach("c1", numbered(1))
	b.attach("c2", numbered(2))
	b.NetNS("c3")
	for _, command := range []string{"ADD", "DEL"} {
		c := call(command, "c3")
		numbered(3)(&c)
		if r := b.Call(program, c, "strace", "-f", "-e", "trace=openat", "-o", "/run/opened"); r.Exit != 0 {
			t.Fatalf("%s: %s", command, r.Stdout)
		}
		opened := b.Read("/run/opened")
		if !strings.Contains(opened, "/net3") || strings.Contains(opened, "/net1/") || strings.Contains(opened, "/net2/") {
			t.Errorf("%s opens %s", command, opened)
		}
	}
}

// together makes one call for each of n containers, all at the same time, and
// returns the addresses of the results.
func (b box) together(n int, command string) []string {
	b.t.Helper()
	addrs := make([]string, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			r := b.Call(program, call(command, fmt.Sprint("c", i)))
			if addrs[i] = r.Addr(); r.Exit != 0 {
				b.t.Errorf("%s c%d: %s", command, i, r.Stdout)
			}
		})
	}
	all.Wait()
	return addrs
}

func TestBridgeThatIsNotAsNeeded(t *testing.T) {
	t.Parallel()
	wrong := "ip link add flatnet-br0 type bridge; ip addr add 10.99.0.1/24 dev flatnet-br0"
	for _, c := range []struct {
		name, prepare, conf string
		refused             []string // texts of the error; none: it must work
	}{
		{"another address", wrong, lab.Conf, []string{bridgeName, "10.99.0.1"}},
		{"another address, forceAddress", wrong, conf(`"forceAddress":true`), nil},
		{"down and without address", "ip link add flatnet-br0 type bridge", lab.Conf, nil},
		{"another kind", "ip link add flatnet-br0 type veth peer name other", lab.Conf, []string{bridgeName, "veth"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			b.Sh(c.prepare)
			b.NetNS("c1")
			before, add := b.state(), call("ADD", "c1")
			add.Conf = c.conf
			if c.refused != nil {
				b.refused(add, 0, c.refused...)
				b.same(before)
				return
			}
			addr := b.do(add).Addr()
			if got := links(t, b.Place)[bridgeName].ipv4(); len(got) != 1 || got[0] != gateway+"/24" {
				t.Errorf("bridge has %v", got)
			}
			if err := b.Ping(addr); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBridgeKeepsItsMAC(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]string{
		"of flatnet": ":", "of somebody else": "ip link add flatnet-br0 type bridge",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.Sh(prepare)
			first := b.attach("c1")
			mac := links(t, b.Place)[bridgeName].Address
			// A bridge without a MAC of its own takes its lowest port's.
			b.Sh("ip link add low type veth peer name low2; ip link set low address 02:00:00:00:00:01 master flatnet-br0")
			b.do(first.then("DEL"))
			if now := links(t, b.Place)[bridgeName].Address; now != mac {
				t.Errorf("MAC was %s and is %s", mac, now)
			}
		})
	}
}

// A bridge that somebody else made keeps its MAC with any configuration, from the
// first port on; and the neighbours that the host knows there, from the second.
func TestBridgeOfOthersKeepsItsMAC(t *testing.T) {
	const hostLocal = `"ipam":{"type":"host-local","subnet":"10.10.0.0/16"}`
	for name, keys := range map[string]string{
		"another plugin's leases": hostLocal,
		"with a gateway":          `"isGateway":true,` + hostLocal,
		"no address":              `"disableContainerInterface":true,"ipam":{}`,
	} {
		for _, port := range []string{"", "ip link add low type veth peer name low2; ip link set low master br0 up;"} {
			t.Run(name+" "+port, func(t *testing.T) {
				b := newBox(t)
				b.Sh("mount -t sysfs sysfs /sys; ip link add br0 type bridge; ip link set br0 up;" + port)
				mac := links(t, b.Place)["br0"].Address
				same := func(when string) {
					t.Helper()
					if now := links(t, b.Place)["br0"].Address; now != mac {
						t.Errorf("MAC was %s and is %s after %s", mac, now, when)
					}
				}
				with := func(c *lab.Call) { c.Conf = bridgeConf("flatnet", "1.0.0", keys) }
				c1 := b.attach("c1", with)
				same("the first ADD")
				b.Run("ip", "neigh", "replace", "10.10.0.99", "lladdr", "02:00:00:00:00:99", "nud", "permanent", "dev", "br0")
				b.attach("c2", with)
				if n := b.Run("ip", "neigh", "show", "10.10.0.99", "dev", "br0"); !strings.Contains(n, "PERMANENT") {
					t.Error("the host has lost a neighbour")
				}
				b.Sh("ip link add lower type veth peer name lower2; ip link set lower address 02:00:00:00:00:01 master br0")
				same("another port")
				b.do(c1.then("DEL"))
				same("DEL")
			})
		}
	}
}

// IPv6 networks on one bridge whose addresses differ in their prefixes only have
// different MACs.
func TestMACsOfIPv6Networks(t *testing.T) {
	b := newBox(t)
	seen := map[string]string{}
	for _, subnet := range []string{"fd87:0:0:1::/64", "fd87:0:0:2::/64"} {
		id := "c" + subnet[len(subnet)-6:len(subnet)-5]
		c := b.attach(id, func(c *lab.Call) {
			c.Conf = fmt.Sprintf(`{"cniVersion":"1.0.0","name":"net%s","type":"flatnet","bridge":"br0","ipam":{"subnet":%q}}`, id, subnet)
		})
		mac := links(t, c.Place)["eth0"].Address
		if seen[mac] != "" {
			t.Errorf("%s and %s have the MAC %s", seen[mac], c.addr, mac)
		}
		seen[mac] = c.addr
	}
}

// The MTU is that of the default route's device, be it found by one question or
// in the tables.
func TestInheritedMTU(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, host string
		want       int
	}{
		{"IPv4 before IPv6", "ip -6 route add default dev other metric 5", lab.UplinkMTU},
		{"a route to the address that is asked for", "ip route add 198.51.100.0/24 dev other", lab.UplinkMTU},
		{"a rule against that address", "ip rule add prohibit to 198.51.100.0/24", lab.UplinkMTU},
		{"the lowest metric", "ip route add default dev other metric 5; ip route replace default via " + lab.OutsideAddr + " metric 7; ip route del default metric 0", 1300},
		{"several devices", "ip route replace default nexthop dev other nexthop via " + lab.OutsideAddr, 1300},
		{"IPv6 alone", "ip route del default; ip -6 route replace default dev other", 1300},
		{"none", "ip route del default; ip -6 route del default", 1500},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			b.Sh("ip link add other mtu 1300 type veth peer peer; ip link set other up; ip link set peer up; " + c.host)
			ctr := b.attach("c1", func(*lab.Call) {})
			if got := links(t, ctr.Place)["eth0"].MTU; got != c.want {
				t.Errorf("MTU %d, want %d; %s", got, c.want, b.Sh("ip route; ip -6 route"))
			}
		})
	}
}

// A host end that somebody has renamed is found by its mark.
func TestRenamedHostEnd(t *testing.T) {
	for name, remove := range map[string]func(b box, c container) lab.Call{
		"DEL": func(b box, c container) lab.Call { return c.then("DEL") },
		"GC": func(b box, c container) lab.Call {
			return lab.Call{Command: "GC", Conf: withKeys(strings.Replace(lab.Conf, "1.0.0", "1.1.0", 1), `"cni.dev/valid-attachments":[]`)}
		},
		"ADD in another namespace": func(b box, c container) lab.Call {
			b.NetNS("again")
			add := c.add
			add.NetNS = "/run/netns/again"
			b.do(add)
			return c.then("DEL")
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			c := b.attach("c1")
			b.Run("ip", "link", "set", "fn-c1", "name", "mine")
			b.do(c.then("CHECK"))
			b.do(remove(b, c))
			b.clean()
		})
	}
}
