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

// Routes that go nowhere are one network's: a disconnect takes no other network's route to
// the same destination along, nor does a setup that fails.
func TestDeadEndsOfTwoNetworks(t *testing.T) {
	b := newBox(t)
	web := b.NetNS("web")
	b.attach("first", func(c *lab.Call) { c.Conf = publish(lab.Conf, mapping(8080, 80, "")) })
	call := func(verb, name, ifName, more, routes string) error {
		cmd := b.Cmd(program, verb, "/run/netns/web")
		n := len(name)
		cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"container_id":"web",%[5]s"network":{"name":%[1]q,"network_interface":"br-%[1]s","ipv6_enabled":true,"routes":[%[4]s],
			"subnets":[{"subnet":"10.87.%[3]d.0/24"},{"subnet":"fd87:%[3]d::/64"}]},"network_options":{"interface_name":%[2]q}}`, name, ifName, 20+n, routes, more))
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const routes = `{"destination":"::/0","route_type":"unreachable"},{"destination":"0.0.0.0/0","route_type":"blackhole"},{"destination":"10.5.0.0/16","route_type":"prohibit"}`
	must(call("setup", "a", "eth0", "", `{"destination":"10.5.0.0/16","route_type":"prohibit"}`))
	show := func() string { return web.Sh("ip route; ip -6 route show default; ip -6 route show type unreachable") }
	before := show()
	if !strings.Contains(before, "prohibit 10.5.0.0/16") || strings.Count(before, "default via") != 2 {
		t.Fatalf("routes:\n%s", before)
	}
	must(call("setup", "bb", "eth1", "", routes))
	if now := show(); strings.Count(now, "prohibit 10.5.0.0/16") != 2 || !strings.Contains(now, "unreachable default") || !strings.Contains(now, "blackhole default") {
		t.Errorf("with both networks:\n%s", now)
	}
	must(call("teardown", "bb", "eth1", "", routes))
	if after := show(); after != before {
		t.Errorf("after the disconnect:\n%s\nnot\n%s", after, before)
	}
	taken := `"port_mappings":[{"host_port":8080,"container_port":80,"protocol":"tcp"}],`
	if err := call("setup", "bb", "eth1", taken, routes); err == nil || !strings.Contains(err.Error(), "8080") {
		t.Errorf("a port that is taken: %v", err)
	}
	if after := show(); after != before {
		t.Errorf("after a setup that failed:\n%s\nnot\n%s", after, before)
	}
	must(call("teardown", "a", "eth0", "", `{"destination":"10.5.0.0/16","route_type":"prohibit"}`))
	if left := strings.TrimSpace(show()); left != "" {
		t.Errorf("left: %s", left)
	}
}
