package tests

import (
	"slices"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

var versions = []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// Podman asks like this whenever it loads a network; see CNI SPEC 1.1.0, section 2.
func TestVERSIONListsWhatItSpeaks(t *testing.T) {
	b := newBox(t)
	r := b.do(lab.Call{Command: "VERSION", IfName: "dummy", NetNS: "dummy", Conf: `{"cniVersion":"1.0.0"}`})
	for _, v := range versions {
		if !slices.Contains(r.SupportedVersions, v) {
			t.Errorf("%s is missing in %s", v, r.Stdout)
		}
	}
}

func TestResultHasTheShapeOfItsVersion(t *testing.T) {
	b := newBox(t)
	for _, version := range versions {
		c := b.attach("v"+version, func(c *lab.Call) {
			c.Conf = strings.Replace(c.Conf, "1.0.0", version, 1)
		})
		r := c.result
		if r.CNIVersion != version {
			t.Errorf("%s: cniVersion is %q", version, r.CNIVersion)
		}
		family := "4" // ips[].version went with 1.0.0
		if version >= "1" {
			family = ""
		}
		if len(r.IPs) != 1 || r.IPs[0].Version != family || r.IPs[0].Gateway != gateway {
			t.Errorf("%s: ips in %s", version, r.Stdout)
		}
		if has := strings.Contains(r.Stdout, `"mtu"`); has != (version >= "1.1") {
			t.Errorf("%s: mtu in %s: %v", version, r.Stdout, has)
		}
		b.isTrue(c)
		b.do(c.then("DEL"))
	}
	b.clean()
}

// isTrue fails unless the result says what the kernel has.
func (b box) isTrue(c container) {
	b.t.Helper()
	r := c.result
	if len(r.IPs) != 1 || r.IPs[0].Interface == nil || *r.IPs[0].Interface >= len(r.Interfaces) {
		b.t.Fatalf("no interface of the address in %s", r.Stdout)
	}
	for _, i := range r.Interfaces {
		place := b.Place
		if i.Sandbox != "" {
			place = c.Place
		}
		l, ok := links(b.t, place)[i.Name]
		if !ok || l.Address != i.Mac || !l.up() {
			b.t.Errorf("result has interface %v, the kernel %v", i, l)
		}
	}
	own := r.Interfaces[*r.IPs[0].Interface]
	if own.Name != c.add.IfName || own.Sandbox != c.add.NetNS {
		b.t.Errorf("the address is on %v", own)
	}
	if got := links(b.t, c.Place)[own.Name].ipv4(); !slices.Equal(got, []string{r.IPs[0].Address}) {
		b.t.Errorf("result has address %s, the kernel %s", r.IPs[0].Address, got)
	}
	for _, route := range r.Routes {
		gw := route.GW
		if gw == "" {
			gw = r.IPs[0].Gateway
		}
		if out := c.Run("ip", "route", "show", "exact", route.Dst); !strings.Contains(out, "via "+gw) {
			b.t.Errorf("result has route %v, the kernel %q", route, out)
		}
	}
}

func TestRefusesBadInputBeforeTouchingAnything(t *testing.T) {
	b := newBox(t)
	b.NetNS("c1")
	b.Write("/run/file", "")
	with := func(keys string) func(*lab.Call) { return func(c *lab.Call) { c.Conf = conf(keys) } }
	ipam := func(keys string) func(*lab.Call) { return with(`"ipam":{"type":"flatnet-ipam",` + keys + `}`) }
	before := b.state()
	for _, c := range []struct {
		name  string
		edit  func(*lab.Call)
		code  int
		names string
	}{
		{"a version of the future", func(c *lab.Call) { c.Conf = strings.Replace(c.Conf, "1.0.0", "9.9.9", 1) }, 1, "9.9.9"},
		{"an unknown command", func(c *lab.Call) { c.Command = "ATTACH" }, 4, "ATTACH"},
		{"no container ID", func(c *lab.Call) { c.ID = "" }, 4, "CNI_CONTAINERID"},
		{"a container ID that is a path", func(c *lab.Call) { c.ID = "../c1" }, 4, "../c1"},
		{"no interface name", func(c *lab.Call) { c.IfName = "" }, 4, "CNI_IFNAME"},
		{"an interface name that is too long", func(c *lab.Call) { c.IfName = "sixteen-bytes-xx" }, 4, "sixteen-bytes-xx"},
		{"an interface name that is a path", func(c *lab.Call) { c.IfName = "a/b" }, 4, "a/b"},
		{"no namespace", func(c *lab.Call) { c.NetNS = "" }, 4, "CNI_NETNS"},
		{"a namespace that is not there", func(c *lab.Call) { c.NetNS = "/run/netns/none" }, 3, "/run/netns/none"},
		{"a namespace that is a file", func(c *lab.Call) { c.NetNS = "/run/file" }, 0, "/run/file"},
		{"a namespace of another kind", func(c *lab.Call) { c.NetNS = "/proc/self/ns/mnt" }, 0, "/proc/self/ns/mnt"},
		{"the host's own namespace", func(c *lab.Call) { c.NetNS = "/proc/1/ns/net" }, 0, "/proc/1/ns/net"},
		{"an argument that is no pair", func(c *lab.Call) { c.Args = "IP" }, 4, "IP"},
		{"a MAC that is none", func(c *lab.Call) { c.Args = "MAC=02:00" }, 0, "02:00"},
		{"an address outside the subnet", func(c *lab.Call) { c.Args = "IP=10.88.0.7" }, 0, "10.88.0.7"},
		{"the gateway's address", func(c *lab.Call) { c.Args = "IP=" + gateway }, 0, gateway},
		{"nothing", func(c *lab.Call) { c.Conf = "" }, 6, ""},
		{"half a configuration", func(c *lab.Call) { c.Conf = lab.Conf[:20] }, 6, ""},
		{"two configurations", func(c *lab.Call) { c.Conf = lab.Conf + lab.Conf }, 6, ""},
		{"no name", func(c *lab.Call) { c.Conf = `{"cniVersion":"1.0.0","type":"flatnet"}` }, 7, "name"},
		{"a bridge name that is too long", with(`"bridge":"sixteen-bytes-xx"`), 7, "sixteen-bytes-xx"},
		{"an MTU of the wrong type", with(`"mtu":"big"`), 7, "mtu"},
		{"an MTU out of range", with(`"mtu":-1`), 0, "mtu"},
		{"a subnet that is none", ipam(`"subnet":"10.87.1.0"`), 7, "10.87.1.0"},
		{"a gateway outside the subnet", ipam(`"subnet":"10.87.1.0/24","gateway":"10.99.0.1"`), 7, "10.99.0.1"},
		{"a range outside the subnet", ipam(`"subnet":"10.87.1.0/24","rangeEnd":"10.87.2.9"`), 7, "10.87.2.9"},
		{"a range that ends before it starts", ipam(`"subnet":"10.87.1.0/24","rangeStart":"10.87.1.9","rangeEnd":"10.87.1.5"`), 7, "10.87.1.9"},
		{"a route that is none", ipam(`"routes":[{"dst":"default"}]`), 7, "default"},
		{"a lease directory that is relative", ipam(`"dataDir":"leases"`), 7, "leases"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := call("ADD", "c1")
			c.edit(&bad)
			b := b.in(t)
			b.refused(bad, c.code, c.names)
			b.same(before)
			if files := b.Sh("find /var/lib/flatnet -type f -print -delete"); files != "" {
				t.Errorf("files were made: %s", files)
			}
		})
	}
}

func TestHonoursItsConfiguration(t *testing.T) {
	b := newBox(t)
	c := b.attach("c1", func(c *lab.Call) {
		c.Conf = conf(`"bridge":"br7","mtu":1280,"ipMasq":false,"hairpinMode":true,"isDefaultGateway":false,
			"dns":{"nameservers":["192.0.2.53"]},
			"ipam":{"type":"flatnet-ipam","subnet":"10.87.7.0/24","gateway":"10.87.7.254","rangeStart":"10.87.7.10",
				"rangeEnd":"10.87.7.10","routes":[{"dst":"198.51.100.0/24"}],"dataDir":"/run/leases"}`)
	})
	b.isTrue(c)
	if c.addr != "10.87.7.10" || c.result.IPs[0].Gateway != "10.87.7.254" {
		t.Errorf("address and gateway: %s", c.result.Stdout)
	}
	if !slices.Equal(c.result.DNS.Nameservers, []string{"192.0.2.53"}) {
		t.Errorf("dns: %s", c.result.Stdout)
	}
	if routes := c.Run("ip", "route"); strings.Contains(routes, "default") || !strings.Contains(routes, "198.51.100.0/24 via 10.87.7.254") {
		t.Errorf("routes: %s", routes)
	}
	host := links(t, b.Place)
	br, port := host["br7"], host["fn-c1"]
	if !slices.Equal(br.ipv4(), []string{"10.87.7.254/24"}) || port.Master != "br7" || port.Linkinfo.Port["hairpin"] != true {
		t.Errorf("bridge %+v, host end %+v", br, port)
	}
	if mtu := links(t, c.Place)["eth0"].MTU; mtu != 1280 || port.MTU != 1280 || br.MTU != 1280 {
		t.Errorf("MTUs are %d, %d and %d", mtu, port.MTU, br.MTU)
	}
	if !strings.Contains(b.Sh("find /run/leases -name allocations.json -exec cat {} +"), c.addr) {
		t.Error("no lease in dataDir")
	}
	before := b.state()
	if strings.Contains(before, "ip saddr 10.87.7.0/24 ip daddr != ") {
		t.Errorf("ipMasq is false, but there is %s", before)
	}
	b.do(c.then("DEL"))
	b.Run("ip", "link", "del", "br7")
	b.clean()
}

func TestPromiscMode(t *testing.T) {
	b := newBox(t)
	b.attach("c1", func(c *lab.Call) { c.Conf = conf(`"promiscMode":true`) })
	if br := links(t, b.Place)[bridgeName]; !slices.Contains(br.Flags, "PROMISC") && br.Promiscuity == 0 {
		t.Errorf("bridge: %+v", br)
	}
}

func TestWithoutGateway(t *testing.T) {
	b := newBox(t)
	c := b.attach("c1", func(c *lab.Call) { c.Conf = conf(`"isGateway":false,"isDefaultGateway":false`) })
	if addrs := links(t, b.Place)[bridgeName].ipv4(); len(addrs) != 0 {
		t.Errorf("the bridge has %v", addrs)
	}
	if routes := c.Run("ip", "route"); strings.Contains(routes, "via") {
		t.Errorf("routes: %s", routes)
	}
}
