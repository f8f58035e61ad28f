package listeners

import (
	"net/netip"
	"testing"

	"flatnet/bridge"
	"flatnet/internal/sockdiag"
)

func TestTakes(t *testing.T) {
	for _, c := range []struct {
		hostIP, socket string
		only           bool
		families       string
		want           bool
	}{
		{"", "0.0.0.0:80", false, "4", true},
		{"", "0.0.0.0:80", false, "6", false},
		{"", "0.0.0.0:81", false, "46", false},
		{"", "[::]:80", false, "4", true},
		{"", "[::]:80", true, "4", false},
		{"", "[::]:80", true, "46", true},
		{"", "127.0.0.1:80", false, "4", true},
		{"", "[::1]:80", true, "46", false},
		{"", "192.0.2.1:80", false, "4", true},
		{"0.0.0.0", "[::]:80", true, "46", false},
		{"::", "0.0.0.0:80", false, "46", false},
		{"192.0.2.1", "192.0.2.1:80", false, "4", true},
		{"192.0.2.1", "192.0.2.2:80", false, "4", false},
		{"192.0.2.1", "0.0.0.0:80", false, "4", true},
		{"2001:db8::1", "0.0.0.0:80", false, "46", false},
		{"2001:db8::1", "[::]:80", false, "46", true},
	} {
		p := bridge.PortMapping{HostPort: 80}
		if c.hostIP != "" {
			p.HostIP = netip.MustParseAddr(c.hostIP)
		}
		s := sockdiag.Socket{Addr: netip.MustParseAddrPort(c.socket), OnlyIPv6: c.only}
		if got := takes(p, s, c.families[0] == '4', c.families != "4"); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
