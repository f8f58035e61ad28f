package model

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestAlias(t *testing.T) {
	for want, addrs := range map[string][]netip.Addr{
		"flatnet flatnet/0123456789abcdef/eth0 10.87.1.2,fd87::2": {ip("10.87.1.2"), ip("fd87::2")},
		"flatnet flatnet/0123456789abcdef/eth0 -":                 nil,
	} {
		o := Owner{Link: "fn-01234567", Key: testKey, Mark: testKey.Mark(), Addresses: addrs}
		if got := o.Alias(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got := ParseOwner(o.Link, o.Mark, want); !reflect.DeepEqual(got, o) {
			t.Errorf("%q reads as %+v, want %+v", want, got, o)
		}
	}
}

var longestKey = Key{
	strings.Repeat("n", maxNetworkName), strings.Repeat("c", maxContainerID), strings.Repeat("i", IfNameSize-1),
}

func TestLongestAlias(t *testing.T) {
	o := Owner{Key: longestKey, Addresses: []netip.Addr{
		ip("10.187.111.222"), ip("2001:db8:1111:2222:3333:4444:5555:6666"),
	}}
	if err := o.checkAlias(); err != nil {
		t.Errorf("one address of each family: %v", err)
	}
	o.Addresses = append(o.Addresses, o.Addresses...)
	if err := o.checkAlias(); err == nil || !strings.Contains(err.Error(), "4 addresses") {
		t.Errorf("two addresses of each family: %v", err)
	}
}

// An alias that is foreign, or of another owner than the MAC, names no owner.
func TestParseOwnerIgnoresForeignAliases(t *testing.T) {
	for _, alias := range []string{
		"", "uplink", "flatnet", BridgeAlias("flatnet"), "flatnet a/b", "flatnet //  10.87.1.2",
		"flatnet flatnet/0123456789abcdef/eth0",
		"flatnet flatnet/0123456789abcdef/eth0 x",
		"flatnet flatnet/0123456789abcdef/eth0 10.87.1.2,",
		"flatnet flatnet/0123456789abcdef/eth1 10.87.1.2",
	} {
		want := Owner{Link: "fn-x", Mark: testKey.Mark()}
		if o := ParseOwner(want.Link, want.Mark, alias); !reflect.DeepEqual(o, want) {
			t.Errorf("%q reads as %+v", alias, o)
		}
	}
}

func TestMadeFor(t *testing.T) {
	for alias, want := range map[string]string{
		BridgeAlias("n"): "n", BridgeAlias("n") + SharedMark: "n", "uplink": "", "": "",
	} {
		if network, ok := MadeFor(alias); ok != (want != "") || ok && network != want {
			t.Errorf("%q: %q, %v", alias, network, ok)
		}
	}
}

func FuzzParseOwner(f *testing.F) {
	f.Add("flatnet flatnet/0123456789abcdef/eth0 10.87.1.2,fd87::2")
	f.Add("flatnet flatnet/0123456789abcdef/eth0 -")
	f.Fuzz(func(t *testing.T, alias string) {
		o := ParseOwner("fn-x", testKey.Mark(), alias)
		if o.Key == (Key{}) {
			return
		}
		if o.Key != testKey || !reflect.DeepEqual(ParseOwner("fn-x", o.Mark, o.Alias()), o) {
			t.Errorf("%q reads as %+v", alias, o)
		}
	})
}
