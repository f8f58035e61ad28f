package tests

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// A network is a network's definition and what its containers ask for, in netavark's JSON.
type network struct {
	keys      string // of the definition, beside name and ID
	container string // of network_options, beside interface_name
	ports     string // port_mappings
}

// create has the definition completed, as Podman does.
func (b box) create(n network) (string, error) {
	cmd := b.Cmd(program, "create")
	cmd.Stdin = strings.NewReader(`{"name":"opt","id":"1","driver":"flatnet","internal":false,` + n.keys + `}`)
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// exec calls setup or teardown for the namespace of a container, and returns what is
// written to stdout and stderr.
func (b box) exec(command, id, definition string, n network) (string, error) {
	options := `"interface_name":"eth0"`
	if n.container != "" {
		options += "," + n.container
	}
	cmd := b.Cmd(program, command, "/run/netns/"+id)
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"container_id":%q,"port_mappings":[%s],"network":%s,"network_options":{%s}}`,
		id, n.ports, definition, options))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// options are networks, and what shows their effect: commands that run in the container
// or on the host, and a part of what they print, or with ! what they don't.
var optionsSeen = []struct {
	name string
	network
	before string   // a script on the host
	inside []string // command, text, ...
	host   []string
}{
	{"several addresses of one subnet", network{keys: subnet5, container: `"static_ips":["10.99.5.7","10.99.5.9","10.99.5.7"]`}, "",
		[]string{"ip addr", "inet 10.99.5.7/24", "ip addr", "inet 10.99.5.9/24"},
		[]string{"ping -c1 -W1 10.99.5.7", "1 received", "ping -c1 -W1 10.99.5.9", "1 received",
			"cat /var/lib/flatnet/ipam/opt/allocations.json", `"10.99.5.7,10.99.5.9"`}},
	{"routes that go nowhere", network{keys: subnet5 + `,"routes":[{"destination":"10.5.0.0/16","route_type":"blackhole","metric":7},` +
		`{"destination":"10.6.0.0/16","route_type":"unreachable","metric":null},{"destination":"10.7.0.0/16","route_type":"prohibit"},` +
		`{"destination":"10.8.0.0/16","gateway":"10.99.5.9","metric":50},{"destination":"0.0.0.0/0","route_type":"blackhole","metric":500}]`}, "",
		[]string{"ip route", "blackhole 10.5.0.0/16 proto 87 metric 7", "ip route", "unreachable 10.6.0.0/16", "ip route", "prohibit 10.7.0.0/16",
			"ip route", "10.8.0.0/16 via 10.99.5.9 dev eth0 metric 50", "ip route", "blackhole default proto 87 metric 500",
			"ip route get 198.51.100.2", "via 10.99.5.1"}, nil},
	{"IPv6 routes that go nowhere", network{keys: `"subnets":[{"subnet":"fd00:5::/64"}],"routes":[{"destination":"fd00:6::/48","route_type":"blackhole","metric":9}]`}, "",
		[]string{"ip -6 route", "blackhole fd00:6::/48 dev lo proto 87 metric 9"}, nil},
	{"a metric", network{keys: `"subnets":[{"subnet":"10.99.5.0/24"},{"subnet":"fd00:5::/64"}],"options":{"metric":"333"}`}, "",
		[]string{"ip route", "default via 10.99.5.1 dev eth0 metric 333", "ip -6 route", "default via fd00:5::1 dev eth0 metric 333"}, nil},
	{"no default route", network{keys: subnet5 + `,"options":{"no_default_route":"1"}`}, "", []string{"ip route", "!default"}, nil},
	{"isolate=1", network{keys: subnet5 + `,"options":{"isolate":"1"}`}, "", nil, []string{"ip -d link show flatnet-96089c9", "group 10870"}},
	{"isolate=0", network{keys: subnet5 + `,"options":{"isolate":"0"}`}, "", nil, []string{"ip -d link show flatnet-96089c9", "group 10871"}},
	{"Docker's names", network{keys: subnet5 + `,"options":{"com.docker.network.bridge.name":"br-docker","com.docker.network.driver.mtu":"1234","com.docker.network.bridge.enable_ip_masquerade":"false"}`}, "",
		[]string{"ip link show eth0", "mtu 1234"}, []string{"ip link show br-docker", "mtu 1234", "nft list ruleset", "!ip daddr != 10.87.0.0/16"}},
	{"no masquerading", network{keys: subnet5 + `,"options":{"masquerade":"false"}`}, "", nil,
		[]string{"nft list ruleset", "ip daddr 10.99.5.0/24", "nft list ruleset", "!ip daddr != 10.87.0.0/16"}},
	{"destinations without masquerading", network{keys: subnet5 + `,"options":{"no_masquerade":"198.51.100.0/24,10.4.0.0/16"}`}, "", nil,
		[]string{"nft list ruleset", "ip daddr != 198.51.100.0/24 ip daddr != 10.4.0.0/16"}},
	{needsVLANs, network{keys: subnet5 + `,"network_interface":"br-v","options":{"vlan":"7"}`}, "",
		[]string{"ping -c1 -W1 10.99.5.1", "1 received"},
		[]string{"bridge vlan show", "7 PVID Egress Untagged", "ip addr show br-v.7", "inet 10.99.5.1/24", "ping -c1 -W1 10.99.5.2", "1 received"}},
	{"the host's interface", network{keys: subnet5, container: `"options":{"host_interface_name":"web0"}`}, "", nil,
		[]string{"ip link show web0", "master flatnet-96089c9"}},
	{"an unmanaged bridge", network{keys: subnet5 + `,"network_interface":"mine","options":{"mode":"unmanaged"}`},
		"ip link add mine type bridge; ip link set mine up; ip addr add 10.99.5.77/24 dev mine",
		[]string{"ip route", "default via 10.99.5.1 dev eth0", "ping -c1 -W1 10.99.5.77", "1 received"},
		[]string{"ip addr show mine", "inet 10.99.5.77/24", "ip addr show mine", "!10.99.5.1/24", "nft list ruleset", "!ip daddr != 10.87.0.0/16"}},
	{"::1 beside another address", network{keys: subnet5, ports: port("127.0.0.1") + "," + port("::1")}, "", nil,
		[]string{"nft list ruleset", "127.0.0.1 . 8080"}},
}

// needsVLANs is a case that a kernel without VLAN filtering refuses.
const needsVLANs = "a VLAN"

// hasVLANs reports whether the kernel has VLAN filtering.
func (b box) hasVLANs() bool {
	_, err := b.Try("sh", "-c", "ip link add vlans type bridge vlan_filtering 1 && ip link del vlans")
	return err == nil
}

// subnet5 is the subnet of a definition; the bridge is flatnet-96089c9.
const subnet5 = `"subnets":[{"subnet":"10.99.5.0/24"}]`

func port(hostIP string) string {
	return fmt.Sprintf(`{"container_port":80,"host_ip":%q,"host_port":8080,"protocol":"tcp","range":1}`, hostIP)
}

// What Podman 6's users type has its effect in the kernel, and is gone with the container,
// also where that goes on without the network.
func TestNetavarkOptions(t *testing.T) {
	t.Parallel()
	for _, o := range optionsSeen {
		t.Run(o.name, func(t *testing.T) {
			b := newBox(t)
			inside := b.NetNS("c1")
			b.Sh(o.before)
			definition, err := b.create(o.network)
			if o.name == needsVLANs && !b.hasVLANs() {
				if err == nil || !strings.Contains(definition, "CONFIG_BRIDGE_VLAN_FILTERING") {
					t.Errorf("create: %v: %s", err, definition)
				}
				return // a virtual machine of TestKernels has them
			}
			if err != nil {
				t.Fatalf("create: %v: %s", err, definition)
			}
			before := b.state()
			if out, err := b.exec("setup", "c1", definition, o.network); err != nil {
				t.Fatalf("setup: %v: %s", err, out)
			}
			seen(t, inside, o.inside)
			seen(t, b.Place, o.host)
			if out, err := b.exec("teardown", "c1", definition, o.network); err != nil || out != "" {
				t.Errorf("teardown: %v: %s", err, out)
			}
			b.same(before)
			if left := inside.Sh("ip route; ip -6 route"); strings.TrimSpace(left) != "" {
				t.Errorf("routes are left in the container: %s", left)
			}
		})
	}
}

// seen runs commands, each with a text that its output must have, or after ! must not.
func seen(t *testing.T, place lab.Place, commands []string) {
	t.Helper()
	for pair := range slices.Chunk(commands, 2) {
		text, not := strings.CutPrefix(pair[1], "!")
		if out := place.Sh(pair[0]); strings.Contains(out, text) == not {
			t.Errorf("%s prints %q: %v\n%s", pair[0], text, !not, out)
		}
	}
}

// What Linux can't publish is said once where the rest can be, and refused alone; and what
// can't be on an unmanaged bridge is refused by name.
func TestNetavarkOptionsThatCantBe(t *testing.T) {
	b := newBox(t)
	b.NetNS("c1")
	n := network{keys: subnet5, ports: port("127.0.0.1") + "," + port("::1") + "," + strings.ReplaceAll(port("::1")+","+port("0.0.0.0"), "8080", "8081")}
	definition, err := b.create(n)
	if err != nil {
		t.Fatal(definition, err)
	}
	if out, err := b.exec("setup", "c1", definition, n); err != nil || strings.Count(out, "Linux translates nothing") != 1 || !strings.Contains(out, "::1") {
		t.Errorf("%v: %s", err, out)
	}
	b.exec("teardown", "c1", definition, n)
	for want, bad := range map[string]network{
		"port 8080 can't be published on hostIP ::1":               {ports: port("::1")},
		"bridge none does not exist":                               {keys: `,"network_interface":"none","options":{"mode":"unmanaged"}`},
		"publish ports by a second network":                        {keys: `,"network_interface":"none","options":{"mode":"unmanaged"}`, ports: port("")},
		"interfaces [up0] of the host belong to others":            {container: `"options":{"host_interface_name":"up0"}`},
		"address 10.99.5.1 is a gateway":                           {container: `"static_ips":["10.99.5.7","10.99.5.1"]`},
		"flatnet has no such option of a container, only host_int": {container: `"options":{"bclim":"1"}`},
	} {
		bad.keys = subnet5 + bad.keys
		definition, err := b.create(bad)
		if err != nil {
			t.Fatal(definition, err)
		}
		before := b.state()
		if out, err := b.exec("setup", "c1", definition, bad); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v, want %q", out, err, want)
		}
		b.Sh("ip link del flatnet-96089c9 2>/dev/null || true") // a bridge is shared, and stays after a failed setup
		b.same(before)
	}
}

// Networks of several VLANs share a bridge, as with netavark, and nothing else does.
func TestNetavarkVLANsShareABridge(t *testing.T) {
	b := newBox(t)
	if !b.hasVLANs() {
		t.Skip("the kernel has no VLAN filtering")
	}
	n10 := network{keys: `"subnets":[{"subnet":"10.99.10.0/24"}],"network_interface":"br-v","options":{"vlan":"10"}`}
	first, err := b.create(n10)
	if err != nil {
		t.Fatal(first, err)
	}
	b.Write("/etc/containers/networks/opt.json", first)
	for vlan, want := range map[string]string{"20": "", "10": "interface br-v is the one of network opt", "": ""} {
		keys := `"subnets":[{"subnet":"10.99.20.0/24"}],"network_interface":"br-v","options":{"vlan":"` + vlan + `"}`
		if vlan == "" {
			keys = strings.Replace(keys, `"vlan":""`, "", 1)
		}
		cmd := b.Cmd(program, "create")
		cmd.Stdin = strings.NewReader(`{"name":"other","id":"2","driver":"flatnet",` + keys + `}`)
		if out, err := cmd.Output(); (err == nil) != (want == "") || !strings.Contains(string(out), want) {
			t.Errorf("VLAN %q: %v: %s", vlan, err, out)
		}
	}
	second := strings.NewReplacer(`"opt"`, `"other"`, "10.99.10.", "10.99.20.", `"vlan":"10"`, `"vlan":"20"`).Replace(first)
	c1, c2 := b.NetNS("c1"), b.NetNS("c2")
	for id, definition := range map[string]string{"c1": first, "c2": second} {
		if out, err := b.exec("setup", id, definition, network{}); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for _, p := range []struct {
		from  lab.Place
		to    string
		reach bool
	}{{c1, "10.99.10.1", true}, {c2, "10.99.20.1", true}, {c1, "10.99.20.2", false}, {c2, "10.99.10.2", false}} {
		if err := p.from.Ping(p.to); (err == nil) != p.reach {
			t.Errorf("ping %s: %v", p.to, err)
		}
	}
}
