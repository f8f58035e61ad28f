package resolvconf

import (
	"reflect"
	"strings"
	"testing"

	"flatnet/bridge/model"
)

func TestParse(t *testing.T) {
	got := parse([]byte("# comment\n; nameserver 9.9.9.9\nnameserver 10.0.0.1 # x\r\n nameserver\tfe80::1%eth0\nnameserver bad\n" +
		"domain a\nsearch b c\nsearch d e\noptions ndots:1\noptions edns0 trust-ad\nsortlist x\nsearch\n"))
	want := model.DNS{Nameservers: []string{"10.0.0.1", "fe80::1%eth0"}, Domain: "a", Search: []string{"d", "e"},
		Options: []string{"ndots:1", "edns0", "trust-ad"}}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("nameserver 10.0.0.1\nsearch a b\noptions ndots:1\ndomain x\n# x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		dns := parse(data)
		for _, s := range append(append([]string{dns.Domain}, dns.Search...), dns.Options...) {
			if strings.ContainsAny(s, " \t\n") {
				t.Fatalf("%q", s)
			}
		}
	})
}
