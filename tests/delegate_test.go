package tests

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// plugins is where Debian has the reference plugins.
const plugins = "/usr/lib/cni"

// bridgeConf is a configuration as users of the reference bridge plugin write
// it; typ is the only thing that changes when they switch.
func bridgeConf(typ, version, keys string) string {
	return fmt.Sprintf(`{"cniVersion":%q,"name":"net","type":%q,"bridge":"br0",%s}`, version, typ, keys)
}

// A conflist written for bridge means the same to flatnet: each is run by both,
// each in a world of its own, and what the kernel then has is the same.
func TestBridgeConfigurationsMeanTheSame(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, version, keys string }{
		{"the README's", "1.0.0", `"isDefaultGateway":true,"forceAddress":false,"ipMasq":true,"hairpinMode":true,"mtu":1400,
			"ipam":{"type":"host-local","subnet":"10.10.0.0/16"}`},
		{"Podman's", "0.4.0", `"isGateway":true,"ipMasq":true,"hairpinMode":true,"mtu":1500,"ipam":{"type":"host-local",
			"routes":[{"dst":"0.0.0.0/0"}],"ranges":[[{"subnet":"10.88.0.0/16","gateway":"10.88.0.1"}]]}`},
		{"no gateway", "1.0.0", `"mtu":1500,"ipam":{"type":"host-local","subnet":"10.10.0.0/16"}`},
		{"no gateway, but a route", "1.0.0", `"mtu":1500,"ipam":{"type":"host-local","subnet":"10.10.0.0/16","routes":[{"dst":"192.0.2.0/24"}]}`},
		{"default gateway without gateway", "1.0.0", `"isDefaultGateway":true,"isGateway":false,"mtu":1500,"ipam":{"type":"host-local","subnet":"10.10.0.0/16"}`},
		{"a range and a gateway of one's own", "0.3.1", `"isDefaultGateway":true,"mtu":1500,"ipam":{"type":"host-local","subnet":"10.10.0.0/16",
			"rangeStart":"10.10.3.7","rangeEnd":"10.10.3.7","gateway":"10.10.255.254"}`},
		{"dual stack", "1.0.0", `"isDefaultGateway":true,"ipMasq":true,"mtu":1500,"ipam":{"type":"host-local",
			"ranges":[[{"subnet":"10.10.0.0/16"}],[{"subnet":"fd10::/64"}]],"routes":[{"dst":"2001:db8:5::/64"},{"dst":"198.51.100.0/24","gw":"10.10.9.9"}]}`},
		{"IPv6 alone", "1.0.0", `"isDefaultGateway":true,"mtu":1500,"ipam":{"type":"host-local","subnet":"fd10::/64"}`},
		{"the old result", "0.2.0", `"isDefaultGateway":true,"mtu":1500,"ipam":{"type":"host-local","subnet":"10.10.0.0/16"}`},
		{"no version", "", `"isDefaultGateway":true,"mtu":1500,"ipam":{"type":"host-local","subnet":"10.10.0.0/16"}`},
		{"promiscuous", "1.0.0", `"isGateway":true,"promiscMode":true,"mtu":1500,"ipam":{"type":"host-local","subnet":"10.10.0.0/16"}`},
		{"static", "1.0.0", `"isDefaultGateway":true,"mtu":1500,"dns":{"nameservers":["192.0.2.53"]},"ipam":{"type":"static",
			"addresses":[{"address":"10.10.0.9/24","gateway":"10.10.0.254"},{"address":"fd10::9/64","gateway":"fd10::1"}],"routes":[{"dst":"198.51.100.0/24"}]}`},
		{"static, a gateway that is not said", "1.0.0", `"isGateway":true,"mtu":1500,"ipam":{"type":"static",
			"addresses":[{"address":"10.10.0.9/24"}]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var shapes [2]string
			for i, typ := range []string{"bridge", "flatnet"} {
				b := box{lab.New(t), t}
				shapes[i] = b.shapeOf(typ, c.version, c.keys)
			}
			if shapes[0] != shapes[1] {
				t.Errorf("bridge makes\n%s\nand flatnet\n%s", shapes[0], shapes[1])
			}
		})
	}
}

// shapeOf attaches a container by a plugin and says what that came to be, less
// MAC addresses and the host end's name.
func (b box) shapeOf(typ, version, keys string) string {
	b.t.Helper()
	file := filepath.Join(plugins, typ)
	if typ == "flatnet" {
		file = program
	}
	c := container{Place: b.NetNS("c1"), add: call("ADD", "c1")}
	c.add.Conf = bridgeConf(typ, version, keys)
	before := links(b.t, b.Place)
	if c.result = b.Call(file, c.add); c.result.Exit != 0 {
		b.t.Fatalf("%s: %s", typ, c.result.Stdout)
	}
	var s strings.Builder
	for name, l := range links(b.t, b.Place) {
		if _, old := before[name]; !old && l.Master == "br0" {
			port := l.Linkinfo.Port
			fmt.Fprintln(&s, "port: up", l.up(), "mtu", l.MTU, "hairpin", port["hairpin"], "isolated", port["isolated"])
		}
	}
	for _, l := range []link{links(b.t, b.Place)["br0"], links(b.t, c.Place)["eth0"]} {
		fmt.Fprintln(&s, l.IfName, l.Linkinfo.Kind, "up", l.up(), "mtu", l.MTU, "promisc", l.Promiscuity, "addresses", l.global())
	}
	s.WriteString(c.Sh("ip route; ip -6 route | grep -v '^fe80' || :; ip -6 addr show dev eth0 scope global tentative"))
	for _, dir := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/br0/accept_ra"} {
		s.WriteString(dir + " " + b.Run("cat", "/proc/sys/"+dir))
	}
	addrs, _ := json.Marshal(c.result.IPs)
	dns, _ := json.Marshal(c.result.DNS)
	fmt.Fprintf(&s, "result %s ips %s dns %s\n", c.result.CNIVersion, addrs, dns)
	if strings.Contains(keys, `"ipMasq":true`) {
		b.Outside.Serve(":80")
		as, err := c.Ask(lab.OutsideAddr + ":80")
		fmt.Fprintln(&s, "the outside sees", as, err == nil)
	}
	fmt.Fprintln(&s, "the host reaches it", c.addr4() == "" || b.Ping(c.addr4()) == nil)
	return s.String()
}

// global are the interface's addresses but for link-local ones.
func (l link) global() []string {
	var addrs []string
	for _, a := range l.AddrInfo {
		if a.Scope == "global" {
			addrs = append(addrs, fmt.Sprintf("%s/%d", a.Local, a.Prefixlen))
		}
	}
	slices.Sort(addrs)
	return addrs
}

// addr4 is the IPv4 address that the kernel shows for eth0.
func (c container) addr4() string {
	out, _ := c.Try("sh", "-c", "ip -4 -o addr show dev eth0 | sed 's/.*inet //; s,/.*,,; q'")
	return strings.TrimSpace(out)
}

// hostLocal is a network whose addresses the reference's host-local leases.
func hostLocal(c *lab.Call) {
	c.Conf = bridgeConf("flatnet", "1.0.0", `"isDefaultGateway":true,"ipMasq":true,
		"ipam":{"type":"host-local","subnet":"10.10.0.0/24","rangeStart":"10.10.0.2","rangeEnd":"10.10.0.4","dataDir":"/run/host-local"}`)
}

// hostLocalLeases are the files in which host-local keeps leases.
func (b box) hostLocalLeases() string {
	b.t.Helper()
	return b.Sh("mkdir -p /run/host-local/net; cd /run/host-local/net; ls | grep '^[0-9]' || :")
}

func TestDelegatedLeasesComeAndGo(t *testing.T) {
	b := newBox(t)
	c1, c2 := b.attach("c1", hostLocal), b.attach("c2", hostLocal)
	if got := b.hostLocalLeases(); got != c1.addr+"\n"+c2.addr+"\n" {
		t.Errorf("host-local has leased %q", got)
	}
	for _, c := range []container{c1, c2} {
		b.do(c.then("CHECK"))
		for _, to := range []string{"10.10.0.1", lab.OutsideAddr} {
			if err := c.Ping(to); err != nil {
				t.Error(err)
			}
		}
	}
	b.do(c1.then("DEL"))
	if err := c2.Ping(lab.OutsideAddr); err != nil {
		t.Errorf("after c1's DEL: %v", err)
	}
	b.do(c2.then("DEL"))
	b.do(c2.then("DEL"))
	b.nothingOfNet()
}

// nothingOfNet fails unless nothing is left of network net but its bridge.
func (b box) nothingOfNet() {
	b.t.Helper()
	left := b.Sh("ip -o link | grep -E 'fn-|veth' || :; nft list tables | grep flatnet || :") + b.hostLocalLeases()
	if file := b.Read("/var/lib/flatnet/ipam/net/allocations.json"); strings.Contains(file, `"c`) {
		left += file
	}
	if left != "" {
		b.t.Errorf("left are %s", left)
	}
}

func TestDelegatedAddressAsWanted(t *testing.T) {
	b := newBox(t)
	c := b.attach("c1", hostLocal, func(c *lab.Call) { c.Args = "IP=10.10.0.3" })
	if c.addr != "10.10.0.3" {
		t.Errorf("got %s", c.addr)
	}
	b.NetNS("c2")
	again := call("ADD", "c2")
	hostLocal(&again)
	again.Args = "IP=10.10.0.3"
	before := b.state()
	b.refused(again, 0, "10.10.0.3")
	b.same(before)
}

// Networks as bridge makes them are not kept apart.
func TestDelegatedNetworksReachEachOther(t *testing.T) {
	b := newBox(t)
	c1 := b.attach("c1", hostLocal)
	c2 := b.attach("c2", func(c *lab.Call) {
		c.Conf = `{"cniVersion":"1.0.0","name":"net2","type":"flatnet","bridge":"br1","isDefaultGateway":true,"ipam":{"type":"host-local","subnet":"10.11.0.0/24","dataDir":"/run/host-local"}}`
	})
	if err := c1.Ping(c2.addr); err != nil {
		t.Error(err)
	}
}

// A container that died with a reboot, without DEL, gets an address again:
// host-local by itself refuses it a second one.
func TestDelegatedAfterAReboot(t *testing.T) {
	b := newBox(t)
	b.attach("c1", hostLocal)
	b.Sh("ip link del fn-c1; ip link del br0; nft flush ruleset; ip netns del c1")
	c := b.attach("c1", hostLocal)
	if err := c.Ping(lab.OutsideAddr); err != nil {
		t.Error(err)
	}
	b.do(c.then("DEL"))
	b.nothingOfNet()
}

// An address that goes to another container at once is reached at once, though
// neighbours still know its former MAC.
func TestDelegatedAddressOfAFormerContainer(t *testing.T) {
	b := newBox(t)
	static := func(c *lab.Call) {
		c.Conf = bridgeConf("flatnet", "1.0.0", `"isGateway":true,"ipam":{"type":"static","addresses":[{"address":"10.10.0.9/24"},{"address":"fd10::9/64"}]}`)
	}
	neighbour := b.attach("c0", func(c *lab.Call) {
		c.Conf = bridgeConf("flatnet", "1.0.0", `"isGateway":true,"ipam":{"type":"static","addresses":[{"address":"10.10.0.8/24"},{"address":"fd10::8/64"}]}`)
	})
	for i := range 3 {
		c := b.attach(fmt.Sprint("n", i), static)
		for _, from := range []lab.Place{b.Place, neighbour.Place} {
			for _, to := range []string{"10.10.0.9", "fd10::9"} {
				if err := from.Ping(to); err != nil {
					t.Errorf("container %d: %v", i, err)
				}
			}
		}
		b.do(c.then("DEL"))
	}
}

// What the plugin says of its failure is handed on, and nothing is left.
func TestDelegatedFailure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, keys string
		code       int
		texts      []string
	}{
		{"no such plugin", `"ipam":{"type":"no-such"}`, 7, []string{`ipam.type "no-such"`, plugins}},
		{"a plugin that refuses its configuration", `"ipam":{"type":"host-local","subnet":"nonsense"}`, 999, []string{"host-local", "ADD", "nonsense"}},
		{"a plugin without a daemon", `"ipam":{"type":"dhcp"}`, 999, []string{"dhcp", "/run/cni/dhcp.sock"}},
		{"a plugin that gives nothing", `"ipam":{"type":"static"}`, 7, []string{"static", "no address"}},
		{"an address that is the gateway's", `"isGateway":true,"ipam":{"type":"static","addresses":[{"address":"10.10.0.1/24"}]}`, 7, []string{"10.10.0.1"}},
		{"an address that another has", `"isGateway":true,"ipam":{"type":"static","addresses":[{"address":"10.10.0.9/24"}]}`, 101, []string{"10.10.0.9", "c0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			b.attach("c0", func(c *lab.Call) {
				c.Conf = bridgeConf("flatnet", "1.0.0", `"ipam":{"type":"static","addresses":[{"address":"10.10.0.9/24"}]}`)
			})
			b.NetNS("c1")
			add := call("ADD", "c1")
			add.Conf = bridgeConf("flatnet", "1.0.0", c.keys)
			before := b.state() + b.hostLocalLeases()
			b.refused(add, c.code, c.texts...)
			if after := b.state() + b.hostLocalLeases(); after != before {
				t.Errorf("state was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

// stub is an IPAM plugin that notes how it is called, and can be told to fail.
const stub = `#!/bin/sh
{ echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_NETNS $CNI_ARGS"; } >>/run/calls
cat >/run/conf-$CNI_COMMAND
[ "$CNI_COMMAND" != "$(cat /run/fail 2>/dev/null)" ] || { echo '{"cniVersion":"1.1.0","code":123,"msg":"not today","details":"really"}'; exit 1; }
[ "$CNI_COMMAND" != ADD ] || cat /run/result
`

// stubbed is a world with the stub, and a call that delegates to it.
func stubbed(t *testing.T) (box, lab.Call) {
	t.Helper()
	b := newBox(t)
	b.Write(plugins+"/stub", stub)
	b.Sh("chmod +x " + plugins + "/stub")
	b.Write("/run/result", `{"cniVersion":"1.1.0","ips":[{"address":"10.10.0.5/24","gateway":"10.10.0.1"}]}`)
	add := call("ADD", "c1")
	add.Conf = bridgeConf("flatnet", "1.1.0", `"isGateway":true,"ipam":{"type":"stub","own":"key"}`)
	return b, add
}

// All verbs are passed on as the SPEC says (1.1.0, section 4), with the
// environment and the configuration as they came.
func TestDelegatedVerbs(t *testing.T) {
	b, add := stubbed(t)
	add.Args = "IgnoreUnknown=1;FOO=bar"
	for _, id := range []string{"c1", "c2"} {
		b.NetNS(id)
	}
	second := add
	second.ID, second.NetNS = "c2", "/run/netns/c2"
	first := b.do(add)
	b.Write("/run/result", `{"cniVersion":"1.1.0","ips":[{"address":"10.10.0.6/24","gateway":"10.10.0.1"}]}`)
	b.do(second)
	check := add
	check.Command, check.Conf = "CHECK", lab.WithPrev(add.Conf, first)
	b.do(check)
	if got := b.Read("/run/conf-CHECK"); got != check.Conf {
		t.Errorf("CHECK got the configuration %s, not %s", got, check.Conf)
	}
	status := lab.Call{Command: "STATUS", Conf: add.Conf}
	b.do(status)
	gc := lab.Call{Command: "GC", Conf: strings.TrimSuffix(add.Conf, "}") + `,"cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"}]}`}
	b.do(gc)
	del := check
	del.Command = "DEL"
	b.do(del)
	want := `ADD c1 eth0 /run/netns/c1 IgnoreUnknown=1;FOO=bar
ADD c2 eth0 /run/netns/c2 IgnoreUnknown=1;FOO=bar
CHECK c1 eth0 /run/netns/c1 IgnoreUnknown=1;FOO=bar
STATUS    
DEL c2 eth0  
GC    
DEL c1 eth0 /run/netns/c1 IgnoreUnknown=1;FOO=bar
`
	if got := b.Read("/run/calls"); got != want {
		t.Errorf("the calls were\n%s\nand not\n%s", got, want)
	}
	b.nothingOfNet()
}

func TestDelegatedVerbThatFails(t *testing.T) {
	for _, verb := range []string{"ADD", "CHECK", "STATUS", "GC", "DEL"} {
		t.Run(verb, func(t *testing.T) {
			b, add := stubbed(t)
			b.NetNS("c1")
			b.Write("/run/fail", verb)
			c := add
			c.Command = verb
			switch verb {
			case "ADD":
				b.Run("ip", "link", "add", "br0", "type", "bridge")
				before := b.state()
				b.refused(c, 123, "stub", "not today", "really")
				b.same(before)
				if calls := b.Read("/run/calls"); !strings.Contains(calls, "DEL c1") {
					t.Errorf("no DEL after the ADD that failed: %s", calls)
				}
				return
			case "GC":
				c.Conf = strings.TrimSuffix(c.Conf, "}") + `,"cni.dev/valid-attachments":[]}`
			default:
				c.Conf = lab.WithPrev(c.Conf, b.do(add))
			}
			b.refused(c, 123, "stub", verb, "not today", "really")
			b.Run("rm", "/run/fail")
			if verb == "DEL" {
				b.do(c)
				b.nothingOfNet()
			}
		})
	}
}
