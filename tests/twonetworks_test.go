package tests

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// A twice is a container, named web, in two networks of one door, each with its interface,
// that serves a published port. With both networks attached, the first interface's has the
// default route.
type twice struct {
	box
	lab.Place
	netavark bool
	spoof    bool // macspoofchk
	options  map[string]string
}

func newTwice(b box) twice {
	place := b.NetNS("web")
	place.Serve("[::]:80")
	return twice{box: b, Place: place, options: map[string]string{}}
}

// subnets are those of the network that an interface is in, in IPv4 and IPv6.
func subnets(ifName string) (v4, v6 string) {
	n := 20 + len(ifName) + int(ifName[len(ifName)-1]) // any that differ
	return fmt.Sprintf("10.87.%d.0/24", n), fmt.Sprintf("fd87:%d::/64", n)
}

// networkOf is the name of that network: the alphabet is not in the interfaces' order.
func networkOf(ifName string) string {
	return map[string]string{"eth0": "zulu", "eth1": "alpha"}[ifName]
}

// call attaches an interface or takes it away.
func (w twice) call(command, ifName string) {
	w.t.Helper()
	v4, v6 := subnets(ifName)
	if !w.netavark {
		c := call(command, "web")
		c.IfName, c.Conf = ifName, publish(fmt.Sprintf(`{"cniVersion":"1.0.0","name":%q,"type":"flatnet","bridge":"br-%s","macspoofchk":%v,
			"ipam":{"type":"flatnet-ipam","ranges":[[{"subnet":%q}],[{"subnet":%q}]]}}`, networkOf(ifName), ifName, w.spoof, v4, v6), mapping(8080, 80, ""))
		w.do(c)
		return
	}
	cmd := w.box.Cmd(program, map[string]string{"ADD": "setup", "DEL": "teardown"}[command], "/run/netns/web")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"container_id":"web","port_mappings":[{"host_port":8080,"container_port":80,"protocol":"tcp"}],
		"network":{"name":%q,"network_interface":"br-%s","ipv6_enabled":true,"options":{%s},"subnets":[{"subnet":%q},{"subnet":%q}]},
		"network_options":{"interface_name":%[2]q}}`, networkOf(ifName), ifName, w.options[ifName], v4, v6))
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("%s %s: %v: %s", command, ifName, err, out)
	}
}

// leadsBy checks that both families have their default route by an interface, and that
// the published port is served.
func (w twice) leadsBy(ifName string) {
	w.t.Helper()
	for _, to := range []string{"198.51.100.1", "2001:db8:77::1"} {
		if route := w.Place.Run("ip", "route", "get", to); !strings.Contains(route, " dev "+ifName+" ") {
			w.t.Errorf("not by %s: %s", ifName, route)
		}
	}
	for _, host := range []string{lab.HostAddr, "2001:db8::1"} {
		if _, err := w.Outside.Ask(net.JoinHostPort(host, "8080")); err != nil {
			w.t.Errorf("with the default route by %s, the port on %s: %v", ifName, host, err)
		}
	}
}

// Which of a container's networks has the default route is decided by the names of its
// interfaces and not by the order of calls, and a published port goes with it: answers
// leave by that network, and no other takes them (rp_filter, macspoofchk).
func TestDefaultRouteOfTwoNetworks(t *testing.T) {
	type variant struct {
		netavark, spoof bool
		rpFilter        int
	}
	for _, v := range []variant{{rpFilter: 0}, {rpFilter: 1}, {rpFilter: 2}, {spoof: true}, {netavark: true, rpFilter: 1}} {
		for _, order := range [][2]string{{"eth0", "eth1"}, {"eth1", "eth0"}} {
			t.Run(fmt.Sprintf("%+v, %s first", v, order[0]), func(t *testing.T) {
				w := newTwice(newBox(t))
				w.netavark, w.spoof = v.netavark, v.spoof
				w.box.Sh(fmt.Sprintf("for c in all default; do echo %d >/proc/sys/net/ipv4/conf/$c/rp_filter; done", v.rpFilter))
				w.call("ADD", order[0])
				w.leadsBy(order[0])
				w.call("ADD", order[1])
				w.leadsBy("eth0")
				w.box.Run("nft", "flush", "ruleset")
				w.reload()
				w.leadsBy("eth0")
				for _, gone := range []string{"eth0", "eth1", "eth1", "eth0"} {
					w.call("DEL", gone)
					w.leadsBy(map[string]string{"eth0": "eth1", "eth1": "eth0"}[gone])
					w.call("ADD", gone)
					w.leadsBy("eth0")
				}
				w.call("DEL", "eth1")
				w.call("DEL", "eth0")
				w.box.Run("sh", "-c", "ip link del br-eth0; ip link del br-eth1; true")
				w.clean()
			})
		}
	}
}

// Options of a network go before the names of interfaces, in both families.
func TestDefaultRouteByOptions(t *testing.T) {
	for _, c := range []struct{ network, options string }{
		{"eth1", `"metric":"50"`}, {"eth0", `"metric":"200"`}, {"eth0", `"no_default_route":"1"`},
	} {
		for _, order := range [][2]string{{"eth0", "eth1"}, {"eth1", "eth0"}} {
			t.Run(fmt.Sprintf("%s of %s, %s first", c.options, c.network, order[0]), func(t *testing.T) {
				w := newTwice(newBox(t))
				w.netavark, w.options[c.network] = true, c.options
				w.box.Sh("for c in all default; do echo 1 >/proc/sys/net/ipv4/conf/$c/rp_filter; done")
				w.call("ADD", order[0])
				w.call("ADD", order[1])
				w.leadsBy("eth1")
				w.call("DEL", "eth1")
				w.call("ADD", "eth1")
				w.leadsBy("eth1")
				w.call("DEL", "eth0")
				w.leadsBy("eth1")
				w.call("DEL", "eth1")
				w.clean()
			})
		}
	}
}
