package tests

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"flatnet/tests/lab"
)

// A subnet that somebody else has is found before anything is made, and both are
// named: on WSL and with VPNs it would cut the host off.
func TestOverlaps(t *testing.T) {
	t.Parallel()
	vpn := "ip link add vpn0 up type veth peer name vpn1; "
	for _, c := range []struct {
		name, prepare, conf string
		refused             []string // texts of the error; none: it must work
	}{
		{"address in the subnet", vpn + "ip addr add 10.87.1.200/32 dev vpn0", lab.Conf, []string{"10.87.1.0/24", "10.87.1.200/32", "vpn0"}},
		{"the same subnet", vpn + "ip addr add 10.87.1.77/24 dev vpn0", lab.Conf, []string{"10.87.1.0/24", "10.87.1.77/24", "vpn0"}},
		{"wider subnet", vpn + "ip addr add 10.80.0.1/12 dev vpn0", lab.Conf, []string{"10.80.0.1/12", "vpn0"}},
		{"route to a part", vpn + "ip route add 10.87.1.128/25 dev vpn0", lab.Conf, []string{"10.87.1.128/25", "vpn0"}},
		{"route in another table", vpn + "ip route add 10.87.1.0/24 dev vpn0 table 51820", lab.Conf, []string{"10.87.1.0/24", "vpn0"}},
		{"route to just the subnet", vpn + "ip route add 10.87.1.0/24 dev vpn0", lab.Conf, []string{"10.87.1.0/24", "vpn0", "allowOverlap"}},
		{"route to a part, by a nexthop object", vpn + "ip link set vpn1 up; sysctl -qw net.ipv4.nexthop_compat_mode=0; ip nexthop add id 7 dev vpn0; ip route add 10.87.1.128/25 nhid 7", lab.Conf, []string{"10.87.1.128/25", "nexthop"}},
		{"a wider subnet in the flat range", vpn + "ip addr add 10.87.0.1/16 dev vpn0", lab.Conf, []string{"10.87.1.0/24", "10.87.0.1/16", "vpn0"}},
		{"a part of a subnet of flatnet's", "ip link add br9 up type bridge; ip addr add 10.87.1.1/24 dev br9", conf(`"ipam":{"subnet":"10.87.1.128/25"}`), []string{"10.87.1.128/25", "10.87.1.1/24", "br9"}},
		{"IPv6", vpn + "ip addr add fd87:1::9/64 dev vpn0 nodad", conf(`"ipam":{"subnet":"fd87:1::/64"}`), []string{"fd87:1::/64", "vpn0"}},
		{"one of two", vpn + "ip addr add fd87:1::9/64 dev vpn0 nodad", conf(`"ipam":{"ranges":[[{"subnet":"10.87.1.0/24"}],[{"subnet":"fd87:1::/64"}]]}`), []string{"fd87:1::/64", "vpn0"}},

		{"a default route", ":", lab.Conf, nil}, // which each world has
		{"a VPN's halves of a default route", vpn + "for p in 0.0.0.0/1 128.0.0.0/1; do ip route add $p dev vpn0; done; for p in ::/1 8000::/1; do ip -6 route add $p dev vpn0; done", dual, nil},
		{"quarters, and what IPv6 has in use", vpn + "for p in 0.0.0.0/2 64.0.0.0/2 128.0.0.0/2 192.0.0.0/2; do ip route add $p dev vpn0; done; ip -6 route add 2000::/3 dev vpn0; ip -6 route add fc00::/7 dev vpn0", dual, nil},
		{"halves in another table", vpn + "ip route add 0.0.0.0/1 dev vpn0 table 51820; ip -6 route add ::/1 dev vpn0 table 51820", dual, nil},
		{"route to all private addresses", vpn + "ip route add 10.0.0.0/8 dev vpn0", lab.Conf, nil},
		{"what is allowed", vpn + "ip addr add 10.80.0.1/12 dev vpn0; ip route add 10.87.1.128/25 dev vpn0", conf(`"allowOverlap":true`), nil},
		{"a delegate's subnet in the host's LAN", vpn + "ip addr add 10.80.0.1/12 dev vpn0", conf(`"isGateway":true,"ipam":{"type":"host-local","subnet":"10.87.1.0/24"}`), nil},
		{"an overlay's route to the flat network", vpn + "ip route add 10.87.0.0/16 dev vpn0", lab.Conf, nil},
		{"our own bridge", "ip link add flatnet-br0 up type bridge; ip addr add 10.87.1.1/24 dev flatnet-br0", lab.Conf, nil},
		{"a neighbouring subnet", vpn + "ip addr add 10.87.2.1/24 dev vpn0", lab.Conf, nil},
		{"a bridge without a gateway", vpn + "ip addr add 10.87.1.200/24 dev vpn0", conf(`"isGateway":false,"ipMasq":false`), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			b.Sh(c.prepare)
			b.NetNS("c1")
			add := call("ADD", "c1")
			add.Conf = c.conf
			before := b.state()
			status := lab.Call{Command: "STATUS", Conf: newer(c.conf)}
			if c.refused == nil {
				b.do(add)
				if !strings.Contains(c.conf, "host-local") { // whose STATUS is its own
					b.do(status)
				}
				return
			}
			b.refused(add, 102, c.refused...)
			b.same(before)
			if files := b.Sh("find /var/lib/flatnet -type f"); files != "" {
				t.Errorf("files are made: %s", files)
			}
			b.refused(status, 50, c.refused...)
		})
	}
}

// An overlap that comes later does not hurt a network that is in use, but it is told.
func TestOverlapThatComesLater(t *testing.T) {
	b := newBox(t)
	b.attach("c1")
	b.Run("ip", "addr", "add", "10.87.1.200/32", "dev", lab.Uplink)
	c2 := b.attach("c2")
	if err := b.Ping(c2.addr); err != nil {
		t.Error(err)
	}
	status := call("STATUS", "")
	status.Conf = strings.Replace(lab.Conf, "1.0.0", "1.1.0", 1)
	b.refused(status, 50, "10.87.1.0/24", "10.87.1.200/32", lab.Uplink)
}

// Networks keep their leases apart, so two can't share a subnet: both would
// give the same addresses.
func TestNetworksOfOneSubnet(t *testing.T) {
	t.Parallel()
	other := strings.Replace(lab.Conf, `"name":"flatnet"`, `"name":"other"`, 1)
	delegated := strings.Replace(other, `}`, `,"isGateway":true,"ipam":{"type":"host-local","subnet":"10.87.1.0/24"}}`, 1)
	for name, conf := range map[string]string{"their own": other, "delegated": delegated} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			c1 := b.attach("c1")
			b.NetNS("c2")
			before := b.state()
			add := call("ADD", "c2")
			add.Conf = conf
			b.refused(add, 0, "other", "flatnet", bridgeName, "10.87.1.2")
			b.same(before)
			status := add
			status.Command, status.Conf = "STATUS", strings.Replace(conf, "1.0.0", "1.1.0", 1)
			if name == "their own" {
				b.refused(status, 50, "flatnet", bridgeName)
			}
			if err := b.Ping(c1.addr); err != nil {
				t.Error(err)
			}
			// A network that has no container any more is in nobody's way.
			b.do(c1.then("DEL"))
			b.do(add)
		})
	}
}

// The bridge has a gateway in each subnet of a set that is in use.
func TestSubnetsOfOneSet(t *testing.T) {
	b := newBox(t)
	ipam := conf(`"ipam":{"ranges":[[{"subnet":"10.87.1.0/24","rangeStart":"10.87.1.2","rangeEnd":"10.87.1.2"},{"subnet":"10.87.2.0/24"}]]}`)
	ipam = strings.Replace(ipam, "1.0.0", "1.1.0", 1)
	status := call("STATUS", "")
	status.Conf = ipam
	var all []container
	for i, want := range []string{"10.87.1.2", "10.87.2.2", "10.87.2.3"} {
		c := b.attach(fmt.Sprint("c", i), func(l *lab.Call) { l.Conf = ipam })
		if c.addr != want {
			t.Errorf("c%d has %s, want %s", i, c.addr, want)
		}
		b.do(status)
		b.isTrue(c)
		all = append(all, c)
	}
	for _, c := range all {
		if err := c.Ping(lab.OutsideAddr); err != nil {
			t.Error(err)
		}
		for _, to := range all {
			if err := c.Ping(to.addr); err != nil {
				t.Error(err)
			}
		}
		b.do(c.then("CHECK"))
	}
	for _, c := range all {
		b.do(c.then("DEL"))
	}
	b.clean()
}

// What can be known from the configuration alone is refused before there is
// even a directory.
func TestRefusedBeforeAnythingIsTouched(t *testing.T) {
	t.Parallel()
	for name, conf := range map[string]string{
		"hostIP ::1":                  publish(lab.Conf, mapping(80, 80, `,"hostIP":"::1"`)),
		"hostIP of no family of ours": publish(lab.Conf, mapping(80, 80, `,"hostIP":"2001:db8::1"`)),
		"a port twice":                publish(lab.Conf, mapping(80, 80, ""), mapping(80, 81, "")),
		"a gateway out of reach":      conf(`"ipam":{"routes":[{"dst":"10.0.0.0/8","gw":"192.168.1.1"}]}`),
		"no gateway's address":        conf(`"ipam":{"routes":[{"dst":"10.0.0.0/8","gw":"0.0.0.0"}]}`),
		"a multicast gateway":         conf(`"ipam":{"routes":[{"dst":"10.0.0.0/8","gw":"224.0.0.1"}]}`),
		"resolvConf without an end":   conf(`"ipam":{"resolvConf":"/dev/zero"}`),
		"resolvConf that is a FIFO":   conf(`"ipam":{"resolvConf":"/run/fifo"}`),
		"resolvConf that is too long": conf(`"ipam":{"resolvConf":"/run/long"}`),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.Sh("mkfifo /run/fifo; head -c 100000 /dev/zero >/run/long")
			b.NetNS("c1")
			before := b.state() + b.Sh("cat /proc/sys/net/ipv4/ip_forward; find /var/lib/flatnet /run/flatnet 2>/dev/null || true")
			add := call("ADD", "c1")
			add.Conf = conf
			b.refused(add, 0)
			if after := b.state() + b.Sh("cat /proc/sys/net/ipv4/ip_forward; find /var/lib/flatnet /run/flatnet 2>/dev/null || true"); after != before {
				t.Errorf("was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

// A part of the host's own LAN is a network when it is asked for: the host answers
// for its containers there (proxy ARP and NDP), and they are reached by their own
// addresses.
func TestPartOfTheLAN(t *testing.T) {
	const keys = `"ipMasq":false,"ipam":{"ranges":[[{"subnet":"192.0.2.128/26"}],[{"subnet":"2001:db8::8000/113"}]]}`
	b := newBox(t)
	b.Sh("echo 1 >/proc/sys/net/ipv4/conf/up0/proxy_arp; echo 1 >/proc/sys/net/ipv6/conf/up0/proxy_ndp; echo 0 >/proc/sys/net/ipv4/neigh/up0/proxy_delay; echo 0 >/proc/sys/net/ipv6/neigh/up0/proxy_delay")
	b.NetNS("c0")
	add := call("ADD", "c0")
	add.Conf = conf(keys)
	b.refused(add, 102, "192.0.2.128/26", lab.HostAddr+"/24", lab.Uplink, "allowOverlap")
	c1 := b.attach("c1", func(c *lab.Call) { c.Conf = conf(`"allowOverlap":true,` + keys) })
	b.Run("ip", "neigh", "add", "proxy", c1.addr6(), "dev", lab.Uplink)
	for _, to := range []string{c1.addr, c1.addr6()} {
		if err := b.Outside.Ping(to); err != nil {
			t.Error(err)
		}
	}
	for _, to := range []string{lab.OutsideAddr, outsideAddr6} {
		if err := c1.Ping(to); err != nil {
			t.Error(err)
		}
	}
	b.do(c1.then("CHECK"))
	b.do(c1.then("DEL"))
	b.clean()
}

// Two networks of one subnet that come to one bridge at the same moment, whoever
// makes that: one is taken, never both, and the one that is refused leaves nothing. Who
// comes alone afterwards is taken.
func TestNetworksOfOneSubnetAtOnce(t *testing.T) {
	t.Parallel()
	const rounds, each = 8, 2 // containers of a network
	for name, prepare := range map[string]string{
		"new bridge":             "ip link del flatnet-br0 2>/dev/null || :",
		"bridge of somebody":     "ip link del flatnet-br0 2>/dev/null || :; ip link add flatnet-br0 up type bridge",
		"bridge of one of them":  ":", // what the first round leaves
		"bridge of a third, old": "ip link set flatnet-br0 alias 'flatnet third' 2>/dev/null || :",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			networks := []string{"one", "two"}
			calls := map[string]lab.Call{}
			for _, network := range networks {
				for i := range each {
					id := fmt.Sprint(network, i)
					b.NetNS(id)
					c := call("ADD", id)
					c.Conf = strings.Replace(lab.Conf, `"name":"flatnet"`, `"name":"`+network+`"`, 1)
					calls[id] = c
				}
			}
			both, none := 0, 0
			for range rounds {
				b.Sh(prepare)
				has := b.race(calls)
				switch {
				case has["one"] && has["two"]:
					both++
				case !has["one"] && !has["two"]:
					none++
				}
				rules := b.Run("nft", "list", "ruleset")
				for _, network := range networks {
					if !has[network] && strings.Contains(rules, "flatnet-"+network) {
						t.Errorf("rules of %s are left: %s", network, rules)
					}
				}
				for _, c := range calls {
					c.Command = "DEL"
					b.do(c)
				}
				c := calls["one0"]
				b.do(c)
				c.Command = "DEL"
				b.do(c)
			}
			if both != 0 || none != 0 {
				t.Errorf("of %d rounds, both networks are taken in %d and none in %d", rounds, both, none)
			}
			b.clean()
		})
	}
}

// race makes all calls, ADDs of containers one0, two0 and so on, at once. It
// returns the networks of which a container was taken.
func (b box) race(calls map[string]lab.Call) map[string]bool {
	b.t.Helper()
	var mu sync.Mutex
	var group sync.WaitGroup
	taken := map[string]bool{}
	for id, c := range calls {
		group.Go(func() {
			r := b.Call(program, c)
			mu.Lock()
			defer mu.Unlock()
			if taken[id] = r.Exit == 0; !taken[id] && r.Code != 102 && r.Code != 100 {
				b.t.Errorf("%s: %s", id, r.Stdout)
			}
		})
	}
	group.Wait()
	has := map[string]bool{}
	for id, ok := range taken {
		if _, present := links(b.t, b.Place)["fn-"+id]; present != ok {
			b.t.Errorf("%s: taken is %v, its link's presence %v", id, ok, present)
		}
		has[id[:3]] = has[id[:3]] || ok
	}
	return has
}
