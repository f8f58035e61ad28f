package ipam

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"flatnet/bridge/model"
)

// The promise to other tools: .subnet, .gateway and .allocations as jq reads them.
func TestEncode(t *testing.T) {
	l := &leases{network: "flatnet"}
	l.describe(sets(t, []Range{rng(t, "10.87.1.0/24")}, []Range{rng(t, "fd00::/64")}))
	l.last = addrs("10.87.1.4", "")
	if got, want := string(l.encode()), `{
  "subnet": "10.87.1.0/24",
  "gateway": "10.87.1.1",
  "allocations": {},
  "last": "10.87.1.4,",
  "details": {}
}
`; got != want {
		t.Errorf("empty: got %s", got)
	}
	l.put(model.Key{Network: "flatnet", ContainerID: "c2", IfName: `q"\<`}, addrs("10.87.1.3", "fd00::3"))
	l.put(model.Key{Network: "flatnet", ContainerID: "c1", IfName: "eth0"}, addrs("10.87.1.2"))
	l.put(model.Key{Network: "flatnet", ContainerID: "c1", IfName: "eth1"}, addrs("10.87.1.4"))
	l.put(model.Key{Network: "flatnet", ContainerID: "c1", IfName: `"\`}, addrs("10.87.1.5"))
	if got, want := string(l.encode()), `{
  "subnet": "10.87.1.0/24",
  "gateway": "10.87.1.1",
  "allocations": {
    "c1": "10.87.1.2",
    "c1/\"\\": "10.87.1.5",
    "c1/eth1": "10.87.1.4",
    "c2": "10.87.1.3,fd00::3"
  },
  "last": "10.87.1.4,",
  "details": {
    "c2": {
      "ifname": "q\"\\<"
    }
  }
}
`; got != want {
		t.Errorf("got %s", got)
	}
	back, err := decode("flatnet", l.encode())
	if err != nil || !same(back, l) || back.subnet != l.subnet || back.gateway != l.gateway || !slices.Equal(back.last, l.last) {
		t.Errorf("decoded: %+v, %v", back, err)
	}
}

// same reports whether the same attachments have the same addresses.
func same(a, b *leases) bool { return slices.Equal(a.all, b.all) && maps.Equal(a.details, b.details) }

func TestDecodeTolerates(t *testing.T) {
	const lease = `"allocations": {"c1": "10.0.0.2"}`
	for _, tt := range []struct{ name, data, ifName string }{
		{"only leases", `{` + lease + `}`, "eth0"},
		{"null beside them", `{"subnet": null, "gateway": null, ` + lease + `, "boot": null, "last": null, "details": null}`, "eth0"},
		{"keys of others", `{` + lease + `, "comment": [1, {"a": 2}]}`, "eth0"},
		{"boot not a string", `{` + lease + `, "boot": 7}`, "eth0"},
		{"boot not a boot ID", `{` + lease + `, "boot": "\u0000\"x"}`, "eth0"},
		{"last not a string", `{` + lease + `, "last": {}}`, "eth0"},
		{"last not addresses", `{` + lease + `, "last": "x,fe80::1%\",10.0.0.2"}`, "eth0"},
		{"details not an object", `{` + lease + `, "details": []}`, "eth0"},
		{"details of another type", `{` + lease + `, "details": {"c1": "eth7"}}`, "eth0"},
		{"details without a name", `{` + lease + `, "details": {"c1": {}}}`, "eth0"},
		{"details with a bad name", `{` + lease + `, "details": {"c1": {"ifname": "a/b"}}}`, "eth0"},
		{"details of nobody", `{` + lease + `, "details": {"c9": {"ifname": "eth9"}}}`, "eth0"},
		{"details", `{` + lease + `, "details": {"c1": {"ifname": "eth7", "more": 1}}}`, "eth7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := decode("n", []byte(tt.data))
			if err != nil {
				t.Fatal(err)
			}
			key := model.Key{Network: "n", ContainerID: "c1", IfName: tt.ifName}
			if le := l.of(key); le == nil || le.name != "c1" || le.addrs != "10.0.0.2" {
				t.Errorf("got %+v", l)
			}
			if back, err := decode("n", l.encode()); err != nil || !same(back, l) {
				t.Errorf("encoded: %+v, %v", back, err)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, tt := range []struct{ name, data, text string }{
		{"empty", ``, "not a lease file: empty, want a JSON object"},
		{"zeros", "\x00\x00\x00", "not a lease file: at byte 0: unexpected \"\\x00\\x00\\x00\", want a value"},
		{"trailing data", `{"allocations": {}} {}`, "not a lease file: at byte 20: something follows the JSON object"},
		{"array", `[]`, "not a lease file: want a JSON object, got a list"},
		{"null", `null`, "not a lease file: want a JSON object, got null"},
		{"no leases", `{"subnet": "10.0.0.0/24"}`, "not a lease file: allocations: missing"},
		{"null leases", `{"allocations": null}`, "not a lease file: allocations: missing"},
		{"leases of another type", `{"allocations": {"c1": 7}}`, `not a lease file: at byte 23: unexpected "7}}", want a string`},
		{"subnet", `{"subnet": "10.0.0.0", "allocations": {}}`, `not a lease file: subnet: netip.ParsePrefix("10.0.0.0"): no '/'`},
		{"subnet of another type", `{"subnet": {}, "allocations": {}}`, "not a lease file: subnet: want a string, got an object"},
		{"gateway", `{"gateway": "10.0.0", "allocations": {}}`, `not a lease file: gateway: "10.0.0" is not a plain IP address`},
		{"gateway with a zone", `{"gateway": "fe80::1%\"", "allocations": {}}`, `not a lease file: gateway: "fe80::1%\"" is not a plain IP address`},
		{"no address", `{"allocations": {"c1": ""}}`, `not a lease file: allocations: c1: "" is not a plain IP address`},
		{"half an address", `{"allocations": {"c1": "10.0.0.2,"}}`, `not a lease file: allocations: c1: "" is not a plain IP address`},
		{"v4 in v6", `{"allocations": {"c1": "::ffff:10.0.0.2"}}`, `not a lease file: allocations: c1: "::ffff:10.0.0.2" is not a plain IP address`},
		{"an address twice", `{"allocations": {"c1": "10.0.0.2,10.0.0.2"}}`, `not a lease file: allocations: c1 and c1 both have 10.0.0.2`},
		{"a name twice", `{"allocations": {"c1": "10.0.0.2", "c1": "10.0.0.3"}}`, `not a lease file: allocations: c1 is given twice`},
		{"leases twice", `{"allocations": {"c1": "10.0.0.2"}, "allocations": {"c2": "10.0.0.2"}}`, `not a lease file: at byte 51: key "allocations" is given twice`},
		{"leases in a list", `{"allocations": [["c1", "10.0.0.2"]]}`, `not a lease file: allocations: want an object, got a list`},
		{"leases in an object", `{"allocations": {"c1": {"ip": "10.0.0.2"}}}`, `not a lease file: at byte 23: unexpected "{\"ip\": \"10.0.0.2\"}}}", want a string`},
		{"no ID", `{"allocations": {"": "10.0.0.2"}}`, `not a lease file: allocations: container ID: must not be empty`},
		{"no interface", `{"allocations": {"c1/": "10.0.0.2"}}`, `not a lease file: allocations: interface name: must not be empty`},
		{"control character", `{"allocations": {"c\u001b": "10.0.0.2"}}`, `not a lease file: allocations: container ID: "c\x1b" must be letters, digits, '_', '.' and '-', and start with a letter or digit`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := decode("n", []byte(tt.data))
			if !errors.Is(err, errBroken) || err.Error() != tt.text {
				t.Errorf("got %+v, %v", l, err)
			}
		})
	}
	_, err := decode("n", []byte(`{"allocations": {"c1": "10.0.0.2", "c2": "10.0.0.2"}}`))
	if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "both have 10.0.0.2") {
		t.Errorf("one address of two: %v", err)
	}
}

// Which name an attachment has, and that a tool which drops the details does
// not make two leases one.
func TestNames(t *testing.T) {
	key := func(id, ifName string) model.Key { return model.Key{Network: "n", ContainerID: id, IfName: ifName} }
	l := &leases{network: "n"}
	l.put(key("c1", "net0"), addrs("10.0.0.2"))
	l.put(key("c1", "eth0"), addrs("10.0.0.3"))
	l.put(key("c2", "eth0"), addrs("10.0.0.4"))
	for _, tt := range []struct {
		key  model.Key
		name string
	}{
		{key("c1", "net0"), "c1"}, {key("c1", "eth0"), "c1/eth0"}, {key("c2", "eth0"), "c2"},
		{key("c1", "eth1"), ""}, {key("c3", "eth0"), ""}, {model.Key{Network: "m", ContainerID: "c2", IfName: "eth0"}, ""},
	} {
		if le := l.of(tt.key); (le == nil) != (tt.name == "") || le != nil && le.name != tt.name {
			t.Errorf("%s: %+v", tt.key, le)
		}
	}
	dropped, err := decode("n", []byte(`{"allocations": {"c1": "10.0.0.2", "c1/eth0": "10.0.0.3", "c2": "10.0.0.4"}}`))
	if err != nil || !slices.Equal(dropped.all, l.all) {
		t.Fatalf("got %v, %v", dropped, err)
	}
	if le := dropped.of(key("c1", "eth0")); le == nil || le.name != "c1/eth0" {
		t.Errorf("without details: %+v", le)
	}
}

func FuzzLeaseFile(f *testing.F) {
	for _, s := range []string{
		`{"subnet": "10.87.1.0/24", "gateway": "10.87.1.1", "allocations": {"c1": "10.87.1.2", "c1/eth1": "10.87.1.3,fd00::2"}}`,
		`{"allocations": {"c1": "10.87.1.2"}, "boot": "b-0", "last": "10.87.1.2,,fd00::1", "details": {"c1": {"ifname": "net\"0"}}}`,
		`{"allocations": {}, "subnet": "::ffff:1.2.3.4/120", "gateway": "fe80::1%x", "last": "fe80::1%\"", "boot": "\""}`,
		`{"allocations": {"c1/\u007f": "10.87.1.2"}, "ALLOCATIONS": {"c2/<": "::"}, "details": {"c2/<": {"time": 5}}}`,
		`{"allocations": {"c1": "10.87.1.2", "c1/\"\\": "10.87.1.3"}}`,
		`{"allocations": null}`, `[]`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := decode("n", data)
		if err != nil {
			if !errors.Is(err, errBroken) {
				t.Errorf("%v is no errBroken", err)
			}
			return
		}
		again, err := decode("n", l.encode())
		if err != nil {
			t.Fatalf("%s: %v", l.encode(), err)
		}
		if !bytes.Equal(l.encode(), again.encode()) || !same(l, again) {
			t.Errorf("%+v came back as %+v", l, again)
		}
	})
}
