package tests

import (
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// Keys of the reference bridge plugin that the side-by-side table can't have,
// for Debian's bridge does not know them yet.

func TestVLANs(t *testing.T) {
	b := newBox(t)
	in := func(keys string) func(*lab.Call) {
		return func(c *lab.Call) {
			c.Conf = conf(`"bridge":"br0",` + keys)
		}
	}
	red := in(`"vlan":100,"ipam":{"subnet":"10.87.1.0/24","rangeStart":"10.87.1.10"}`)
	if _, err := b.Try("ip", "link", "add", "probe", "type", "bridge", "vlan_filtering", "1"); err != nil {
		b.NetNS("c1")
		add := call("ADD", "c1")
		red(&add)
		b.Run("ip", "link", "add", "br0", "type", "bridge")
		before := b.state()
		b.refused(add, 103, "CONFIG_BRIDGE_VLAN_FILTERING", "br0")
		b.same(before)
		return
	}
	c1, c2 := b.attach("c1", red), b.attach("c2", red)
	blue := b.attach("c3", in(`"vlan":200,"ipam":{"subnet":"10.87.1.0/24","rangeStart":"10.87.1.20","dataDir":"/run/blue"},"isGateway":false,"ipMasq":false`))
	trunk := b.attach("c4", in(`"vlanTrunk":[{"minID":100,"maxID":101}],"ipam":{"subnet":"10.87.1.0/24","rangeStart":"10.87.1.30","dataDir":"/run/trunk"},"isGateway":false,"ipMasq":false`))
	for _, to := range []string{c2.addr, gateway, lab.OutsideAddr} {
		if err := c1.Ping(to); err != nil {
			t.Error(err)
		}
	}
	for _, from := range []container{blue, trunk} {
		if _, err := from.Try("ping", "-n", "-c", "1", "-W", "1", c1.addr); err == nil {
			t.Errorf("%s reaches VLAN 100", from.add.ID)
		}
	}
	for name, want := range map[string]string{
		"fn-c1": "100 PVID Egress Untagged", "fn-c3": "200 PVID Egress Untagged", "fn-c4": "1 PVID Egress Untagged 100 101",
	} {
		out := b.Sh("bridge -c vlan show dev " + name + " | tail -n +2 | sed 's/" + name + "//'")
		if got := strings.Join(strings.Fields(out), " "); got != want && got != strings.Replace(want, "100 101", "100-101", 1) {
			t.Errorf("%s has VLANs %q, not %q", name, got, want)
		}
	}
	b.do(c1.then("CHECK"))
	for _, c := range []container{c1, c2, blue, trunk} {
		b.do(c.then("DEL"))
	}
}

func TestDisabledContainerInterface(t *testing.T) {
	b := newBox(t)
	c := b.attach("c1", func(c *lab.Call) { c.Conf = conf(`"disableContainerInterface":true`) })
	l := links(t, c.Place)["eth0"]
	if l.up() || len(l.AddrInfo) != 0 || len(c.result.IPs) != 0 || len(c.result.Interfaces) != 3 {
		t.Errorf("the interface is %+v, the result %s", l, c.result.Stdout)
	}
	if host := links(t, b.Place)["fn-c1"]; host.Master != bridgeName || !host.up() {
		t.Errorf("the host end is %+v", host)
	}
	b.do(c.then("CHECK"))
	status := c.then("STATUS")
	status.Conf = strings.Replace(c.add.Conf, "1.0.0", "1.1.0", 1)
	b.do(status)
	b.do(c.then("DEL"))
	b.clean()
}

func TestDuplicateAddressDetection(t *testing.T) {
	b := newBox(t)
	with := func(c *lab.Call) {
		c.Conf = conf(`"enabledad":true,"ipam":{"ranges":[[{"subnet":"10.87.1.0/24"}],[{"subnet":"fd87::/64"}]]}`)
	}
	c := b.attach("c1", with)
	if out := c.Run("ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "global"); !strings.Contains(out, "fd87::2/64") || strings.Contains(out, "tentative") || strings.Contains(out, "nodad") {
		t.Errorf("addresses: %s", out)
	}
	b.do(c.then("CHECK"))
	// Somebody on the bridge has the address that comes next.
	thief := b.NetNS("thief")
	b.Sh("ip link add t0 up master " + bridgeName + " type veth peer name eth0 netns thief")
	thief.Sh("ip addr add fd87::3/64 dev eth0 nodad; ip link set eth0 up")
	b.NetNS("c2")
	add := call("ADD", "c2")
	with(&add)
	before := b.state()
	b.refused(add, 101, "fd87::3", "duplicate")
	b.same(before)
}
