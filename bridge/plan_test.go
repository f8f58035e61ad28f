package bridge

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"flatnet/rtnl"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func ip(s string) netip.Addr    { return netip.MustParseAddr(s) }

func flatNetwork() Network {
	return Network{
		Name: "flatnet", Bridge: DefaultBridge, MTU: 1400,
		IsGateway: true, IsDefaultGateway: true, IPMasq: true,
		Flat: []netip.Prefix{pfx(DefaultFlat), pfx("fd87::/48")},
	}
}

var testKey = Key{"flatnet", "0123456789abcdef", "eth0"}

func TestPlanOfTheDefaultNetwork(t *testing.T) {
	lease := Lease{Addresses: []Address{{pfx("10.87.1.2/24"), ip("10.87.1.1")}}}
	got, err := Plan(flatNetwork(), Request{Key: testKey}, lease)
	if err != nil {
		t.Fatal(err)
	}
	want := Attachment{
		Key: testKey, MAC: HardwareAddr{0x0a, 0x57, 10, 87, 1, 2}, MTU: 1400,
		Addresses: lease.Addresses,
		Routes:    []Route{{Dst: pfx("0.0.0.0/0"), Gateway: ip("10.87.1.1")}},
		Bridge:    DefaultBridge, Gateways: []netip.Prefix{pfx("10.87.1.1/24")}, Forward4: true,
		Group: groupOpen,
		Firewall: []Firewall{
			{
				Network: "flatnet", Bridge: DefaultBridge, Subnet: pfx("10.87.1.0/24"), Gateway: ip("10.87.1.1"),
				Flat: flatNetwork().Flat, IPMasq: true,
			},
			{Network: "flatnet", Bridge: DefaultBridge, Flat: flatNetwork().Flat, IPMasq: true},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestPlanRoutes(t *testing.T) {
	v4 := Address{pfx("10.87.1.2/24"), ip("10.87.1.1")}
	v6 := Address{pfx("fd87::2/64"), ip("fd87::1")}
	link := uint8(253)
	for _, tt := range []struct {
		name   string
		change func(*Network)
		addrs  []Address
		want   []Route
	}{
		{"dual stack has two default routes", nil, []Address{v4, v6},
			[]Route{{Dst: pfx("0.0.0.0/0"), Gateway: v4.Gateway}, {Dst: pfx("::/0"), Gateway: v6.Gateway}}},
		{"no default gateway, no route", func(n *Network) { n.IsDefaultGateway = false }, []Address{v4}, nil},
		{"an address without gateway has none", nil, []Address{{Prefix: v4.Prefix}}, nil},
		{"the first address of a family decides", nil, []Address{v4, {pfx("10.88.0.2/24"), ip("10.88.0.1")}},
			[]Route{{Dst: pfx("0.0.0.0/0"), Gateway: v4.Gateway}}},
		{"a default route of the configuration is the only one",
			func(n *Network) { n.Routes = []Route{{Dst: pfx("0.0.0.0/0"), Gateway: ip("10.87.1.9")}} }, []Address{v4},
			[]Route{{Dst: pfx("0.0.0.0/0"), Gateway: ip("10.87.1.9")}}},
		{"a route takes the gateway of its family",
			func(n *Network) {
				n.IsDefaultGateway = false
				n.Routes = []Route{{Dst: pfx("192.0.2.0/24")}, {Dst: pfx("2001:db8::/32"), MTU: 1300}}
			}, []Address{v4, v6},
			[]Route{{Dst: pfx("192.0.2.0/24"), Gateway: v4.Gateway}, {Dst: pfx("2001:db8::/32"), Gateway: v6.Gateway, MTU: 1300}}},
		{"a route with the global scope takes the gateway",
			func(n *Network) {
				n.IsDefaultGateway = false
				n.Routes = []Route{{Dst: pfx("192.0.2.0/24"), Scope: new(uint8)}}
			}, []Address{v4},
			[]Route{{Dst: pfx("192.0.2.0/24"), Scope: new(uint8), Gateway: v4.Gateway}}},
		{"a route with a scope has no gateway",
			func(n *Network) {
				n.IsDefaultGateway = false
				n.Routes = []Route{{Dst: pfx("192.0.2.0/24"), Scope: &link}}
			}, []Address{v4},
			[]Route{{Dst: pfx("192.0.2.0/24"), Scope: &link}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := flatNetwork()
			if tt.change != nil {
				tt.change(&n)
			}
			a, err := Plan(n, Request{Key: testKey}, Lease{Addresses: tt.addrs})
			if err != nil || !reflect.DeepEqual(a.Routes, tt.want) {
				t.Errorf("got  %+v, %v\nwant %+v", a.Routes, err, tt.want)
			}
		})
	}
}

func TestPlanWithoutGateway(t *testing.T) {
	n := flatNetwork()
	n.IsGateway, n.IsDefaultGateway = false, false
	a, err := Plan(n, Request{Key: testKey}, Lease{Addresses: []Address{{pfx("10.87.1.2/24"), ip("10.87.1.1")}}})
	if err != nil || a.Gateways != nil || a.Forward4 || a.Routes != nil {
		t.Errorf("got %+v, %v", a, err)
	}
}

func TestPlanKeepsTheWantedMAC(t *testing.T) {
	mac := HardwareAddr{2, 0, 0, 0, 0, 9}
	a, err := Plan(flatNetwork(), Request{Key: testKey, MAC: mac}, Lease{Addresses: []Address{{Prefix: pfx("10.87.1.2/24")}}})
	if err != nil || a.MAC != mac {
		t.Errorf("got %v, %v", a.MAC, err)
	}
}

func TestPlanWantsAnAddress(t *testing.T) {
	if _, err := Plan(flatNetwork(), Request{Key: testKey}, Lease{}); err == nil {
		t.Error("no error")
	}
}

func TestAddressMAC(t *testing.T) {
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

// An owner that no alias can hold is refused before there is a link.
func TestPlanOfAnAliasThatIsTooLong(t *testing.T) {
	key := Key{strings.Repeat("n", maxNetworkName), strings.Repeat("c", maxContainerID), strings.Repeat("i", IfNameSize-1)}
	l := Lease{Addresses: []Address{{Prefix: pfx("10.187.111.222/24")}, {Prefix: pfx("fd87:1111:2222:3333:4444:5555:6666:7777/64")}}}
	a, err := Plan(flatNetwork(), Request{Key: key}, l)
	if err != nil || parseOwner("", key.Mark(), a.owner().alias()).Key != key {
		t.Errorf("two addresses: %v", err)
	}
	l.Addresses = append(l.Addresses, Address{Prefix: pfx("10.187.112.222/24")})
	if _, err := Plan(flatNetwork(), Request{Key: key}, l); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "3 addresses") {
		t.Errorf("three addresses: %v", err)
	}
}

// Two owners may have the same mark: an alias that names one is not the other's.
func TestOwnsByAliasAsWell(t *testing.T) {
	mark := testKey.Mark()
	for alias, want := range map[string]bool{
		"": true, "mine": true, "flatnet other/" + testKey.ContainerID + "/eth0 10.87.1.2": true,
		Owner{Key: testKey}.alias(): true,
	} {
		if got := owns(testKey, rtnl.Link{MAC: mark[:], Alias: alias}); got != want {
			t.Errorf("%q: %v", alias, got)
		}
	}
	other := mark
	other[5]++
	if owns(testKey, rtnl.Link{MAC: other[:], Alias: Owner{Key: testKey}.alias()}) {
		t.Error("another mark")
	}
}
