package listeners

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"flatnet/bridge/model"
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
		p := model.PortMapping{HostPort: 80}
		if c.hostIP != "" {
			p.HostIP = netip.MustParseAddr(c.hostIP)
		}
		s := Socket{Addr: netip.MustParseAddrPort(c.socket), OnlyIPv6: c.only}
		if got := takes(p, s, c.families[0] == '4', c.families != "4"); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// Of many sockets only some are named, and the rest is counted.
func TestFindBoundsItsAnswer(t *testing.T) {
	const all = 3 * maxNamed
	var ports []model.PortMapping
	for range all {
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		at := netip.MustParseAddrPort(c.LocalAddr().String())
		ports = append(ports, model.PortMapping{Protocol: 17, HostPort: at.Port(), ContainerPort: 80})
	}
	ips := []model.IP{{Address: netip.MustParsePrefix("10.87.1.2/24")}}
	found := Find(ports, ips)
	if len(found) != maxNamed+1 || found[maxNamed] != fmt.Sprintf("programs of the host listen at %d more addresses and ports that are published", all-maxNamed) {
		t.Errorf("%d sentences, the last one is %q", len(found), found[len(found)-1])
	}
}
