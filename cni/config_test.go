package cni

import (
	"net/netip"
	"reflect"
	"testing"

	"flatnet/bridge/model"
)

// podman is what Podman 4.3.1 sends for a network with all of flatnet's usual
// keys and a container with an alias.
const podman = `{"cniVersion":"1.0.0","name":"labnet","type":"flatnet","bridge":"lab0","mtu":1400,"ipMasq":true,
 "isGateway":true,"isDefaultGateway":true,"forceAddress":false,"hairpinMode":true,"promiscMode":false,
 "capabilities":{"aliases":true,"ips":true,"mac":true,"portMappings":true},
 "dns":{"nameservers":["10.99.1.1"],"domain":"lab.internal","search":["lab.internal"],"options":["ndots:1"]},
 "ipam":{"type":"flatnet-ipam","ranges":[[{"subnet":"10.99.1.0/24","rangeStart":"10.99.1.65","rangeEnd":"10.99.1.127","gateway":"10.99.1.1"}]],
  "routes":[{"dst":"0.0.0.0/0"},{"dst":"192.0.2.0/24","gw":"10.99.1.1"}],"dataDir":"/var/lib/flatnet/ipam"},
 "runtimeConfig":{"aliases":{"labnet":["al1","0d8d354710ce"]}}}`

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr  { return netip.MustParseAddr(s) }

// parsed returns the Config that a valid call comes to.
func parsed(t *testing.T, env map[string]string, stdin string) model.Config {
	t.Helper()
	var f fake
	if status, out := call(&f, env, stdin); status != 0 {
		t.Fatalf("%s\n%s", stdin, out)
	}
	if c := f.config.IPAM; (string(c.Conf) == stdin) != (c.Type != "") {
		t.Fatalf("Conf is %s", c.Conf)
	}
	return *f.config
}

func TestMinimalConfig(t *testing.T) {
	got := parsed(t, environ("ADD"), minimal)
	want := model.Config{
		Network: model.Network{
			Name: "flatnet", Bridge: "flatnet-br0", IsGateway: true, IsDefaultGateway: true, IPMasq: true, Isolated: true,
			Flat: []netip.Prefix{pfx("10.87.0.0/16")},
		},
		IPAM: model.IPAM{Sets: [][]model.Range{{{Subnet: pfx("10.87.1.0/24")}}}},
		Request: model.Request{
			Key:   model.Key{Network: "flatnet", ContainerID: "0123456789abcdef", IfName: "eth0"},
			NetNS: "/run/netns/c1",
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

func TestPodmanConfig(t *testing.T) {
	env := environ("ADD", "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=c2;MAC=02:aa:bb:cc:dd:01;IP=10.99.1.77")
	got := parsed(t, env, podman)
	want := model.Config{
		Network: model.Network{
			Name: "labnet", Bridge: "lab0", MTU: 1400, IsGateway: true, IsDefaultGateway: true, IPMasq: true, HairpinMode: true, Isolated: true,
			Flat:   []netip.Prefix{pfx("10.87.0.0/16")},
			Routes: []model.Route{{Dst: pfx("0.0.0.0/0")}, {Dst: pfx("192.0.2.0/24"), Gateway: addr("10.99.1.1")}},
			DNS: model.DNS{Nameservers: []string{"10.99.1.1"}, Domain: "lab.internal",
				Search: []string{"lab.internal"}, Options: []string{"ndots:1"}},
		},
		IPAM: model.IPAM{
			Sets:    [][]model.Range{{{Subnet: pfx("10.99.1.0/24"), Start: addr("10.99.1.65"), End: addr("10.99.1.127"), Gateway: addr("10.99.1.1")}}},
			DataDir: "/var/lib/flatnet/ipam",
		},
		Request: model.Request{
			Key:   model.Key{Network: "labnet", ContainerID: "0123456789abcdef", IfName: "eth0"},
			NetNS: "/run/netns/c1", MAC: model.HardwareAddr{2, 0xaa, 0xbb, 0xcc, 0xdd, 1}, IPs: []netip.Addr{addr("10.99.1.77")},
			Names: []string{"c2", "al1", "0d8d354710ce"},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

// TestGatewayKeys: the defaults follow the address management, so that a
// configuration of the reference bridge plugin works with another type.
func TestGatewayKeys(t *testing.T) {
	const own, other = "", `,"ipam":{"type":"host-local"}`
	for _, tt := range []struct {
		keys                      string
		gateway, defaultGw, ipMaq bool
	}{
		{own, true, true, true},
		{`,"ipam":{}`, true, true, true},
		{`,"ipam":{"type":"flatnet-ipam"}`, true, true, true},
		{own + `,"isGateway":false`, false, false, true},
		{own + `,"isDefaultGateway":false,"ipMasq":false`, true, false, false},
		{own + `,"isGateway":false,"isDefaultGateway":true`, true, true, true},
		{own + `,"isGateway":null`, true, true, true},
		{other, false, false, false},
		{other + `,"isGateway":true`, true, false, false},
		{other + `,"isDefaultGateway":true`, true, true, false},
		{other + `,"isGateway":false,"isDefaultGateway":true,"ipMasq":true`, true, true, true},
	} {
		n := parsed(t, environ("ADD"), `{"name":"n","type":"flatnet"`+tt.keys+`}`).Network
		if n.IsGateway != tt.gateway || n.IsDefaultGateway != tt.defaultGw || n.IPMasq != tt.ipMaq {
			t.Errorf("%s: gateway %v, default %v, masquerade %v", tt.keys, n.IsGateway, n.IsDefaultGateway, n.IPMasq)
		}
	}
}

func TestRangeSets(t *testing.T) {
	for _, tt := range []struct {
		name, keys string
		want       [][]model.Range
	}{
		{"subnet", `"ipam":{"subnet":"10.1.2.0/24"}`, [][]model.Range{{{Subnet: pfx("10.1.2.0/24")}}}},
		{"null subnet", `"ipam":{"subnet":null}`, [][]model.Range{{{Subnet: pfx("10.87.1.0/24")}}}},
		{"default subnet's gateway", `"ipam":{"gateway":"10.87.1.254"}`,
			[][]model.Range{{{Subnet: pfx("10.87.1.0/24"), Gateway: addr("10.87.1.254")}}}},
		{"bounds", `"ipam":{"subnet":"10.1.2.0/24","rangeStart":"10.1.2.5","rangeEnd":"10.1.2.5","gateway":"10.1.2.1"}`,
			[][]model.Range{{{Subnet: pfx("10.1.2.0/24"), Start: addr("10.1.2.5"), End: addr("10.1.2.5"), Gateway: addr("10.1.2.1")}}}},
		{"empty gateway", `"ipam":{"subnet":"10.1.2.0/24","gateway":""}`, [][]model.Range{{{Subnet: pfx("10.1.2.0/24")}}}},
		{"ranges alone", `"ipam":{"ranges":[[{"subnet":"10.1.2.0/24"},{"subnet":"10.1.4.0/24"}],[{"subnet":"fd00::/64"}]]}`,
			[][]model.Range{{{Subnet: pfx("10.1.2.0/24")}, {Subnet: pfx("10.1.4.0/24")}}, {{Subnet: pfx("fd00::/64")}}}},
		{"subnet before ranges", `"ipam":{"ranges":[[{"subnet":"fd00::/64"}]],"subnet":"10.1.2.0/24"}`,
			[][]model.Range{{{Subnet: pfx("10.1.2.0/24")}}, {{Subnet: pfx("fd00::/64")}}}},
		{"runtime's before all", `"ipam":{"subnet":"10.1.2.0/24"},"runtimeConfig":{"ipRanges":[[{"subnet":"fd00::/64"}]]}`,
			[][]model.Range{{{Subnet: pfx("fd00::/64")}}, {{Subnet: pfx("10.1.2.0/24")}}}},
		{"runtime's alone", `"runtimeConfig":{"ipRanges":[[{"subnet":"fd00::/64"}]]}`, [][]model.Range{{{Subnet: pfx("fd00::/64")}}}},
		{"empty ranges", `"ipam":{"ranges":[]}`, [][]model.Range{{{Subnet: pfx("10.87.1.0/24")}}}},
		{"delegated", `"ipam":{"type":"static","subnet":17,"ranges":"x","routes":"y","dataDir":"z","addresses":[]}`, nil},
	} {
		got := parsed(t, environ("ADD"), `{"cniVersion":"1.0.0","name":"n",`+tt.keys+`}`).IPAM.Sets
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestIPAMKeys(t *testing.T) {
	got := parsed(t, environ("ADD"), `{"name":"n","ipam":{"dataDir":"/x/y","resolvConf":"/etc/resolv.conf"}}`).IPAM
	if got.Type != "" || got.DataDir != "/x/y" || got.ResolvConf != "/etc/resolv.conf" {
		t.Errorf("own: %+v", got)
	}
	got = parsed(t, environ("ADD"), `{"name":"n","ipam":{"type":"host-local","dataDir":"/x/y","resolvConf":"z"}}`).IPAM
	got.Conf = nil
	if want := (model.IPAM{Type: "host-local", Path: "/usr/lib/cni"}); !reflect.DeepEqual(got, want) {
		t.Errorf("delegated: %+v", got)
	}
}

func TestRoutes(t *testing.T) {
	n := parsed(t, environ("ADD"), `{"name":"n","ipam":{"routes":[{"dst":"::/0","gw":""},
		{"dst":"10.0.0.0/8","gw":"10.87.1.9","mtu":1400,"advmss":1360,"priority":4294967295,"table":0,"scope":253}]}}`).Network
	want := []model.Route{{Dst: pfx("::/0")}, {Dst: pfx("10.0.0.0/8"), Gateway: addr("10.87.1.9"),
		MTU: 1400, AdvMSS: 1360, Priority: 4294967295, Table: ptr(uint32(0)), Scope: ptr(uint8(253))}}
	if !reflect.DeepEqual(n.Routes, want) {
		t.Errorf("got %+v, want %+v", n.Routes, want)
	}
}

func TestNetworkKeys(t *testing.T) {
	for _, tt := range []struct {
		keys string
		get  func(n model.Network) any
		want any
	}{
		{`"bridge":"br0"`, func(n model.Network) any { return n.Bridge }, "br0"},
		{`"mtu":0`, func(n model.Network) any { return n.MTU }, uint32(0)},
		{`"mtu":68`, func(n model.Network) any { return n.MTU }, uint32(68)},
		{`"mtu":65535`, func(n model.Network) any { return n.MTU }, uint32(65535)},
		{`"mtu":1280,"ipam":{"subnet":"fd00::/64"}`, func(n model.Network) any { return n.MTU }, uint32(1280)},
		{`"isolation":"none"`, func(n model.Network) any { return n.Isolated }, false},
		{`"isolation":"network"`, func(n model.Network) any { return n.Isolated }, true},
		{`"inbound":"any"`, func(n model.Network) any { return n.PublishedOnly }, false},
		{`"inbound":"published"`, func(n model.Network) any { return n.PublishedOnly }, true},
		{`"internal":true`, func(n model.Network) any { return n.Internal }, true},
		{`"macspoofchk":true`, func(n model.Network) any { return n.SpoofCheck }, true},
		{`"portIsolation":true`, func(n model.Network) any { return n.PortIsolated }, true},
		{`"allowOverlap":true`, func(n model.Network) any { return n.AllowOverlap }, true},
		{`"forwardAccept":true`, func(n model.Network) any { return n.ForwardAccept }, true},
		{`"forceAddress":true`, func(n model.Network) any { return n.ForceAddress }, true},
		{`"promiscMode":true`, func(n model.Network) any { return n.PromiscMode }, true},
		{`"HAIRPINMODE":true`, func(n model.Network) any { return n.HairpinMode }, true},
		{`"noMasq":[]`, func(n model.Network) any { return len(n.Flat) }, 0},
		{`"noMasq":["fd00::/8","10.0.0.0/8"]`, func(n model.Network) any { return n.Flat[1] }, pfx("10.0.0.0/8")},
		{`"dns":{"nameservers":["1.1.1.1"],"search":["a"]},"runtimeConfig":{"dns":{"servers":["fe80::1%eth0"],"options":["o"]}}`,
			func(n model.Network) any { return n.DNS },
			model.DNS{Nameservers: []string{"fe80::1%eth0"}, Search: []string{"a"}, Options: []string{"o"}}},
		{`"dns":{"search":["a"],"nameservers":["1.1.1.1"]},"runtimeConfig":{"dns":{"searches":["b"],"servers":[]}}`,
			func(n model.Network) any { return n.DNS }, model.DNS{Nameservers: []string{"1.1.1.1"}, Search: []string{"b"}}},
		{`"vlan":0,"vlanTrunk":[],"macspoofchk":false,"portIsolation":null,"ipMasqBackend":"nftables","unknown":{"x":1},"keyA":17,
			"runtimeConfig":{"portMappings":[],"bandwidth":{},"cgroupPath":"/x"},"args":{"other":1,"cni":{"labels":[{"key":"a"}]}}`,
			func(n model.Network) any { return n.Name }, "n"},
	} {
		if got := tt.get(parsed(t, environ("ADD"), `{"name":"n",`+tt.keys+`}`).Network); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.keys, got, tt.want)
		}
	}
}

func TestWishes(t *testing.T) {
	mac := func(last byte) model.HardwareAddr { return model.HardwareAddr{2, 0, 0, 0, 0, last} }
	for _, tt := range []struct {
		name, args, keys string
		mac              model.HardwareAddr
		ips              []netip.Addr
	}{
		{"none", "", ``, model.HardwareAddr{}, nil},
		{"empty", "MAC=;IP=", `,"args":{"cni":{"mac":""}},"runtimeConfig":{"mac":"","ips":[]}`, model.HardwareAddr{}, nil},
		{"environment", "MAC=02:00:00:00:00:01;IP=10.87.1.5/24", ``, mac(1), []netip.Addr{addr("10.87.1.5")}},
		{"list", "IP=10.87.1.5,fd00::5/64", ``, model.HardwareAddr{}, []netip.Addr{addr("10.87.1.5"), addr("fd00::5")}},
		{"args before environment", "MAC=02:00:00:00:00:01;IP=10.87.1.5", `,"args":{"cni":{"mac":"02:00:00:00:00:02","ips":["10.87.1.6"]}}`,
			mac(2), []netip.Addr{addr("10.87.1.5"), addr("10.87.1.6")}},
		{"runtime before all", "MAC=02:00:00:00:00:01",
			`,"args":{"cni":{"mac":"02:00:00:00:00:02","ips":["10.87.1.6"]}},"runtimeConfig":{"mac":"02-00-00-00-00-03","ips":["10.87.1.7/16"]}`,
			mac(3), []netip.Addr{addr("10.87.1.6"), addr("10.87.1.7")}},
		{"same address twice", "IP=10.87.1.5", `,"args":{"cni":{"ips":["10.87.1.5/24"]}},"runtimeConfig":{"ips":["::ffff:10.87.1.5"]}`,
			model.HardwareAddr{}, []netip.Addr{addr("10.87.1.5"), addr("10.87.1.5"), addr("10.87.1.5")}},
		{"known keys", "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=d", ``, model.HardwareAddr{}, nil},
		{"unknown keys ignored", "FOO=BAR;IgnoreUnknown=True", ``, model.HardwareAddr{}, nil},
		{"nothing to ignore", "IgnoreUnknown=0", ``, model.HardwareAddr{}, nil},
	} {
		got := parsed(t, environ("ADD", "CNI_ARGS="+tt.args), `{"name":"n"`+tt.keys+`}`).Request
		if got.MAC != tt.mac || !reflect.DeepEqual(got.IPs, tt.ips) {
			t.Errorf("%s: MAC %v, IPs %v", tt.name, got.MAC, got.IPs)
		}
	}
}

func TestGCReadsValidAttachments(t *testing.T) {
	key := func(id, ifName string) model.Key { return model.Key{Network: "n", ContainerID: id, IfName: ifName} }
	for _, tt := range []struct {
		name, keys string
		want       []model.Key
	}{
		{"spec", `"cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"},{"containerID":"b","ifname":"eth1"}]`,
			[]model.Key{key("a", "eth0"), key("b", "eth1")}},
		{"libcni's second key", `"cni.dev/attachments":[{"containerID":"a","ifname":"eth0"}]`, []model.Key{key("a", "eth0")}},
		{"both add up", `"cni.dev/attachments":[{"containerID":"a","ifname":"eth0"}],"cni.dev/valid-attachments":[{"containerID":"b","ifname":"eth0"}]`,
			[]model.Key{key("b", "eth0"), key("a", "eth0")}},
		{"none", `"cni.dev/valid-attachments":[]`, []model.Key{}},
		// libcni's nil slice
		{"null", `"cni.dev/valid-attachments":null,"cni.dev/attachments":null`, []model.Key{}},
	} {
		var f fake
		status, out := call(&f, environ("GC"), `{"cniVersion":"1.1.0","name":"n","prevResult":{"ips":[17]},`+tt.keys+`}`)
		if status != 0 || !reflect.DeepEqual(f.valid, tt.want) {
			t.Errorf("%s: %s%v, want %v", tt.name, out, f.valid, tt.want)
		}
		if f.config != nil && !reflect.DeepEqual(f.config.Request, model.Request{}) {
			t.Errorf("%s: request %+v", tt.name, f.config.Request)
		}
	}
}
