package netavark

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"flatnet/bridge/model"
	"flatnet/internal/dns"
)

const (
	netns = "/run/netns/netns-c288ac8c-9449-aa9f-443f-2fdb3eac7cd0"
	id    = "84b4c3fc18ef42e9928e26058bd74ab1b619c653af656a8b6c5ac9ad230d4189"
)

// run is what netavark 1.14.0 sent for
//
//	podman run --name y1 --network six:alias=web,mac=02:aa:bb:cc:dd:01,ip=10.87.4.77,ip6=fd11:f40a:4470::77 \
//		-p 8092:80 -p 127.0.0.1:9000-9001:90-91/udp -p "[::1]:70:70/tcp"
const run = `{"container_id":"84b4c3fc18ef42e9928e26058bd74ab1b619c653af656a8b6c5ac9ad230d4189","container_name":"y1",` +
	`"port_mappings":[{"container_port":80,"host_ip":"","host_port":8092,"protocol":"tcp","range":1},` +
	`{"container_port":90,"host_ip":"127.0.0.1","host_port":9000,"protocol":"udp","range":2},` +
	`{"container_port":70,"host_ip":"::1","host_port":70,"protocol":"tcp","range":1}],` +
	`"network":{"dns_enabled":true,"driver":"flatnet","id":"b118dbfc94d0793ced6fb0b70162d6cb031efa24a75d73220663d17549087fdd",` +
	`"internal":false,"ipv6_enabled":true,"name":"six","network_interface":"flatnet-br4","options":null,"ipam_options":{"driver":"flatnet"},` +
	`"subnets":[{"gateway":"10.87.4.1","lease_range":null,"subnet":"10.87.4.0/24"},{"gateway":"fd11:f40a:4470::1","lease_range":null,"subnet":"fd11:f40a:4470::/64"}],` +
	`"routes":null,"network_dns_servers":null},` +
	`"network_options":{"aliases":["web","84b4c3fc18ef"],"interface_name":"eth0","static_ips":["10.87.4.77","fd11:f40a:4470::77"],"static_mac":"02:aa:bb:cc:dd:01","options":null}}`

// least is a call without anything that may be left out.
const least = `{"container_id":"c1","network":{"name":"n","network_interface":"br9","subnets":[{"subnet":"10.99.0.0/24"}]},"network_options":{"interface_name":"eth0"}}`

var key = model.Key{Network: "six", ContainerID: id, IfName: "eth0"}

func TestSetup(t *testing.T) {
	b := newBench(t)
	const want = `{"dns_search_domains":["dns.podman"],"dns_server_ips":["10.87.4.1","fd11:f40a:4470::1"],` +
		`"interfaces":{"eth0":{"mac_address":"0a:57:0a:57:01:02","subnets":[` +
		`{"ipnet":"10.87.4.2/24","gateway":"10.87.4.1"},{"ipnet":"fd11:f40a:4470::2/64","gateway":"fd11:f40a:4470::1"}]}}}`
	if got := b.must(t, run, "setup", netns); got != want {
		t.Errorf("reply\n%s\nwant\n%s", got, want)
	}
	subnets := []model.Subnet{
		{Prefix: netip.MustParsePrefix("10.87.4.0/24"), Gateway: netip.MustParseAddr("10.87.4.1")},
		{Prefix: netip.MustParsePrefix("fd11:f40a:4470::/64"), Gateway: netip.MustParseAddr("fd11:f40a:4470::1")},
	}
	network := model.Network{
		Name: "six", Bridge: "flatnet-br4", Metric: 99,
		IsGateway: true, IsDefaultGateway: true, IPMasq: true, Isolated: true, ServesDNS: true,
		Subnets: subnets, Flat: []netip.Prefix{netip.MustParsePrefix("10.87.0.0/16")},
	}
	if !reflect.DeepEqual(b.host.network, network) {
		t.Errorf("network\n%+v\nwant\n%+v", b.host.network, network)
	}
	request := model.Request{
		Key: key, NetNS: netns, MAC: model.HardwareAddr{2, 0xaa, 0xbb, 0xcc, 0xdd, 1},
		IPs: []netip.Addr{netip.MustParseAddr("10.87.4.77"), netip.MustParseAddr("fd11:f40a:4470::77")},
		Ports: []model.PortMapping{
			{Protocol: 6, HostPort: 8092, ContainerPort: 80},
			{Protocol: 17, HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 9000, ContainerPort: 90},
			{Protocol: 17, HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 9001, ContainerPort: 91},
			{Protocol: 6, HostIP: netip.MustParseAddr("::1"), HostPort: 70, ContainerPort: 70},
		},
		Names: []string{"y1", "web", "84b4c3fc18ef"},
	}
	if !reflect.DeepEqual(b.host.request, request) {
		t.Errorf("request\n%+v\nwant\n%+v", b.host.request, request)
	}
	record := dns.Record{
		Key: key, Names: request.Names, Listen: []netip.Addr{subnets[0].Gateway, subnets[1].Gateway},
		Addresses: []netip.Addr{netip.MustParseAddr("10.87.4.2"), netip.MustParseAddr("fd11:f40a:4470::2")},
	}
	if !reflect.DeepEqual(b.names.added, []dns.Record{record}) {
		t.Errorf("record\n%+v\nwant\n%+v", b.names.added, record)
	}
}

func TestSetupOfTheLeast(t *testing.T) {
	b := newBench(t)
	const want = `{"interfaces":{"eth0":{"mac_address":"0a:57:0a:57:01:02","subnets":[{"ipnet":"10.99.0.2/24","gateway":"10.99.0.1"}]}}}`
	if got := b.must(t, least, "setup", netns); got != want {
		t.Errorf("reply %s, want %s", got, want)
	}
	if len(b.names.added) != 0 {
		t.Errorf("names of a network without dns_enabled: %+v", b.names.added)
	}
}

func TestSetupTellsTheServerAboutTheNetwork(t *testing.T) {
	b := newBench(t)
	b.must(t, change(`"dns_enabled":true,"internal":true,"network_dns_servers":["9.9.9.9"]`), "setup", netns)
	if len(b.names.added) != 1 || !b.names.added[0].Internal || !reflect.DeepEqual(b.names.added[0].Upstream, []netip.Addr{netip.MustParseAddr("9.9.9.9")}) {
		t.Errorf("%+v", b.names.added)
	}
}

func TestStatusHasOnlyWhatTheContainerHas(t *testing.T) {
	result := model.Result{
		Interfaces: []model.Interface{{Name: "br9", MAC: "02:00:00:00:00:01"}, {Name: "eth0", MAC: "02:00:00:00:00:02", Sandbox: netns}},
		IPs: []model.IP{
			{Address: netip.MustParsePrefix("10.99.0.1/24"), Interface: 0},
			{Address: netip.MustParsePrefix("10.99.0.7/24"), Interface: 1},
		},
	}
	const want = `{"interfaces":{"eth0":{"mac_address":"02:00:00:00:00:02","subnets":[{"ipnet":"10.99.0.7/24"}]}}}`
	if got := string(encodeStatus(&result)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// change returns the least call with further keys of the network.
func change(keys string) string {
	return strings.Replace(least, `"name":"n"`, `"name":"n",`+keys, 1)
}

func TestSetupHonoursTheNetwork(t *testing.T) {
	for _, c := range []struct {
		name, stdin string
		want        func(n model.Network) bool
	}{
		{"mtu", change(`"options":{"mtu":"1400"}`), func(n model.Network) bool { return n.MTU == 1400 }},
		{"mtu 0", change(`"options":{"mtu":"0"}`), func(n model.Network) bool { return n.MTU == 0 }},
		{"isolate by default", least, func(n model.Network) bool { return n.Isolated }},
		{"isolate strict", change(`"options":{"isolate":"strict"}`), func(n model.Network) bool { return n.Isolated }},
		{"macspoofchk", change(`"options":{"macspoofchk":"true"}`), func(n model.Network) bool { return n.SpoofCheck }},
		{"forwardAccept", change(`"options":{"forwardAccept":"true"}`), func(n model.Network) bool { return n.ForwardAccept }},
		{"allowOverlap", change(`"options":{"allowOverlap":"true"}`), func(n model.Network) bool { return n.AllowOverlap }},
		{"inbound published", change(`"options":{"inbound":"published"}`), func(n model.Network) bool { return n.PublishedOnly }},
		{"inbound any", change(`"options":{"inbound":"any"}`), func(n model.Network) bool { return !n.PublishedOnly }},
		{"isolate 0", change(`"options":{"isolate":"0"}`), func(n model.Network) bool { return !n.Isolated }},
		{"isolate 1", change(`"options":{"isolate":"1"}`), func(n model.Network) bool { return n.Isolated }},
		{"metric", change(`"options":{"metric":"7"}`), func(n model.Network) bool { return n.Metric == 7 }},
		{"metric 0", change(`"options":{"metric":"0"}`), func(n model.Network) bool { return n.Metric == 1 }},
		{"no_default_route", change(`"options":{"no_default_route":"true"}`), func(n model.Network) bool { return !n.IsDefaultGateway && n.IsGateway }},
		{"vlan", change(`"options":{"vlan":"7"}`), func(n model.Network) bool { return n.VLANs.ID == 7 }},
		{"managed", change(`"options":{"mode":"managed"}`), func(n model.Network) bool { return n.IsGateway && n.Isolated }},
		{"masquerade", change(`"options":{"masquerade":"false"}`), func(n model.Network) bool { return !n.IPMasq }},
		{"masquerade of an internal network", change(`"internal":true,"options":{"masquerade":"true"}`), func(n model.Network) bool { return !n.IPMasq }},
		{"no_masquerade", change(`"options":{"no_masquerade":"10.1.0.9/16, fd00::/8,10.87.0.0/16"}`), func(n model.Network) bool {
			return fmt.Sprint(n.Flat) == "[10.87.0.0/16 10.1.0.0/16 fd00::/8]"
		}},
		{"dns", change(`"dns_enabled":false,"options":{"dns":"true"}`), func(n model.Network) bool { return n.ServesDNS }},
		{"a blackhole", change(`"routes":[{"destination":"10.5.0.0/16","metric":9,"route_type":"blackhole"}]`), func(n model.Network) bool {
			return reflect.DeepEqual(n.Routes, []model.Route{{Dst: netip.MustParsePrefix("10.5.0.0/16"), Priority: 9, Type: model.Blackhole}})
		}},
		{"isolate false", change(`"options":{"isolate":"false"}`), func(n model.Network) bool { return !n.Isolated }},
		{"internal", change(`"internal":true`), func(n model.Network) bool {
			return n.Internal && n.IsGateway && !n.IsDefaultGateway && !n.IPMasq
		}},
		{"routes", change(`"routes":[{"destination":"10.5.0.0/16","gateway":"10.99.0.9","metric":50},{"destination":"10.6.0.0/16","gateway":"10.99.0.8","metric":null,"route_type":"unicast"}]`),
			func(n model.Network) bool {
				return reflect.DeepEqual(n.Routes, []model.Route{
					{Dst: netip.MustParsePrefix("10.5.0.0/16"), Gateway: netip.MustParseAddr("10.99.0.9"), Priority: 50},
					{Dst: netip.MustParsePrefix("10.6.0.0/16"), Gateway: netip.MustParseAddr("10.99.0.8")},
				})
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.must(t, c.stdin, "setup", netns)
			if !c.want(b.host.network) {
				t.Errorf("%+v", b.host.network)
			}
		})
	}
}

func TestSetupExpandsPorts(t *testing.T) {
	for _, c := range []struct {
		name, mapping string
		want          []model.PortMapping
	}{
		{"protocols", `{"container_port":80,"host_ip":"","host_port":8080,"protocol":"tcp,udp,sctp","range":1}`, []model.PortMapping{
			{Protocol: 6, HostPort: 8080, ContainerPort: 80}, {Protocol: 17, HostPort: 8080, ContainerPort: 80}, {Protocol: 132, HostPort: 8080, ContainerPort: 80},
		}},
		{"what is unset", `{"container_port":80,"host_port":8080}`, []model.PortMapping{{Protocol: 6, HostPort: 8080, ContainerPort: 80}}},
		{"the last port", `{"container_port":65534,"host_port":1,"range":2}`, []model.PortMapping{
			{Protocol: 6, HostPort: 1, ContainerPort: 65534}, {Protocol: 6, HostPort: 2, ContainerPort: 65535},
		}},
		{"0.0.0.0", `{"container_port":80,"host_ip":"0.0.0.0","host_port":8080,"protocol":"tcp"}`, []model.PortMapping{
			{Protocol: 6, HostIP: netip.IPv4Unspecified(), HostPort: 8080, ContainerPort: 80},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.must(t, `{"port_mappings":[`+c.mapping+`],`+least[1:], "setup", netns)
			if !reflect.DeepEqual(b.host.request.Ports, c.want) {
				t.Errorf("%+v", b.host.request.Ports)
			}
		})
	}
}

func TestSetupThatFailsLeavesNothing(t *testing.T) {
	t.Run("names", func(t *testing.T) {
		b := newBench(t)
		b.names.err = errors.New("port 53 is taken")
		b.refused(t, "port 53 is taken", run, "setup", netns)
		if len(b.host.deleted) != 1 || b.host.deleted[0] != key || len(b.names.removed) != 1 {
			t.Errorf("deleted %v, names removed %v", b.host.deleted, b.names.removed)
		}
	})
	t.Run("attachment", func(t *testing.T) {
		b := newBench(t)
		b.host.err = model.ErrExhausted
		b.refused(t, model.ErrExhausted.Error(), run, "setup", netns)
		if len(b.names.added) != 0 {
			t.Errorf("names added: %v", b.names.added)
		}
	})
	t.Run("nobody reads the reply", func(t *testing.T) {
		b := newBench(t)
		var warnings []string
		b.Engine.Warn = func(text string) { warnings = append(warnings, text) }
		if status := b.Main([]string{"setup", netns}, strings.NewReader(run), closed{}); status != 1 {
			t.Errorf("status %d", status)
		}
		if len(b.host.deleted) != 1 || b.host.deleted[0] != key || len(warnings) != 1 || !strings.Contains(warnings[0], "write the reply") {
			t.Errorf("deleted %v, warnings %q", b.host.deleted, warnings)
		}
	})
}

type closed struct{}

func (closed) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestTeardown(t *testing.T) {
	for name, stdin := range map[string]string{
		"as set up":                run,
		"with nothing but the key": `{"container_id":"` + id + `","network":{"name":"six"},"network_options":{"interface_name":"eth0"}}`,
		"of a definition that makes no sense": `{"container_id":"` + id + `","port_mappings":[{"host_port":"x"}],` +
			`"network":{"name":"six","subnets":[{"subnet":"x"}],"options":{"mtu":"x"}},"network_options":{"interface_name":"eth0","static_ips":["x"],"static_mac":"x"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if got := b.must(t, stdin, "teardown", "/run/netns/gone"); got != "" {
				t.Errorf("reply %q", got)
			}
			if !reflect.DeepEqual(b.host.deleted, []model.Key{key}) || !reflect.DeepEqual(b.names.removed, []model.Key{key}) {
				t.Errorf("deleted %v, names removed %v", b.host.deleted, b.names.removed)
			}
		})
	}
}

func TestInfo(t *testing.T) {
	if got, want := newBench(t).must(t, "", "info"), `{"version":"v1","api_version":"1.0.0"}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
