package fields

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"flatnet/bridge/model"
	"flatnet/internal/strictjson"
)

// read are the readers of a value, by a name.
var read = map[string]func(o *strictjson.Object) any{
	"addr":     func(o *strictjson.Object) any { return Addr(o, "k") },
	"prefix":   func(o *strictjson.Object) any { return Prefix(o, "k") },
	"subnet":   func(o *strictjson.Object) any { return Subnet(o, "k") },
	"subnets":  func(o *strictjson.Object) any { return Subnets(o, "k") },
	"mac":      func(o *strictjson.Object) any { return MAC(o, "k") },
	"port":     func(o *strictjson.Object) any { return Port(o, "k") },
	"host IP":  func(o *strictjson.Object) any { return HostIP(o, "k") },
	"byte":     func(o *strictjson.Object) any { return Uint[uint8](o, "k") },
	"number":   func(o *strictjson.Object) any { return Uint[uint32](o, "k") },
	"pointer":  func(o *strictjson.Object) any { return UintIf[uint8](o, "k") == nil },
	"one of":   func(o *strictjson.Object) any { return OneOf(o, "k", "a", "b") },
	"name":     func(o *strictjson.Object) any { return Text(o, "k", ParseIfName) },
	"protocol": func(o *strictjson.Object) any { return Required(o, "k", ParseProtocol) },
	"texts":    func(o *strictjson.Object) any { return Texts(o, "k", ParseProtocol) },
}

// values are values, and how they read or the error of each.
var values = []struct{ kind, value, want string }{
	{"addr", `"10.1.2.3"`, "10.1.2.3"},
	{"addr", `"::ffff:10.1.2.3"`, "10.1.2.3"},
	{"addr", `""`, "invalid IP"},
	{"addr", `"x"`, `k: "x" is not an IP address`},
	{"addr", `"fe80::1%lo"`, `k: "fe80::1%lo" has a zone, which only has a meaning on its own host`},
	{"addr", `7`, "k: want a string, got 7"},
	{"prefix", `"10.1.2.3/24"`, "10.1.2.3/24"},
	{"prefix", `null`, `k: "" is not an address and length in the form 10.87.1.2/24`},
	{"subnet", `"10.1.2.3/24"`, "10.1.2.0/24"},
	{"subnet", `"::ffff:10.1.2.0/120"`, `k: "::ffff:10.1.2.0/120" is not a subnet in the form 10.87.1.0/24`},
	{"subnets", `["fd00::/64","10.1.2.0/24"]`, "[fd00::/64 10.1.2.0/24]"},
	{"subnets", `["fd00::/64",""]`, `k[1]: "" is not a subnet in the form 10.87.1.0/24`},
	{"mac", `"02:00:00:00:00:01"`, "02:00:00:00:00:01"},
	{"mac", `""`, "00:00:00:00:00:00"},
	{"port", `65535`, "65535"},
	{"port", `0`, "k: must be a number from 1 to 65535"},
	{"port", `65536`, "k: want a whole number from 0 to 65535, got 65536"},
	{"host IP", `"::"`, "::"},
	{"host IP", `"224.0.0.1"`, "k: 224.0.0.1 is a multicast address"},
	{"byte", `256`, "k: want a whole number from 0 to 255, got 256"},
	{"number", `4294967295`, "4294967295"},
	{"pointer", `0`, "false"},
	{"pointer", `null`, "true"},
	{"one of", `"b"`, "b"},
	{"one of", `null`, ""},
	{"one of", `""`, `k: "" is none of a, b`},
	{"name", `"eth0"`, "eth0"},
	{"name", `"default"`, `k: "default" is reserved by the kernel`},
	{"name", `""`, "k: must not be empty"},
	{"protocol", `"sctp"`, "132"},
	{"protocol", `"TCP"`, `k: "TCP" is none of tcp, udp, sctp`},
	{"texts", `["tcp","udp"]`, "[6 17]"},
	{"texts", `["tcp","x"]`, `k[1]: "x" is none of tcp, udp, sctp`},
}

// Each value is read from {"k":VALUE}; want is the value or the error.
func TestFields(t *testing.T) {
	for _, tt := range values {

		doc, err := strictjson.Parse([]byte(`{"k":` + tt.value + `}`))
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(read[tt.kind](doc))
		if err := doc.Err(); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s of %s: %s, want %s", tt.kind, tt.value, got, tt.want)
		}
	}
}

func TestHostBitsAreNoted(t *testing.T) {
	doc, err := strictjson.Parse([]byte(`{"a":"10.1.2.3/24","l":["10.0.0.0/8","fd00::1/64"]}`))
	if err != nil {
		t.Fatal(err)
	}
	Subnet(doc, "a")
	if got := Subnets(doc, "l"); got[1] != netip.MustParsePrefix("fd00::/64") {
		t.Error(got)
	}
	want := `[a: "10.1.2.3/24" has host bits set; it is read as 10.1.2.0/24 l[1]: "fd00::1/64" has host bits set; it is read as fd00::/64]`
	if got := fmt.Sprint(doc.Notes()); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestCheckMTU(t *testing.T) {
	for n, ok := range map[uint64]bool{0: true, 67: false, 68: true, 65535: true, 65536: false} {
		if (CheckMTU(n) == nil) != ok {
			t.Errorf("%d: %v", n, CheckMTU(n))
		}
	}
}

func TestWithin(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "ab", 2}, {"subnet", "subnett", 1}, {"subnet", "subent", 1}, {"mtu", "mut", 1}, {"vlan", "wlan", 1}, {"kitten", "sitting", 3}} {
		for n := range 4 {
			if got := within(n, c.a, c.b); got != (n >= c.want) || got != within(n, c.b, c.a) {
				t.Errorf("%s and %s: %v with %d changes", c.a, c.b, got, n)
			}
		}
	}
}

// Ports on ::1 and link-local addresses are left out where they have another address, and
// that is noted once.
func TestTranslatable(t *testing.T) {
	doc, err := strictjson.Parse([]byte(`{"k":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	port := func(ip string, host uint16) model.PortMapping {
		return model.PortMapping{Protocol: 6, HostIP: netip.MustParseAddr(ip), HostPort: host, ContainerPort: 80}
	}
	ports := []model.PortMapping{port("127.0.0.1", 1), port("::1", 1), port("::1", 2), port("fe80::1", 3), port("::", 3), port("::1", 3)}
	want := []model.PortMapping{ports[0], ports[2], ports[4]}
	if got := Translatable(doc, "k", ports); !slices.Equal(got, want) || len(doc.Notes()) != 1 {
		t.Errorf("%v, notes %q", got, doc.Notes())
	}
	if got := Translatable(doc, "k", ports[2:3]); !slices.Equal(got, ports[2:3]) || len(doc.Notes()) != 1 {
		t.Errorf("alone: %v, notes %q", got, doc.Notes())
	}
}
