package cni

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"flatnet/bridge/model"
)

// readable are results as IPAM plugins give them, in the shapes of all versions.
var readable = []string{
	`{"cniVersion":"1.1.0","ips":[{"address":"10.1.2.3/24","gateway":"10.1.2.1"}],"routes":[{"dst":"0.0.0.0/0"}]}`,
	`{"cniVersion":"1.0.0","ips":[{"address":"10.1.2.3/24","gateway":"10.1.2.1"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{}}`,
	`{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.1.2.3/24","gateway":"10.1.2.1"}],"routes":[{"dst":"0.0.0.0/0"}]}`,
	`{"cniVersion":"0.2.0","ip4":{"ip":"10.1.2.3/24","gateway":"10.1.2.1","routes":[{"dst":"0.0.0.0/0"}]},"dns":{}}`,
	`{"ip4":{"ip":"10.1.2.3/24","gateway":"10.1.2.1","routes":[{"dst":"0.0.0.0/0"}]}}`,
	`{"ips":[{"address":"10.1.2.3/24","gateway":"10.1.2.1"}],"routes":[{"dst":"0.0.0.0/0"}]}`,
}

func TestReadResult(t *testing.T) {
	want := model.Result{
		IPs:    []model.IP{{Address: netip.MustParsePrefix("10.1.2.3/24"), Gateway: netip.MustParseAddr("10.1.2.1"), Interface: -1}},
		Routes: []model.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0")}},
	}
	for _, s := range readable {
		if got, err := ReadResult([]byte(s)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for s, text := range map[string]string{
		``:                       "empty",
		`hello`:                  "at byte",
		`{"cniVersion":"9.0.0"}`: `cniVersion: "9.0.0" is not supported`,
		`{"ip4":{"ip":"x"}}`:     `ip4.ip: "x"`,
		`{"ips":[{"address":"10.1.2.3/24","interface":0}]}`: "ips[0].interface",
	} {
		if _, err := ReadResult([]byte(s)); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", s, err)
		}
	}
}

// FuzzReadResult wants every address that is read to be one that can be given
// to an interface.
func FuzzReadResult(f *testing.F) {
	for _, s := range readable {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ReadResult(data)
		if err != nil {
			return
		}
		for _, ip := range r.IPs {
			if !ip.Address.IsValid() || ip.Address.Addr().Is4In6() || ip.Address.Addr().Zone() != "" {
				t.Errorf("%s: %v", data, ip)
			}
		}
		for _, route := range r.Routes {
			if route.Dst != route.Dst.Masked() {
				t.Errorf("%s: %v", data, route)
			}
		}
	})
}
