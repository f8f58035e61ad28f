package cni

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"flatnet/bridge/model"
)

func ptr[T any](v T) *T { return &v }

// full is a result with everything that a result can have.
var full = model.Result{
	Interfaces: []model.Interface{
		{Name: "flatnet-br0", MAC: "02:00:00:00:00:01", MTU: 1500},
		{Name: "fn-01234567", MAC: "02:00:00:00:00:02", MTU: 1500},
		{Name: "eth0", MAC: "02:00:00:00:00:03", MTU: 1500, Sandbox: "/run/netns/c1"},
	},
	IPs: []model.IP{
		{Address: netip.MustParsePrefix("10.87.1.5/24"), Gateway: netip.MustParseAddr("10.87.1.1"), Interface: 2},
		{Address: netip.MustParsePrefix("fd00::5/64"), Gateway: netip.MustParseAddr("fd00::1"), Interface: 2},
		{Address: netip.MustParsePrefix("10.88.0.5/16"), Interface: -1},
	},
	Routes: []model.Route{
		{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.87.1.1")},
		{Dst: netip.MustParsePrefix("::/0")},
		{Dst: netip.MustParsePrefix("192.0.2.0/24"), MTU: 1400, AdvMSS: 1360, Priority: 7, Table: ptr(uint32(0)), Scope: ptr(uint8(253))},
	},
	DNS: model.DNS{Nameservers: []string{"10.87.1.1"}, Domain: "d", Search: []string{"s"}, Options: []string{"ndots:1"}},
}

var empty model.Result

// The texts are what the reference library (containernetworking/cni 1.3,
// pkg/types) prints for the same result, less its line breaks, its sorting of
// keys and what a version's SPEC does not have (it prints mtu and its like in
// all versions).
var resultShapes = []struct {
	versions string
	result   model.Result
	want     string // behind cniVersion
}{
	{"0.1.0 0.2.0", full, `,"ip4":{"ip":"10.87.1.5/24","gateway":"10.87.1.1",` +
		`"routes":[{"dst":"0.0.0.0/0","gw":"10.87.1.1"},{"dst":"192.0.2.0/24"}]},` +
		`"ip6":{"ip":"fd00::5/64","gateway":"fd00::1","routes":[{"dst":"::/0"}]},` +
		`"dns":{"nameservers":["10.87.1.1"],"domain":"d","search":["s"],"options":["ndots:1"]}}`},
	{"0.3.0 0.3.1 0.4.0", full, `,"interfaces":[{"name":"flatnet-br0","mac":"02:00:00:00:00:01"},` +
		`{"name":"fn-01234567","mac":"02:00:00:00:00:02"},` +
		`{"name":"eth0","mac":"02:00:00:00:00:03","sandbox":"/run/netns/c1"}],` +
		`"ips":[{"version":"4","interface":2,"address":"10.87.1.5/24","gateway":"10.87.1.1"},` +
		`{"version":"6","interface":2,"address":"fd00::5/64","gateway":"fd00::1"},` +
		`{"version":"4","address":"10.88.0.5/16"}],` +
		`"routes":[{"dst":"0.0.0.0/0","gw":"10.87.1.1"},{"dst":"::/0"},{"dst":"192.0.2.0/24"}],` +
		`"dns":{"nameservers":["10.87.1.1"],"domain":"d","search":["s"],"options":["ndots:1"]}}`},
	{"1.0.0", full, `,"interfaces":[{"name":"flatnet-br0","mac":"02:00:00:00:00:01"},` +
		`{"name":"fn-01234567","mac":"02:00:00:00:00:02"},` +
		`{"name":"eth0","mac":"02:00:00:00:00:03","sandbox":"/run/netns/c1"}],` +
		`"ips":[{"interface":2,"address":"10.87.1.5/24","gateway":"10.87.1.1"},` +
		`{"interface":2,"address":"fd00::5/64","gateway":"fd00::1"},{"address":"10.88.0.5/16"}],` +
		`"routes":[{"dst":"0.0.0.0/0","gw":"10.87.1.1"},{"dst":"::/0"},{"dst":"192.0.2.0/24"}],` +
		`"dns":{"nameservers":["10.87.1.1"],"domain":"d","search":["s"],"options":["ndots:1"]}}`},
	{"1.1.0", full, `,"interfaces":[{"name":"flatnet-br0","mac":"02:00:00:00:00:01","mtu":1500},` +
		`{"name":"fn-01234567","mac":"02:00:00:00:00:02","mtu":1500},` +
		`{"name":"eth0","mac":"02:00:00:00:00:03","mtu":1500,"sandbox":"/run/netns/c1"}],` +
		`"ips":[{"interface":2,"address":"10.87.1.5/24","gateway":"10.87.1.1"},` +
		`{"interface":2,"address":"fd00::5/64","gateway":"fd00::1"},{"address":"10.88.0.5/16"}],` +
		`"routes":[{"dst":"0.0.0.0/0","gw":"10.87.1.1"},{"dst":"::/0"},` +
		`{"dst":"192.0.2.0/24","mtu":1400,"advmss":1360,"priority":7,"table":0,"scope":253}],` +
		`"dns":{"nameservers":["10.87.1.1"],"domain":"d","search":["s"],"options":["ndots:1"]}}`},
	{"1.1.0", model.Result{Interfaces: []model.Interface{{Name: "eth0"}}, IPs: []model.IP{{Address: netip.MustParsePrefix("10.87.1.5/24")}}},
		`,"interfaces":[{"name":"eth0"}],"ips":[{"interface":0,"address":"10.87.1.5/24"}]}`},
	{"0.1.0 0.2.0 0.3.0 0.3.1 0.4.0", empty, `,"dns":{}}`},
	{"1.0.0 1.1.0", empty, `}`},
}

func TestResultShapes(t *testing.T) {
	for _, tt := range resultShapes {
		for v := range strings.FieldsSeq(tt.versions) {
			want := `{"cniVersion":"` + v + `"` + tt.want + "\n"
			if _, got := call(&fake{result: tt.result}, environ("ADD"), `{"cniVersion":"`+v+`","name":"n"}`); got != want {
				t.Errorf("%s:\n got %s\nwant %s", v, got, want)
			}
		}
	}
}

// known is what a version can say of full.
func known(version string) model.Result {
	r := full
	if version < "1.1.0" {
		r.Interfaces = append([]model.Interface{}, r.Interfaces...)
		for i := range r.Interfaces {
			r.Interfaces[i].MTU = 0
		}
		r.Routes = append([]model.Route{}, r.Routes...)
		r.Routes[2] = model.Route{Dst: r.Routes[2].Dst}
	}
	if version < "0.3.0" {
		r.Interfaces = nil
		r.IPs = []model.IP{r.IPs[0], r.IPs[1]}
		r.IPs[0].Interface, r.IPs[1].Interface = -1, -1
		r.Routes = []model.Route{r.Routes[0], r.Routes[2], r.Routes[1]} // by family
	}
	return r
}

// TestPrevResultRoundTrip gives each version's result back to CHECK, which is
// of the newest version but must take the result for what it says it is.
func TestPrevResultRoundTrip(t *testing.T) {
	for _, v := range Versions() {
		_, prev := call(&fake{result: full}, environ("ADD"), `{"cniVersion":"`+v+`","name":"n"}`)
		var f fake
		if status, out := call(&f, environ("CHECK"), `{"cniVersion":"1.1.0","name":"n","prevResult":`+prev+`}`); status != 0 {
			t.Fatalf("%s: %s", v, out)
		}
		if want := known(v); !reflect.DeepEqual(f.prev, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", v, f.prev, want)
		}
	}
}

// TestPrevResultOfOthers takes results with what the reference and later
// plugins put into them.
func TestPrevResultOfOthers(t *testing.T) {
	var f fake
	status, out := call(&f, environ("CHECK"), `{"cniVersion":"0.4.0","name":"n","prevResult":{
		"interfaces":[{"name":"eth0","mac":"","mtu":0,"sandbox":"/x","socketPath":"/s","pciID":"0000:00"}],
		"ips":[{"version":"4","interface":0,"address":"10.1.2.3/24","gateway":""}],
		"routes":[{"dst":"10.9.1.2/16","gw":""}],"dns":{"search":["a b"]},"more":{}}}`)
	if status != 0 {
		t.Fatal(out)
	}
	want := model.Result{
		Interfaces: []model.Interface{{Name: "eth0", Sandbox: "/x"}},
		IPs:        []model.IP{{Address: netip.MustParsePrefix("10.1.2.3/24")}},
		Routes:     []model.Route{{Dst: netip.MustParsePrefix("10.9.0.0/16")}},
		DNS:        model.DNS{Search: []string{"a b"}},
	}
	if !reflect.DeepEqual(f.prev, want) {
		t.Errorf("got %+v\nwant %+v", f.prev, want)
	}
}

func BenchmarkMinimal(b *testing.B) { benchmark(b, environ("ADD"), minimal) }

// BenchmarkPodman is the ADD captured from Podman 4.3.1, with two further
// plugins' worth of keys.
func BenchmarkPodman(b *testing.B) {
	benchmark(b, environ("ADD", "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=c2;MAC=02:aa:bb:cc:dd:01;IP=10.99.1.77"), podman)
}

func benchmark(b *testing.B, env map[string]string, stdin string) {
	f := &fake{result: full}
	b.ReportAllocs()
	for b.Loop() {
		if status, out := call(f, env, stdin); status != 0 {
			b.Fatal(out)
		}
	}
}
