package netavark

import (
	"io"
	"strings"
	"testing"

	"flatnet/internal/strictjson"
)

func TestArguments(t *testing.T) {
	for _, args := range [][]string{
		nil, {""}, {"update"}, {"Create"}, {"setup"}, {"setup", ""}, {"setup", netns, "more"}, {"teardown"},
		{"teardown", netns, netns}, {"create", "network"}, {"info", "more"},
	} {
		b := newBench(t)
		b.refused(t, "argument", least, args...)
		if b.host.network.Name != "" || b.host.deleted != nil {
			t.Errorf("%q: something was done", args)
		}
	}
}

// Inputs of the commands: a network to create with further keys, one with those
// subnets; a setup with other options of its interface, and one with a port.
func ofNetwork(keys string) string { return `{"name":"n","id":"1","driver":"flatnet"` + keys + `}` }
func ofSubnets(s string) string    { return ofNetwork(`,"subnets":[` + s + `]`) }
func ofOptions(keys string) string { return strings.Replace(least, `"interface_name":"eth0"`, keys, 1) }
func ofPort(keys string) string    { return `{"port_mappings":[{` + keys + `}],` + least[1:] }

// malformed are inputs, and the error of each.
var malformed = []struct{ command, stdin, want string }{
	{"create", ``, "empty"},
	{"create", `null`, "want a JSON object"},
	{"create", `[]`, "want a JSON object"},
	{"create", `{"name":"n"`, "unexpected"},
	{"create", `{"name":"n"}{}`, "something follows"},
	{"create", `{"name":"n","name":"m"}`, `"name" is given twice`},
	{"create", `{"name":"n","Name":"m"}`, "given twice"},
	{"create", `{"name":"allocations.json","id":"1","driver":"flatnet"}`, `network name "allocations.json" is the lease file's`},
	{"create", "{\"name\":\"\xff\"}", "UTF-8"},
	{"create", `{"name":"` + strings.Repeat("x", strictjson.MaxSize) + `"}`, "more than"},
	{"create", strings.Repeat(`{"a":`, 40) + `1` + strings.Repeat(`}`, 40), "nested deeper"},
	{"create", `{}`, "name: must not be empty"},
	{"create", `{"name":7}`, "name: want a string, got 7"},
	{"create", `{"name":"a/b"}`, `name: "a/b"`},
	{"create", `{"name":"../n"}`, `name: "../n"`},
	{"create", `{"name":"` + strings.Repeat("x", 65) + `"}`, "name: "},
	{"create", ofNetwork(`,"driver":1`), `"driver" is given twice`},
	{"create", ofNetwork(`,"network_interface":"a b"`), `network_interface: "a b"`},
	{"create", ofNetwork(`,"network_interface":"abcdefghijklmnop"`), "network_interface: "},
	{"create", ofNetwork(`,"network_interface":"lo"`), `network_interface: "lo" is reserved`},
	{"create", ofNetwork(`,"network_interface":"all"`), `network_interface: "all" is reserved`},
	{"create", ofNetwork(`,"internal":"yes"`), `internal: want true or false, got "yes"`},
	{"create", ofNetwork(`,"ipv6_enabled":1`), "ipv6_enabled: want true or false"},
	{"create", ofNetwork(`,"dns_enabled":[]`), "dns_enabled: want true or false"},
	{"create", ofNetwork(`,"dns_enabled":true,"network_dns_servers":["x"]`), `network_dns_servers[0]: "x" is not an IP address`},
	{"create", ofNetwork(`,"dns_enabled":true,"network_dns_servers":"9.9.9.9"`), "network_dns_servers: want a list"},
	{"create", ofNetwork(`,"network_dns_servers":["9.9.9.9"]`), "network_dns_servers: they require dns_enabled"},
	{"create", ofNetwork(`,"options":7`), "options: want an object, got 7"},
	{"create", ofNetwork(`,"options":{"foo":"1"}`), "options.foo: flatnet has no such option"},
	{"create", ofNetwork(`,"options":{"isolte":"true"}`), `options.isolte: flatnet has no such option; did you mean "isolate"?`},
	{"create", ofNetwork(`,"options":{"MTU":"1400"}`), `options.MTU: flatnet has no such option; did you mean "mtu"?`},
	{"create", ofNetwork(`,"options":{"vlan":"4095","mtu":"1400"}`), "options.vlan: 4095 is more than 4094"},
	{"create", ofNetwork(`,"options":{"vlan":"x"}`), `options.vlan: "x" is not a number`},
	{"create", ofNetwork(`,"network_interface":"br-of-14-bytes","options":{"vlan":"1"}`), `options.vlan: the bridge's name is too long for the interface "br-of-14-bytes.1"`},
	{"create", ofNetwork(`,"options":{"vrf":"v"}`), "options.vrf: flatnet has no such option; set allowOverlap=true, and run ip link set BRIDGE master VRF"},
	{"create", ofNetwork(`,"options":{"outbound_addr4":"192.0.2.9"}`), "options.outbound_addr4: flatnet has no such option; set masquerade=false"},
	{"create", ofNetwork(`,"options":{"com.docker.network.bridge.enable_icc":"false"}`), "put containers that must not meet into networks of their own"},
	{"create", ofNetwork(`,"options":{"metric":"-1"}`), `options.metric: "-1" is not a number`},
	{"create", ofNetwork(`,"options":{"metric":"4294967296"}`), "options.metric: 4294967296 is more than 4294967295"},
	{"create", ofNetwork(`,"options":{"no_default_route":"maybe"}`), `options.no_default_route: "maybe" is none of true, false`},
	{"create", ofNetwork(`,"options":{"masquerade":""}`), `options.masquerade: "" is none of true, false`},
	{"create", ofNetwork(`,"options":{"no_masquerade":"10.1.0.0/16,x"}`), `options.no_masquerade: "10.1.0.0/16,x" is not a list of subnets`},
	{"create", ofNetwork(`,"options":{"no_masquerade":"10.1.0.0"}`), "options.no_masquerade: "},
	{"create", ofNetwork(`,"options":{"dns":"yes"}`), `options.dns: "yes" is none of true, false`},
	{"create", ofNetwork(`,"options":{"com.docker.network.bridge.name":"a b"}`), `"a b" is not an interface name`},
	{"create", ofNetwork(`,"network_interface":"br1","options":{"com.docker.network.bridge.name":"br2"}`), `"br2" is not the network_interface, "br1"`},
	{"create", ofNetwork(`,"options":{"com.docker.network.driver.mtu":"1400","mtu":"1500"}`), "options.mtu: 1500 is not the 1400 of another option"},
	{"create", ofNetwork(`,"options":{"mode":"bridge"}`), `options.mode: "bridge" is none of managed, unmanaged`},
	{"create", ofNetwork(`,"options":{"mode":"unmanaged"}`), "options.mode: unmanaged requires the name of a bridge, --interface-name"},
	{"create", ofNetwork(`,"network_interface":"br1","options":{"mode":"unmanaged","inbound":"published"}`), "options.inbound: the bridge is unmanaged"},
	{"create", ofNetwork(`,"network_interface":"br1","dns_enabled":true,"network_dns_servers":["9.9.9.9"],"options":{"mode":"unmanaged"}`), "network_dns_servers: the bridge is unmanaged"},
	{"create", ofNetwork(`,"options":{"":""}`), "options.: "},
	{"create", ofNetwork(`,"options":{"mtu":1400}`), "options.mtu: want a string, got 1400"},
	{"create", ofNetwork(`,"options":{"mtu":""}`), `options.mtu: "" is not a number`},
	{"create", ofNetwork(`,"options":{"mtu":"67"}`), `options.mtu: 67 is neither 0 nor from 68`},
	{"create", ofNetwork(`,"options":{"mtu":"65536"}`), `options.mtu: 65536 is`},
	{"create", ofNetwork(`,"options":{"mtu":"-1"}`), `options.mtu: "-1"`},
	{"create", ofNetwork(`,"options":{"mtu":"1400 "}`), `options.mtu: "1400 "`},
	{"create", ofNetwork(`,"options":{"isolate":"yes"}`), `options.isolate: "yes" is none of`},
	{"create", ofNetwork(`,"options":{"isolate":true}`), "options.isolate: want a string"},
	{"create", ofNetwork(`,"options":{"forwardAccept":"yes"}`), `options.forwardAccept: "yes" is none of`},
	{"create", ofNetwork(`,"options":{"allowOverlap":"2"}`), `options.allowOverlap: "2" is none of`},
	{"create", ofNetwork(`,"options":{"inbound":"none"}`), `options.inbound: "none" is none of any, published`},
	{"create", ofNetwork(`,"ipam_options":{"driver":"dhcp"}`), `ipam_options.driver: "dhcp" can't be used`},
	{"create", ofNetwork(`,"ipam_options":{"driver":"none"}`), `ipam_options.driver: "none"`},
	{"create", ofNetwork(`,"ipam_options":"host-local"`), "ipam_options: want an object"},
	{"create", ofNetwork(`,"subnets":{}`), "subnets: want a list"},
	{"create", ofSubnets(`7`), "subnets[0]: want an object, got 7"},
	{"create", ofSubnets(`{}`), `subnets[0].subnet: "" is not a subnet`},
	{"create", ofSubnets(`{"subnet":"10.1.2.0"}`), `subnets[0].subnet: "10.1.2.0"`},
	{"create", ofSubnets(`{"subnet":"10.1.2.0/33"}`), `subnets[0].subnet: "10.1.2.0/33"`},
	{"create", ofSubnets(`{"subnet":"::ffff:10.1.2.0/120"}`), "subnets[0].subnet: "},
	{"create", ofSubnets(`{"subnet":"127.0.0.0/8"}`), "subnet 127.0.0.0/8"},
	{"create", ofSubnets(`{"subnet":"224.0.0.0/24"}`), "subnet 224.0.0.0/24"},
	{"create", ofSubnets(`{"subnet":"0.0.0.0/0"}`), "subnet 0.0.0.0/0"},
	{"create", ofSubnets(`{"subnet":"10.1.2.1/32"}`), "subnet 10.1.2.1/32"},
	{"create", ofSubnets(`{"subnet":"10.1.2.0/24"},{"subnet":"10.1.2.0/24"}`), "overlap"},
	{"create", ofSubnets(`{"subnet":"10.1.2.0/24","gateway":"x"}`), `subnets[0].gateway: "x" is not an IP address`},
	{"create", ofSubnets(`{"subnet":"10.1.2.0/24","gateway":"fe80::1%eth0"}`), "subnets[0].gateway: "},
	{"create", ofSubnets(`{"subnet":"10.1.2.0/24","gateway":"10.1.3.1"}`), "10.1.3.1"},
	{"create", ofSubnets(`{"subnet":"10.1.2.0/24","gateway":"10.1.2.0"}`), "10.1.2.0"},
	{"create", ofSubnets(`{"subnet":"10.1.2.0/24","gateway":"10.1.2.255"}`), "10.1.2.255"},
	{"create", ofSubnets(`{"subnet":"10.1.2.0/24","lease_range":{"start_ip":"10.1.2.9","end_ip":"10.1.2.8"}}`), "10.1.2.8"},
	{"create", ofSubnets(`{"subnet":"10.1.2.0/24","lease_range":{"start_ip":"10.1.3.9"}}`), "10.1.3.9"},
	{"create", ofSubnets(`{"subnet":"10.1.2.0/24","lease_range":{"start_ip":"x"}}`), `subnets[0].lease_range.start_ip: "x"`},
	{"create", ofSubnets(`{"subnet":"10.1.2.0/24","lease_range":"10.1.2.9"}`), "subnets[0].lease_range: want an object"},
	{"create", ofNetwork(`,"routes":[{"gateway":"10.87.2.9"}]`), `routes[0].destination: "" is not a subnet`},
	{"create", ofNetwork(`,"routes":[{"destination":"10.5.0.0/16"}]`), `routes[0].gateway: "" is not an IP address`},
	{"create", ofNetwork(`,"routes":[{"destination":"10.5.0.0/16","gateway":"fd00::1"}]`), "routes[0].gateway: fd00::1 is not of the family"},
	{"create", ofNetwork(`,"routes":[{"destination":"10.5.0.0/16","gateway":"10.87.2.9","metric":-1}]`), "routes[0].metric: "},
	{"create", ofNetwork(`,"routes":[{"destination":"10.5.0.0/16","gateway":"10.87.2.9","route_type":"blackhole"}]`), "routes[0].gateway: a route of type blackhole has none"},
	{"create", ofNetwork(`,"routes":[{"destination":"10.5.0.0/16","route_type":"throw"}]`), `routes[0].route_type: "throw" is none of unicast, blackhole`},

	{"setup", `{}`, "network name"},
	{"setup", `{"container_id":"c","network":{"name":"n"}}`, "interface name"},
	{"setup", `{"network":{"name":"n"},"network_options":{"interface_name":"eth0"}}`, "container ID"},
	{"setup", `{"container_id":"c","network":7}`, "network: want an object"},
	{"setup", strings.Replace(least, `"c1"`, `"a/b"`, 1), "container ID"},
	{"setup", strings.Replace(least, `"c1"`, `"`+strings.Repeat("c", 101)+`"`, 1), "container ID"},
	{"setup", strings.Replace(least, `"network_interface":"br9",`, ``, 1), "network.network_interface: must not be empty"},
	{"setup", strings.Replace(least, `[{"subnet":"10.99.0.0/24"}]`, `null`, 1), "network.subnets: must not be empty"},
	{"setup", strings.Replace(least, `10.99.0.0/24`, `10.99.0.0/32`, 1), "subnet 10.99.0.0/32 has no room"},
	{"setup", change(`"options":{"mtu":"12"}`), `network.options.mtu: 12 is`},
	{"setup", ofOptions(`"interface_name":""`), "interface name: must not be empty"},
	{"setup", ofOptions(`"interface_name":"a/b"`), `interface name: "a/b"`},
	{"setup", ofOptions(`"interface_name":"lo"`), `network_options.interface_name: "lo"`},
	{"setup", ofOptions(`"interface_name":"default"`), `network_options.interface_name: "default"`},
	{"setup", ofOptions(`"interface_name":"eth0","static_ips":"10.99.0.7"`), "network_options.static_ips: want a list"},
	{"setup", ofOptions(`"interface_name":"eth0","static_ips":["x"]`), `network_options.static_ips[0]: "x"`},
	{"setup", ofOptions(`"interface_name":"eth0","static_ips":["10.99.0.7/24"]`), `network_options.static_ips[0]: "10.99.0.7/24"`},
	{"setup", ofOptions(`"interface_name":"eth0","static_mac":"x"`), `network_options.static_mac: "x"`},
	{"setup", ofOptions(`"interface_name":"eth0","static_mac":"01:00:5e:00:00:01"`), "multicast"},
	{"setup", ofOptions(`"interface_name":"eth0","static_mac":"00:00:00:00:00:00"`), "all zero"},
	{"setup", ofOptions(`"interface_name":"eth0","static_mac":"02:00:00:00:00:00:00:01"`), "network_options.static_mac: "},
	{"setup", ofOptions(`"interface_name":"eth0","options":{"weird":"x"}`), "network_options.options.weird: flatnet has no such option of a container"},
	{"setup", ofOptions(`"interface_name":"eth0","options":{"host_interface_name":"a/b"}`), `network_options.options.host_interface_name: "a/b"`},
	{"setup", change(`"options":{"mode":"unmanaged"}`), "network.network_interface: bridge br9 does not exist"},
	{"setup", strings.Replace(change(`"options":{"mode":"unmanaged"}`), `{"container_id"`, `{"port_mappings":[{"host_port":80,"container_port":80}],"container_id"`, 1), "port_mappings: network n has the option mode=unmanaged"},
	{"setup", change(`"options":{"foo":"1"}`), "network.options.foo: flatnet has no such option"},
	{"setup", change(`"network_dns_servers":["9.9.9.9"]`), "network.network_dns_servers: they require dns_enabled"},
	{"setup", strings.Replace(change(`"dns_enabled":true`), `"name":"`, `"name":"aardvark.pid","x":"`, 1), `"aardvark.pid" can't be a network with container names`},
	{"setup", strings.Replace(change(`"dns_enabled":true`), `"eth0"`, `"eth0","aliases":[7]`, 1), "network_options.aliases[0]: want a string"},
	{"setup", ofPort(`"container_port":80`), "port_mappings[0].host_port: must be a number from 1"},
	{"setup", ofPort(`"host_port":80`), "port_mappings[0].container_port: must be a number from 1"},
	{"setup", ofPort(`"host_port":65536,"container_port":80`), "port_mappings[0].host_port: "},
	{"setup", ofPort(`"host_port":"80","container_port":80`), `port_mappings[0].host_port: want a number, got "80"`},
	{"setup", ofPort(`"host_port":-1,"container_port":80`), "port_mappings[0].host_port: "},
	{"setup", ofPort(`"host_port":1.5,"container_port":80`), "port_mappings[0].host_port: "},
	{"setup", ofPort(`"host_port":65535,"container_port":80,"range":2`), "port_mappings[0].range: 2 ports from 65535"},
	{"setup", ofPort(`"host_port":80,"container_port":65535,"range":2`), "port_mappings[0].range: 2 ports from 65535"},
	{"setup", ofPort(`"host_port":80,"container_port":80,"range":65536`), "port_mappings[0].range: "},
	{"setup", ofPort(`"host_port":1,"container_port":1,"range":65535,"protocol":"tcp,udp,sctp,tcp"`), "port_mappings[0].range: more than 196605 ports"},
	{"setup", ofPort(`"host_port":80,"container_port":80,"protocol":"icmp"`), `port_mappings[0].protocol: "icmp" is none of`},
	{"setup", ofPort(`"host_port":80,"container_port":80,"protocol":"tcp,"`), `port_mappings[0].protocol: "" is none of`},
	{"setup", ofPort(`"host_port":80,"container_port":80,"protocol":"TCP"`), `port_mappings[0].protocol: "TCP" is none of`},
	{"setup", ofPort(`"host_port":80,"container_port":80,"host_ip":"localhost"`), `port_mappings[0].host_ip: "localhost"`},
	{"setup", strings.Replace(least, `{"container_id"`, `{"port_mappings":{},"container_id"`, 1), "port_mappings: want a list"},

	{"teardown", `{}`, "network name"},
	{"teardown", `{"container_id":7}`, "container_id: want a string"},
	{"teardown", strings.Replace(least, `"n"`, `"a/b"`, 1), `"a/b"`},
	{"teardown", strings.Replace(least, `"eth0"`, `"a/b"`, 1), `"a/b"`},
	{"teardown", strings.Replace(least, `"c1"`, `"../c"`, 1), `"../c"`},
}

// What is wrong is named by its key and value, and nothing is done.
func TestMalformed(t *testing.T) {
	for _, c := range malformed {

		t.Run(c.command+" "+c.want, func(t *testing.T) {
			b := newBench(t)
			args := []string{c.command}
			if c.command != "create" {
				args = append(args, netns)
			}
			b.refused(t, c.want, c.stdin, args...)
			if b.host.network.Name != "" || b.host.deleted != nil || b.names.added != nil {
				t.Error("something was done")
			}
		})
	}
}

func TestStdinThatBreaks(t *testing.T) {
	b := newBench(t)
	var out strings.Builder
	status := b.Main([]string{"create"}, broken{}, &out)
	if status != 1 || !strings.Contains(out.String(), io.ErrUnexpectedEOF.Error()) {
		t.Errorf("status %d: %s", status, out.String())
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
