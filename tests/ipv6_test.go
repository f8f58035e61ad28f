package tests

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"flatnet/tests/lab"
)

// bothFamilies is a network with both families.
func bothFamilies(c *lab.Call) {
	c.Conf = conf(`"ipam":{"ranges":[[{"subnet":"10.87.1.0/24"}],[{"subnet":"fd87:1::/64"}]]}`)
}

func TestDualStackPackets(t *testing.T) {
	b := newBox(t)
	c1, c2 := b.attach("c1", bothFamilies), b.attach("c2", bothFamilies)
	if len(c1.result.IPs) != 2 {
		t.Fatalf("the result is %s", c1.result.Stdout)
	}
	six := func(c container) string {
		addr, _, _ := strings.Cut(c.result.IPs[1].Address, "/")
		return addr
	}
	for _, c := range []struct {
		name     string
		from     lab.Place
		to       lab.Place
		addr     string
		arriveAs string
	}{
		{"container to gateway", c1.Place, b.Place, "fd87:1::1", six(c1)},
		{"host to container", b.Place, c1.Place, six(c1), "fd87:1::1"},
		{"container to container", c1.Place, c2.Place, six(c2), six(c1)},
		{"container to the outside", c1.Place, b.Outside, "2001:db8::2", "2001:db8::1"},
		{"IPv4 beside it", c1.Place, b.Outside, lab.OutsideAddr, lab.HostAddr},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.from.Ping(c.addr); err != nil {
				t.Error(err)
			}
			server := "[" + c.addr + "]:80"
			c.to.Serve(server)
			if as, err := c.from.Ask(server); as != c.arriveAs || err != nil {
				t.Errorf("arrives as %q, not %q: %v", as, c.arriveAs, err)
			}
		})
	}
	b.do(c1.then("CHECK"))
	b.do(c1.then("DEL"))
	if err := c2.Ping("2001:db8::2"); err != nil {
		t.Errorf("after c1's DEL: %v", err)
	}
	b.do(c2.then("DEL"))
	b.clean()
}

// An address is usable from the instant in which ADD returns: no packet waits
// for duplicate address detection.
func TestIPv6IsNeverTentative(t *testing.T) {
	b := newBox(t)
	c := b.NetNS("c1")
	// Runtimes do this to namespaces without IPv6.
	c.Sh("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6")
	add := call("ADD", "c1")
	bothFamilies(&add)
	b.do(add)
	if out := c.Run("ip", "-6", "addr", "show", "dev", "eth0", "tentative", "scope", "global"); out != "" {
		t.Errorf("tentative: %s", out)
	}
	// The kernel adds the link-local address, and passes it by a work queue.
	if v := c.Run("cat", "/proc/sys/net/ipv6/conf/eth0/accept_dad"); v != "0\n" {
		t.Errorf("accept_dad is %s", v)
	}
	if err := lab.Until(10*time.Second, func() error {
		if out := c.Run("ip", "-6", "addr", "show", "dev", "eth0", "tentative"); out != "" {
			return fmt.Errorf("tentative: %s", out)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if out := c.Run("ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "global"); !strings.Contains(out, "fd87:1::2/64") {
		t.Errorf("addresses: %s", out)
	}
	if out := b.Run("ip", "-6", "addr", "show", "dev", bridgeName, "tentative", "scope", "global"); out != "" {
		t.Errorf("of the bridge tentative: %s", out)
	}
}

// A container can't send its neighbours or the host elsewhere by a router
// advertisement (CVE-2020-10749), in networks without IPv6 neither.
func TestRouterAdvertisementsAreRefused(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*lab.Call){"IPv4": func(*lab.Call) {}, "dual stack": bothFamilies} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			c := b.attach("c1", edit)
			for place, file := range map[lab.Place]string{c.Place: "eth0", b.Place: bridgeName} {
				if v := place.Run("cat", "/proc/sys/net/ipv6/conf/"+file+"/accept_ra"); v != "0\n" {
					t.Errorf("accept_ra of %s is %s", file, v)
				}
			}
		})
	}
}

func TestRoutesAsConfigured(t *testing.T) {
	b := newBox(t)
	c := b.attach("c1", func(c *lab.Call) {
		c.Conf = strings.Replace(conf(`"ipam":{"ranges":[[{"subnet":"10.87.1.0/24"}],[{"subnet":"fd87:1::/64"}]],"routes":[
			{"dst":"198.51.100.0/24","mtu":1300,"advmss":1200,"priority":7},
			{"dst":"198.51.101.0/24","gw":"10.87.1.9","table":5000},
			{"dst":"198.51.102.0/24","scope":253},
			{"dst":"203.0.113.0/24","table":77},
			{"dst":"198.51.103.0/24","scope":0},
			{"dst":"2001:db8:4::/64","scope":0},
			{"dst":"2001:db8:1::/64","mtu":1300,"advmss":1200,"priority":7},
			{"dst":"2001:db8:2::/64","gw":"fd87:1::9","table":5000},
			{"dst":"2001:db8:3::/64","scope":253}]}`), "1.0.0", "1.1.0", 1)
	})
	for _, r := range []struct{ command, want string }{
		{"ip route show 198.51.100.0/24", "198.51.100.0/24 via 10.87.1.1 dev eth0 metric 7 mtu 1300 advmss 1200"},
		{"ip route show table 5000", "198.51.101.0/24 via 10.87.1.9 dev eth0"},
		{"ip route show 198.51.102.0/24", "198.51.102.0/24 dev eth0 scope link"},
		{"ip route show 198.51.103.0/24", "198.51.103.0/24 via 10.87.1.1 dev eth0"},
		{"ip -6 route show 2001:db8:4::/64", "2001:db8:4::/64 via fd87:1::1 dev eth0 metric 1024 pref medium"},
		{"ip route show table 77", "203.0.113.0/24 via 10.87.1.1 dev eth0"},
		{"ip route show default", "default via 10.87.1.1 dev eth0"},
		{"ip -6 route show 2001:db8:1::/64", "2001:db8:1::/64 via fd87:1::1 dev eth0 metric 7 mtu 1300 advmss 1200 pref medium"},
		{"ip -6 route show table 5000", "2001:db8:2::/64 via fd87:1::9 dev eth0 metric 1024 pref medium"},
		{"ip -6 route show 2001:db8:3::/64", "2001:db8:3::/64 dev eth0 metric 1024 pref medium"},
		{"ip -6 route show default", "default via fd87:1::1 dev eth0 metric 1024 pref medium"},
	} {
		// A busy kernel tells routes only later that the link has its carrier.
		got := strings.ReplaceAll(strings.TrimSpace(c.Run(strings.Fields(r.command)...)), " linkdown", "")
		if got != r.want {
			t.Errorf("%s: %q, not %q", r.command, got, r.want)
		}
	}
	for _, text := range []string{`"mtu":1300`, `"advmss":1200`, `"priority":7`, `"table":5000`, `"scope":253`} {
		if !strings.Contains(c.result.Stdout, text) {
			t.Errorf("the result lacks %s: %s", text, c.result.Stdout)
		}
	}
	b.do(c.then("CHECK"))
	c.Run("ip", "route", "del", "198.51.100.0/24")
	b.refused(c.then("CHECK"), 104, "198.51.100.0/24")
}

// RFC 3021 and RFC 6164: a subnet of two addresses holds a gateway and one
// container. One of four IPv4 addresses holds a gateway and one as well.
func TestSmallestSubnets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, subnet, addr, gateway string }{
		{"/31", "10.87.1.0/31", "10.87.1.1/31", "10.87.1.0"},
		{"/127", "fd87:1::/127", "fd87:1::1/127", "fd87:1::"},
		{"/30", "10.87.1.0/30", "10.87.1.2/30", "10.87.1.1"},
		{"/126", "fd87:1::/126", "fd87:1::2/126", "fd87:1::1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			with := func(call *lab.Call) { call.Conf = conf(`"ipam":{"subnet":"` + c.subnet + `"}`) }
			c1 := b.attach("c1", with)
			if ip := c1.result.IPs[0]; ip.Address != c.addr || ip.Gateway != c.gateway {
				t.Errorf("the result is %s", c1.result.Stdout)
			}
			if err := c1.Ping(c.gateway); err != nil {
				t.Error(err)
			}
			outside := lab.OutsideAddr
			if strings.Contains(c.subnet, ":") {
				outside = "2001:db8::2"
			}
			if err := c1.Ping(outside); err != nil {
				t.Error(err)
			}
			b.NetNS("c2")
			second := call("ADD", "c2")
			with(&second)
			if c.name == "/126" { // has room for another: IPv6 has no broadcast address
				b.do(second)
				return
			}
			b.refused(second, 100, "flatnet")
		})
	}
}

func TestSubnetOfOneIsRefused(t *testing.T) {
	b := newBox(t)
	b.NetNS("c1")
	for _, subnet := range []string{"10.87.1.5/32", "fd87:1::5/128"} {
		add := call("ADD", "c1")
		add.Conf = conf(`"ipam":{"subnet":"` + subnet + `"}`)
		before := b.state()
		b.refused(add, 7, subnet)
		b.same(before)
	}
}

func TestWantedAddressesOfBothFamilies(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*lab.Call){
		"CNI_ARGS":      func(c *lab.Call) { c.Args = "IP=fd87:1::77,10.87.1.77" },
		"runtimeConfig": func(c *lab.Call) { c.Conf = withKeys(c.Conf, `"runtimeConfig":{"ips":["10.87.1.77","fd87:1::77/64"]}`) },
		"args.cni":      func(c *lab.Call) { c.Conf = withKeys(c.Conf, `"args":{"cni":{"ips":["10.87.1.77","fd87:1::77"]}}`) },
		"both places": func(c *lab.Call) {
			c.Conf, c.Args = withKeys(c.Conf, `"args":{"cni":{"ips":["fd87:1::77"]}}`), "IP=10.87.1.77"
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			c := b.attach("c1", bothFamilies, edit)
			if ips := c.result.IPs; len(ips) != 2 || ips[0].Address != "10.87.1.77/24" || ips[1].Address != "fd87:1::77/64" {
				t.Errorf("the result is %s", c.result.Stdout)
			}
			b.NetNS("c2")
			for _, want := range []struct {
				ips  string
				code int
				text string
			}{
				{"fd87:1::77", 101, "c1"}, {"10.87.1.77", 101, "c1"}, // one alone must be had as well
				{"fd87:1::1", 7, "gateway"}, {"fd87:1::", 7, "fd87:1::"}, {"fd87:2::5", 7, "fd87:2::5"},
				{"fd87:1::5,fd87:1::6", 7, "fd87:1::6"}, {"fd87:1::5,10.87.1.77", 101, "10.87.1.77"},
			} {
				add := call("ADD", "c2")
				bothFamilies(&add)
				add.Args = "IP=" + want.ips
				before := b.state()
				b.refused(add, want.code, want.text)
				b.same(before)
			}
		})
	}
}

// withKeys is a configuration with further keys.
func withKeys(conf, keys string) string { return strings.TrimSuffix(conf, "}") + "," + keys + "}" }

// The requested MAC is that of the place that counts most.
func TestPrecedenceOfWantedMACs(t *testing.T) {
	b := newBox(t)
	const runtime, args, env = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"
	for i, c := range []struct {
		keys, args, want string
	}{
		{`"runtimeConfig":{"mac":"` + runtime + `"},"args":{"cni":{"mac":"` + args + `"}}`, "MAC=" + env, runtime},
		{`"args":{"cni":{"mac":"` + args + `"}}`, "MAC=" + env, args},
		{`"x":1`, "MAC=" + env, env},
	} {
		c1 := b.attach("c"+string(rune('1'+i)), func(call *lab.Call) { call.Conf, call.Args = conf(c.keys), c.args })
		if mac := links(t, c1.Place)["eth0"].Address; mac != c.want {
			t.Errorf("%s %s: %s", c.keys, c.args, mac)
		}
	}
	b.NetNS("bad")
	for _, mac := range []string{"01:00:00:00:00:01", "02:00:00:00:00", "x"} {
		for _, edit := range []func(*lab.Call){
			func(c *lab.Call) { c.Args = "MAC=" + mac },
			func(c *lab.Call) { c.Conf = conf(`"runtimeConfig":{"mac":"` + mac + `"}`) },
			func(c *lab.Call) { c.Conf = conf(`"args":{"cni":{"mac":"` + mac + `"}}`) },
		} {
			add := call("ADD", "bad")
			edit(&add)
			b.refused(add, 0, mac)
		}
	}
}

// Inside of other containers /proc/sys is read-only; what an attachment can do
// without is then left.
func TestReadOnlySysctls(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*lab.Call){"IPv4": func(*lab.Call) {}, "dual stack": bothFamilies} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.Sh(`echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
				mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys`)
			c := b.attach("c1", edit)
			if err := c.Ping(lab.OutsideAddr); err != nil {
				t.Error(err)
			}
			b.do(c.then("CHECK"))
			b.do(c.then("DEL"))
			b.clean()
		})
	}
}

// Nothing is forwarded to containers as long as the bridge's own link-local
// address may not be used.
func TestBridgeIsReadyForIPv6(t *testing.T) {
	b := newBox(t)
	b.attach("c1", func(c *lab.Call) { c.Conf = dual })
	if v := b.Sh("cat /proc/sys/net/ipv6/conf/" + bridgeName + "/accept_dad"); v != "0\n" {
		t.Errorf("accept_dad is %s", v)
	}
	// The kernel makes the address when it notices the carrier, and marks it as tentative
	// until a worker has looked at accept_dad.
	err := lab.Until(10*time.Second, func() error {
		out := b.Run("ip", "-6", "addr", "show", "dev", bridgeName, "scope", "link")
		if !strings.Contains(out, "fe80:") || strings.Contains(out, "tentative") {
			return errors.New(out)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A gateway that is link-local, as routers' are, works like one in the subnet.
func TestLinkLocalGateway(t *testing.T) {
	b := newBox(t)
	llConf := `{"cniVersion":"1.0.0","name":"ll","type":"flatnet","bridge":"br0","ipam":{"ranges":[[{"subnet":"fd87:0:0:1::/64","gateway":"fe80::1"}]]}}`
	ll := func(c *lab.Call) { c.Conf = llConf }
	c1, c2 := b.attach("c1", ll), b.attach("c2", ll)
	if ip := c1.result.IPs[0]; ip.Gateway != "fe80::1" {
		t.Errorf("the result is %s", c1.result.Stdout)
	}
	if out := c1.Run("ip", "-6", "route", "show", "default"); !strings.Contains(out, "default via fe80::1 dev eth0") {
		t.Errorf("the default route is %s", out)
	}
	for from, to := range map[lab.Place]string{c1.Place: c2.addr, c2.Place: outsideAddr6, b.Place: c1.addr} {
		if err := from.Ping(to); err != nil {
			t.Error(err)
		}
	}
	b.do(c1.then("CHECK"))
	// A restart of the host's network takes addresses and routes of IPv6.
	b.Sh("ip link set br0 down; ip link set br0 up")
	b.refused(c1.then("CHECK"), 104, "fe80::1")
	b.reload()
	b.do(c1.then("CHECK"))
	if err := c1.Ping(outsideAddr6); err != nil {
		t.Error(err)
	}
	// So may whoever deletes the host's route, which no address brings back.
	b.Sh("ip -6 route del fd87:0:0:1::/64 dev br0")
	status := lab.Call{Command: "STATUS", Conf: strings.Replace(llConf, "1.0.0", "1.1.0", 1)}
	b.refused(c1.then("CHECK"), 104, "route to fd87:0:0:1::/64 by br0")
	b.refused(status, 51, "route to fd87:0:0:1::/64 by br0")
	if out := b.Run(program, "reload"); !strings.Contains(out, "route to fd87:0:0:1::/64 by br0 was missing") {
		t.Errorf("the reload says %q", out)
	}
	b.do(c1.then("CHECK"))
	b.do(status)
	if err := b.Ping(c1.addr); err != nil {
		t.Error(err)
	}
	// Another network with the same subnet on a bridge of its own would take the route.
	b.NetNS("c3")
	other := call("ADD", "c3")
	other.Conf = strings.NewReplacer("ll", "other", "br0", "br1").Replace(llConf)
	b.refused(other, 102, "br0")
	b.do(c1.then("DEL"))
	b.do(c2.then("DEL"))
	if rules := b.Run("nft", "list", "ruleset"); rules != "" {
		t.Errorf("rules are left: %s", rules)
	}
}

// A host end has no link-local address, and the container's has one only where there is
// IPv6: else Linux would report their multicast groups to each container.
func TestLinkLocalAddressesWhereNeeded(t *testing.T) {
	b := newBox(t)
	for id, has := range map[string]bool{"c1": false, "c2": false, "six": true} {
		c := b.attach(id, func(c *lab.Call) {
			if has {
				c.Conf = dualOther
			}
		})
		if out := c.Run("ip", "-6", "addr", "show", "dev", "eth0"); strings.Contains(out, "fe80::") != has {
			t.Errorf("%s has %q", id, out)
		}
		if out := b.Run("ip", "-6", "addr", "show", "dev", "fn-"+id); out != "" {
			t.Errorf("the host end of %s has %s", id, out)
		}
	}
}
