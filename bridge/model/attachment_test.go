package model

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func pfx(s string) netip.Prefix  { return netip.MustParsePrefix(s) }
func ip(s string) netip.Addr     { return netip.MustParseAddr(s) }
func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// address returns an address with its gateway, if one is given.
func address(prefix, gateway string) Address {
	a := Address{Prefix: pfx(prefix)}
	if gateway != "" {
		a.Gateway = ip(gateway)
	}
	return a
}

// list returns prefixes as texts separated by spaces.
func list(prefixes []netip.Prefix) string { return strings.Trim(fmt.Sprint(prefixes), "[]") }

func subnet(prefix, gateway string) Subnet { return address(prefix, gateway) }

func flatNetwork() Network {
	return Network{
		Name: "flatnet", Bridge: DefaultBridge, MTU: 1400, IsGateway: true, IsDefaultGateway: true, IPMasq: true,
		Flat: []netip.Prefix{pfx(DefaultFlat), pfx("fd87::/48")},
	}
}

// plan plans an attachment of the network after a change.
func plan(change func(*Network), addrs ...Address) (*Attachment, error) {
	n := flatNetwork()
	if change != nil {
		change(&n)
	}
	return Plan(&n, &Request{Key: testKey}, &Lease{Addresses: addrs})
}

func TestPlanOfTheDefaultNetwork(t *testing.T) {
	got, err := plan(nil, address("10.87.1.2/24", "10.87.1.1"))
	want := &Attachment{
		Shared:    Shared{Network: flatNetwork(), Served: []Subnet{subnet("10.87.1.0/24", "10.87.1.1")}},
		Key:       testKey,
		MAC:       HardwareAddr{0x0a, 0x57, 10, 87, 1, 2},
		Addresses: []Address{address("10.87.1.2/24", "10.87.1.1")},
		Routes:    []Route{{Dst: pfx("0.0.0.0/0"), Gateway: ip("10.87.1.1")}},
		Rank:      1,
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	gw, ipv4, ipv6 := got.GatewayPrefixes(), got.Forwards(true), got.Forwards(false)
	if !slices.Equal(gw, []netip.Prefix{pfx("10.87.1.1/24")}) || !ipv4 || ipv6 {
		t.Errorf("gateways %v, forwards IPv4 %v, IPv6 %v", gw, ipv4, ipv6)
	}
}

func TestPlanRoutes(t *testing.T) {
	v4, v6 := address("10.87.1.2/24", "10.87.1.1"), address("fd87::2/64", "fd87::1")
	default4 := Route{Dst: pfx("0.0.0.0/0"), Gateway: v4.Gateway}
	default6 := Route{Dst: pfx("::/0"), Gateway: v6.Gateway}
	link := uint8(253)
	routes := func(routes ...Route) func(*Network) {
		return func(n *Network) { n.IsDefaultGateway, n.Routes = false, routes }
	}
	for name, tt := range map[string]struct {
		change func(*Network)
		addrs  []Address
		want   []Route
	}{
		"dual stack has two default routes":    {nil, []Address{v4, v6}, []Route{default4, default6}},
		"no default gateway, no route":         {func(n *Network) { n.IsDefaultGateway = false }, []Address{v4}, nil},
		"an internal network has none":         {func(n *Network) { n.Internal = true }, []Address{v4}, nil},
		"an address without a gateway":         {nil, []Address{{Prefix: v4.Prefix}}, nil},
		"the first address of a family counts": {nil, []Address{v4, address("10.88.0.2/24", "10.88.0.1")}, []Route{default4}},
		"a configured default route is the only one": {
			func(n *Network) { n.Routes = []Route{{Dst: pfx("0.0.0.0/0"), Gateway: ip("10.87.1.9")}} }, []Address{v4},
			[]Route{{Dst: pfx("0.0.0.0/0"), Gateway: ip("10.87.1.9")}}},
		"one of another table is not": {
			func(n *Network) { n.Routes = []Route{{Dst: pfx("0.0.0.0/0"), Table: new(uint32)}} }, []Address{v4},
			[]Route{{Dst: pfx("0.0.0.0/0"), Gateway: v4.Gateway, Table: new(uint32)}, default4}},
		"a route takes the gateway of its family": {
			routes(Route{Dst: pfx("192.0.2.0/24")}, Route{Dst: pfx("2001:db8::/32"), MTU: 1300}), []Address{v4, v6},
			[]Route{{Dst: pfx("192.0.2.0/24"), Gateway: v4.Gateway},
				{Dst: pfx("2001:db8::/32"), Gateway: v6.Gateway, MTU: 1300}}},
		"a route with the global scope, too": {
			routes(Route{Dst: pfx("192.0.2.0/24"), Scope: new(uint8)}), []Address{v4},
			[]Route{{Dst: pfx("192.0.2.0/24"), Scope: new(uint8), Gateway: v4.Gateway}}},
		"a route with a scope has no gateway": {
			routes(Route{Dst: pfx("192.0.2.0/24"), Scope: &link}), []Address{v4},
			[]Route{{Dst: pfx("192.0.2.0/24"), Scope: &link}}},
	} {
		a, err := plan(tt.change, tt.addrs...)
		if err != nil || !reflect.DeepEqual(a.Routes, tt.want) {
			t.Errorf("%s: got  %+v, %v\nwant %+v", name, a.Routes, err, tt.want)
		}
	}
}

// The network's own routes are not changed by the plan of an attachment.
func TestPlanLeavesTheNetworkAlone(t *testing.T) {
	n := flatNetwork()
	n.Routes = []Route{{Dst: pfx("192.0.2.0/24")}}
	lease := Lease{Addresses: []Address{address("10.87.1.2/24", "10.87.1.1")}}
	_, err := Plan(&n, &Request{Key: testKey}, &lease)
	if err != nil || n.Routes[0].Gateway.IsValid() {
		t.Errorf("%+v, %v", n.Routes, err)
	}
}

func TestPlanWithoutGateway(t *testing.T) {
	off := func(n *Network) { n.IsGateway, n.IsDefaultGateway = false, false }
	a, err := plan(off, address("10.87.1.2/24", "10.87.1.1"))
	if err != nil || a.GatewayPrefixes() != nil || a.Forwards(true) || a.Routes != nil {
		t.Errorf("got %+v, %v", a, err)
	}
}

func TestPlanOfAnotherPluginsLease(t *testing.T) {
	for _, tt := range []struct {
		name          string
		address       Address
		gateway, want string // of the attachment; error
	}{
		{"gateway as leased", address("10.9.0.5/24", "10.9.0.254"), "10.9.0.254/24", ""},
		{"no gateway given", address("10.9.0.5/24", ""), "10.9.0.1/24", ""},
		{"IPv6", address("fd09::5/64", ""), "fd09::1/64", ""},
		{"the gateway's own", address("10.9.0.1/24", "10.9.0.1"), "",
			"address 10.9.0.1 of flatnet/0123456789abcdef/eth0 is the gateway's"},
	} {
		a, err := plan(func(n *Network) { n.LinkFirst = true }, tt.address)
		switch {
		case tt.want != "":
			if err == nil || err.Error() != tt.want || !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: %v", tt.name, err)
			}
		case err != nil || a.MAC != testKey.containerMAC() || list(a.GatewayPrefixes()) != tt.gateway:
			t.Errorf("%s: %+v, %v", tt.name, a, err)
		}
	}
}

func TestPlanRequiresAnAddress(t *testing.T) {
	for name, change := range map[string]func(*Network){
		"leased now":   nil,
		"leased later": func(n *Network) { n.LinkFirst = true },
		"none":         func(n *Network) { n.NoAddress = true },
	} {
		a, err := plan(change)
		if (err == nil) != (change != nil) || err == nil && a.MAC != testKey.containerMAC() {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}

func TestPlanErrors(t *testing.T) {
	v4, v6 := address("10.187.111.222/24", ""), address("fd87:1111:2222:3333:4444:5555:6666:7777/64", "")
	for _, tt := range []struct {
		name  string
		key   Key
		mtu   uint32
		addrs []Address
		want  string // error
	}{
		{"an alias as long as can be", longestKey, 0, []Address{v4, v6}, ""},
		{"an alias that is too long", longestKey, 0, []Address{v4, v6, address("10.187.112.222/24", "")}, "3 addresses"},
		{"the least MTU of IPv6", testKey, 1280, []Address{v4, v6}, ""},
		{"an MTU too small for IPv6", testKey, 1279, []Address{v4, v6}, "MTU is 1279"},
		{"a small MTU in IPv4", testKey, 1279, []Address{v4}, ""},
	} {
		n := flatNetwork()
		n.MTU = tt.mtu
		_, err := Plan(&n, &Request{Key: tt.key}, &Lease{Addresses: tt.addrs})
		rejected := err != nil && errors.Is(err, ErrInvalid) && strings.Contains(err.Error(), tt.want)
		if tt.want == "" && err != nil || tt.want != "" && !rejected {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestMAC(t *testing.T) {
	n, mac := flatNetwork(), HardwareAddr{2, 0, 0, 0, 0, 9}
	a, err := Plan(&n, &Request{Key: testKey, MAC: mac}, &Lease{Addresses: []Address{address("10.87.1.2/24", "")}})
	if err != nil || a.MAC != mac {
		t.Errorf("requested %v, got %v, %v", mac, a.MAC, err)
	}
	if got := addressMAC(ip("10.87.1.2")).String(); got != "0a:57:0a:57:01:02" {
		t.Errorf("IPv4: %s", got)
	}
	seen := map[HardwareAddr]string{}
	for _, a := range []string{"fd87::2", "fd87:0:0:1::2", "fd87:0:0:2::2", "fd87::3", "10.87.0.2"} {
		mac := addressMAC(ip(a))
		if seen[mac] != "" || mac[0] != 0x0a {
			t.Errorf("%s has %s, as %q has", a, mac, seen[mac])
		}
		seen[mac] = a
	}
}

// Of several subnets, an attachment has an address in only some. The bridge leads to
// those in which any attachment has one, unless the configuration has changed.
func TestServed(t *testing.T) {
	v4, v6, far := subnet("10.87.1.0/24", "10.87.1.1"), subnet("fd87::/64", "fd87::1"), subnet("fd88::/64", "fe80::1")
	hostBits, otherGateway := subnet("10.87.1.7/24", "10.87.1.1"), subnet("10.87.1.0/24", "10.87.1.9")
	for name, tt := range map[string]struct {
		served, configured   []Subnet
		gateways, hostRoutes string
	}{
		"none yet":                        {nil, []Subnet{v4, v6}, "", ""},
		"one of two":                      {[]Subnet{v4}, []Subnet{v4, v6}, "10.87.1.1/24", ""},
		"both":                            {[]Subnet{v4, v6}, []Subnet{v4, v6}, "10.87.1.1/24 fd87::1/64", ""},
		"one that is no longer there":     {[]Subnet{v4, v6}, []Subnet{v6}, "fd87::1/64", ""},
		"another gateway":                 {[]Subnet{v4}, []Subnet{otherGateway}, "", ""},
		"two gateways, one after another": {[]Subnet{otherGateway, v4}, []Subnet{v4}, "10.87.1.1/24", ""},
		"host bits in the configuration":  {[]Subnet{v4}, []Subnet{hostBits}, "10.87.1.1/24", ""},
		"another plugin's lease":          {[]Subnet{v4, v6}, nil, "10.87.1.1/24 fd87::1/64", ""},
		"a gateway outside of the subnet": {[]Subnet{far}, []Subnet{far}, "fe80::1/64", "fd88::/64"},
	} {
		s := Shared{Network: flatNetwork()}
		s.Subnets = tt.configured
		for range 2 {
			for _, sub := range tt.served {
				s.Serve(sub)
			}
		}
		gateways, routes := list(s.GatewayPrefixes()), list(s.HostRoutes())
		if gateways != tt.gateways || routes != tt.hostRoutes {
			t.Errorf("%s: served %v, gateways %v, host routes %v", name, s.Served, gateways, routes)
		}
		if s.IsGateway = false; s.GatewayPrefixes() != nil || s.HostRoutes() != nil {
			t.Errorf("%s: gateways without isGateway", name)
		}
	}
}

func TestCheckRequest(t *testing.T) {
	link := uint8(253)
	v4, v6 := []Subnet{subnet("10.87.1.0/24", "")}, []Subnet{subnet("fd87::/64", "fe80::1")}
	port := []PortMapping{{Protocol: TCP, HostIP: ip("::"), HostPort: 80, ContainerPort: 80}}
	narrow := Route{Dst: pfx("10.9.0.1/32"), Scope: &link}
	via := func(dst, gateway string) Route { return Route{Dst: pfx(dst), Gateway: ip(gateway)} }
	for name, tt := range map[string]struct {
		subnets []Subnet
		routes  []Route
		ports   []PortMapping
		valid   bool
	}{
		"gateway in a subnet":                     {v4, []Route{via("0.0.0.0/0", "10.87.1.9")}, nil, true},
		"the subnet's own gateway":                {v6, []Route{via("::/0", "fe80::1")}, nil, true},
		"gateway elsewhere":                       {v4, []Route{via("0.0.0.0/0", "10.9.0.1")}, nil, false},
		"gateway behind a route":                  {v4, []Route{narrow, via("0.0.0.0/0", "10.9.0.1")}, nil, true},
		"port of a family that the network lacks": {v4, nil, port, false},
		"port of a family that it has":            {v6, nil, port, true},
		"another plugin's lease":                  {nil, []Route{via("0.0.0.0/0", "10.9.0.1")}, port, true},
	} {
		n := flatNetwork()
		n.Subnets, n.Routes = tt.subnets, tt.routes
		err := n.CheckRequest(&Request{Key: testKey, Ports: tt.ports})
		if (err == nil) != tt.valid || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Without a default route, a network that the outside reaches comes before an internal one.
func TestRankWithoutADefaultRoute(t *testing.T) {
	open, internal := &Attachment{}, &Attachment{Shared: Shared{Network: Network{Internal: true}}}
	with := &Attachment{Routes: []Route{{Dst: netip.MustParsePrefix("::/0"), Priority: 4000}}}
	for _, a := range []*Attachment{open, internal, with} {
		a.SetRank()
	}
	if with.Rank != 4000 || with.Rank >= open.Rank || open.Rank >= internal.Rank {
		t.Errorf("ranks %d, %d, %d", with.Rank, open.Rank, internal.Rank)
	}
}
