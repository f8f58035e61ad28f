package span

import (
	"net/netip"
	"strings"
	"testing"

	"flatnet/bridge/model"
)

func TestParseEndpoint(t *testing.T) {
	for in, want := range map[string]string{
		"http://10.100.1.1:8080/api/containers":         "10.100.1.1:8080 /api/containers",
		"http://10.100.1.1":                             "10.100.1.1:80 /",
		"http://10.100.1.1/":                            "10.100.1.1:80 /",
		"http://[fd00::1]:8080/a/":                      "[fd00::1]:8080 /a/",
		"http://[fd00::1]/a%20b;c=d":                    "[fd00::1]:80 /a%20b;c=d",
		"":                                              "",
		"http://":                                       "",
		"http:///a":                                     "",
		"https://10.100.1.1/":                           "",
		"HTTP://10.100.1.1/":                            "",
		"http://gateway/api":                            "",
		"http://10.100.1.1:0/":                          "",
		"http://10.100.1.1:65536/":                      "",
		"http://10.100.1.1:/":                           "",
		"http://fd00::1/":                               "",
		"http://[10.100.1.1]/":                          "",
		"http://[fe80::1%25eth0]/":                      "",
		"http://[fe80::1%eth0]:80/":                     "",
		"http://[::ffff:10.1.1.1]:80/":                  "",
		"http://0.0.0.0/":                               "",
		"http://[::]:80/":                               "",
		"http://224.0.0.1/":                             "",
		"http://user@10.100.1.1/":                       "",
		"http://10.100.1.1/a?b":                         "",
		"http://10.100.1.1/a#b":                         "",
		"http://10.100.1.1/a b":                         "",
		"http://10.100.1.1/a\r\nX: y":                   "",
		"http://10.100.1.1/é":                           "",
		"http://10.100.1.1/" + strings.Repeat("a", 300): "",
	} {
		e, err := ParseEndpoint(in)
		got := ""
		if err == nil {
			got = e.Addr.String() + " " + e.Path
		} else if in != "" && !strings.Contains(err.Error(), "http") {
			t.Errorf("%q: %v", in, err)
		}
		if got != want {
			t.Errorf("%q: %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestComplete(t *testing.T) {
	set := func(s string) []model.Range { return []model.Range{{Subnet: netip.MustParsePrefix(s)}} }
	host := &model.Span{HostID: 7}
	for _, tt := range []struct {
		span *model.Span
		sets [][]model.Range
		want string // the first range, or a part of the error
	}{
		{host, nil, "10.100.7.0/24 10.100.7.10 10.100.7.254 10.100.7.1"},
		{host, [][]model.Range{set("fd00::/64")}, "10.100.7.0/24 10.100.7.10 10.100.7.254 10.100.7.1"},
		{host, [][]model.Range{set("10.100.7.0/24")}, "10.100.7.0/24 10.100.7.10 10.100.7.254 10.100.7.1"},
		{host, [][]model.Range{set("10.100.8.0/24")}, "10.100.8.0/24 is not the 10.100.7.0/24"},
		{&model.Span{}, [][]model.Range{set("10.1.0.0/24")}, "10.1.0.0/24 invalid IP invalid IP invalid IP"},
	} {
		sets, err := Complete(tt.span, tt.sets)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			r := sets[0][0]
			got = strings.Join([]string{r.Subnet.String(), r.Start.String(), r.End.String(), r.Gateway.String()}, " ")
		}
		if !strings.HasPrefix(got, tt.want) {
			t.Errorf("%v: %q, want %q", tt.sets, got, tt.want)
		}
	}
}

func FuzzParseEndpoint(f *testing.F) {
	f.Add("http://10.100.1.1:8080/api/containers")
	f.Add("http://[fd00::1]/")
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ParseEndpoint(s)
		if err == nil && (!strings.HasPrefix(e.Path, "/") || strings.ContainsAny(e.Path, " \r\n\t?#") || !e.Addr.IsValid() || e.Addr.Port() == 0) {
			t.Fatalf("%q: %+v", s, e)
		}
	})
}
