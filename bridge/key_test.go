package bridge

import (
	"reflect"
	"strings"
	"testing"
)

func TestNewKey(t *testing.T) {
	long := strings.Repeat("a", 101)
	for _, tt := range []struct{ network, id, ifName, says string }{
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
		_, err := NewKey(tt.network, tt.id, tt.ifName)
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("NewKey(%.20q, %.20q, %q) = %v, want %q", tt.network, tt.id, tt.ifName, err, tt.says)
		}
	}
}

func TestHostNamesAndMark(t *testing.T) {
	names := testKey.HostNames()
	if names[0] != "fn-01234567" {
		t.Errorf("first name %q", names[0])
	}
	seen := map[any]Key{}
	for _, k := range []Key{testKey, {"flatnet", "0123456789abcdeg", "eth0"}, {"flatnet", "0123456789abcdef", "eth1"}, {"other", "0123456789abcdef", "eth0"}} {
		mark, name := k.Mark(), k.HostNames()[1]
		if mark[0]&3 != 2 {
			t.Errorf("mark %s of %s is not local and unicast", mark, k)
		}
		if len(name) != IfNameSize-1 || ValidIfName(name) != nil {
			t.Errorf("second name %q of %s", name, k)
		}
		for _, v := range []any{mark, name} {
			if other, ok := seen[v]; ok {
				t.Errorf("%s and %s share %v", k, other, v)
			}
			seen[v] = k
		}
	}
	if short := (Key{"flatnet", "ab", "eth0"}).HostNames()[0]; short != "fn-ab" {
		t.Errorf("name of a short ID %q", short)
	}
}

func TestParseHardwareAddr(t *testing.T) {
	for _, s := range []string{"", "x", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "02:00:00:00:00:00:00:01", "02:00:00:00:00"} {
		if a, err := ParseHardwareAddr(s); err == nil {
			t.Errorf("%q gives %s", s, a)
		}
	}
	if a, err := ParseHardwareAddr("02:AA:00:00:00:01"); err != nil || a.String() != "02:aa:00:00:00:01" {
		t.Errorf("got %s, %v", a, err)
	}
}

func TestAliasSpellsTheOwner(t *testing.T) {
	o := Owner{Link: "fn-01234567", Key: testKey, Mark: testKey.Mark()}
	o.Addresses = append(o.Addresses, ip("10.87.1.2"), ip("fd87::2"))
	alias := o.alias()
	if want := "flatnet flatnet/0123456789abcdef/eth0 10.87.1.2,fd87::2"; alias != want {
		t.Errorf("got %q, want %q", alias, want)
	}
	if got := parseOwner(o.Link, o.Mark, alias); !reflect.DeepEqual(got, o) {
		t.Errorf("got %+v, want %+v", got, o)
	}
	longest := Owner{Key: Key{strings.Repeat("n", 64), strings.Repeat("c", 100), strings.Repeat("i", 15)}, Addresses: append(o.Addresses[:1:1],
		ip("2001:db8:1111:2222:3333:4444:5555:6666"))}
	if n := len(longest.alias()); n > 255 {
		t.Errorf("the longest alias has %d bytes: IFALIASZ is 256", n)
	}
}

// An alias that is foreign, or of another owner than the MAC, names nobody.
func TestParseOwnerIgnoresForeignAliases(t *testing.T) {
	for _, alias := range []string{
		"", "flatnet", "uplink", "flatnet a/b", "flatnet flatnet/0123456789abcdef/eth0", "flatnet flatnet/0123456789abcdef/eth0 x",
		"flatnet flatnet/0123456789abcdef/eth1 10.87.1.2", "flatnet //  10.87.1.2", "flatnet flatnet/0123456789abcdef/eth0 10.87.1.2,",
	} {
		if o := parseOwner("fn-x", testKey.Mark(), alias); o.Key != (Key{}) {
			t.Errorf("%q names %s", alias, o.Key)
		}
	}
}

func FuzzParseOwner(f *testing.F) {
	f.Add("flatnet flatnet/0123456789abcdef/eth0 10.87.1.2,fd87::2")
	f.Fuzz(func(t *testing.T, alias string) {
		o := parseOwner("fn-x", testKey.Mark(), alias)
		if o.Key == (Key{}) {
			return
		}
		if o.Key != testKey || !reflect.DeepEqual(parseOwner("fn-x", o.Mark, o.alias()), o) {
			t.Errorf("%q reads as %+v", alias, o)
		}
	})
}
