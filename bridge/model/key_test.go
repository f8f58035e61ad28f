package model

import (
	"strings"
	"testing"
)

var testKey = Key{"flatnet", "0123456789abcdef", "eth0"}

func TestNewKey(t *testing.T) {
	long := strings.Repeat("a", 101)
	for _, tt := range []struct{ network, id, ifName, want string }{
		{"flatnet", "0123", "eth0", ""},
		{"a.b_c-d", "0123_.-", "a.b", ""},
		{"", "0123", "eth0", "network name: must not be empty"},
		{"-a", "0123", "eth0", `network name: "-a"`},
		{"a/b", "0123", "eth0", `network name: "a/b"`},
		{long, "0123", "eth0", "more than 64"},
		{"flatnet", "", "eth0", "container ID: must not be empty"},
		{"flatnet", "..", "eth0", `container ID: ".."`},
		{"flatnet", "a b", "eth0", `container ID: "a b"`},
		{"flatnet", long, "eth0", "has 101 bytes, more than 100"},
		{"flatnet", "0123", "", "interface name: must not be empty"},
		{"flatnet", "0123", "..", `interface name: ".."`},
		{"flatnet", "0123", "a/b", `interface name: "a/b"`},
		{"flatnet", "0123", "a:b", `interface name: "a:b"`},
		{"flatnet", "0123", "a\x7f", "interface name:"},
		{"flatnet", "0123", "0123456789abcdef", "has 16 bytes, more than 15"},
	} {
		key, err := NewKey(tt.network, tt.id, tt.ifName)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("NewKey(%.20q, %.20q, %q) = %v, want %q", tt.network, tt.id, tt.ifName, err, tt.want)
		}
		if again, ok := ParseKey(key.String()); ok != (err == nil) || again != key {
			t.Errorf("ParseKey(%q) = %v, %v", key, again, ok)
		}
	}
}

func TestHostNamesAndMark(t *testing.T) {
	if name := testKey.HostNames()[0]; name != "fn-01234567" {
		t.Errorf("first name %q", name)
	}
	if name := (Key{"flatnet", "ab", "eth0"}).HostNames()[0]; name != "fn-ab" {
		t.Errorf("first name for a short ID %q", name)
	}
	seen := map[any]Key{}
	for _, k := range []Key{
		testKey,
		{"flatnet", "0123456789abcdeg", "eth0"},
		{"flatnet", "0123456789abcdef", "eth1"},
		{"other", "0123456789abcdef", "eth0"},
	} {
		for _, mac := range []HardwareAddr{k.Mark(), k.containerMAC()} {
			if mac[0]&3 != 2 {
				t.Errorf("%s of %s is not locally administered and unicast", mac, k)
			}
		}
		for _, name := range []string{k.HostNames()[1], k.IFBName()} {
			if len(name) != IfNameSize-1 || ValidIfName(name) != nil {
				t.Errorf("name %q of %s", name, k)
			}
		}
		place := Place(k.Network, k.IfName)
		if k.Place() <= 0 || place <= 0 {
			t.Errorf("places %x, %x of %s", k.Place(), place, k)
		}
		for _, v := range []any{k.Mark(), k.containerMAC(), k.HostNames()[1], k.IFBName(), k.Place()} {
			if other, ok := seen[v]; ok {
				t.Errorf("%s and %s share %v", k, other, v)
			}
			seen[v] = k
		}
	}
}

func TestSharesContainer(t *testing.T) {
	for owner, want := range map[string]bool{
		testKey.String(): true, "other/0123456789abcdef/eth1": true,
		"flatnet/0123/eth0": false, "0123456789abcdef": false, "": false,
	} {
		if got := testKey.SharesContainer(owner); got != want {
			t.Errorf("%q: %v", owner, got)
		}
	}
}

func TestParseHardwareAddr(t *testing.T) {
	for _, s := range []string{
		"", "x", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "02:00:00:00:00:00:00:01", "02:00:00:00:00",
	} {
		if a, err := ParseHardwareAddr(s); err == nil {
			t.Errorf("%q gives %s", s, a)
		}
	}
	if a, err := ParseHardwareAddr("02:AA:00:00:00:01"); err != nil || a.String() != "02:aa:00:00:00:01" {
		t.Errorf("got %s, %v", a, err)
	}
}

func TestLinkLocal(t *testing.T) {
	if got := (HardwareAddr{0x0a, 0x57, 10, 87, 1, 2}).LinkLocal(); got != ip("fe80::857:aff:fe57:102") {
		t.Errorf("got %v", got)
	}
}
