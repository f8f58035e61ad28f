package bridge

import (
	"fmt"
	"net/netip"
	"testing"

	"flatnet/internal/conntrack"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

func udp(host, target string) Publication {
	return Publication{Protocol: unix.IPPROTO_UDP, Host: at(host), Target: at(target)}
}

// However many ports there are, the kernel is asked a few times only, and never for
// all flows on account of a port that leads nowhere.
func TestConntrackIsAskedOnce(t *testing.T) {
	var many []Publication
	for port := range 1000 {
		many = append(many, udp(fmt.Sprintf("0.0.0.0:%d", port+1), "10.87.1.2:53"), udp(fmt.Sprintf("[::]:%d", port+1), "[fd87::2]:53"))
	}
	few := []Publication{udp("0.0.0.0:53", "10.87.1.2:53"), udp("127.0.0.1:54", "10.87.1.2:54"),
		{Protocol: unix.IPPROTO_UDP, Target: at("10.88.1.2:54"), Local: true}, {Protocol: unix.IPPROTO_TCP, Host: at("0.0.0.0:80"), Target: at("10.87.1.2:80")}}
	var servers []Publication
	for i := range 200 {
		servers = append(servers, udp(fmt.Sprintf("0.0.0.0:%d", i+1), fmt.Sprintf("10.87.1.%d:53", i+2)))
	}
	for name, got := range map[string]struct {
		stale stale
		want  int
	}{
		"to many servers": {flowsTo(servers), 1},
		"to many":         {flowsTo(many), 2}, "past many": {flowsPast(many, nil), 2},
		"to few": {flowsTo(few), 1}, "past few": {flowsPast(few, nil), 2},
		"tcp only": {flowsPast(few[3:], nil), 0},
	} {
		if len(got.stale.queries) != got.want {
			t.Errorf("%s: %+v", name, got.stale.queries)
		}
	}
}

func TestStaleFlows(t *testing.T) {
	flow := func(dst, server string) conntrack.Flow {
		return conntrack.Flow{Protocol: unix.IPPROTO_UDP, Src: at("192.0.2.2:40000"), Dst: at(dst), Server: at(server)}
	}
	addrs := []rtnl.Addr{{Prefix: netip.MustParsePrefix("192.0.2.1/24")}}
	ports := []Publication{udp("0.0.0.0:53", "10.87.1.2:53"), udp("192.0.2.1:54", "10.87.1.2:54")}
	for _, c := range []struct {
		flow     conntrack.Flow
		to, past bool
	}{
		{flow("192.0.2.1:53", "10.87.1.2:53"), true, false},
		{flow("192.0.2.1:53", "192.0.2.1:53"), false, true},
		{flow("127.0.0.1:53", "10.87.1.9:53"), false, true},
		{flow("198.51.100.1:53", "198.51.100.1:53"), false, false}, // only forwarded
		{flow("192.0.2.1:54", "10.87.1.9:54"), false, true},
		{flow("127.0.0.1:54", "127.0.0.1:54"), false, false}, // another address
		{flow("192.0.2.1:55", "192.0.2.1:55"), false, false},
	} {
		if to, past := flowsTo(ports).is(c.flow), flowsPast(ports, addrs).is(c.flow); to != c.to || past != c.past {
			t.Errorf("%v, served by %v: %v, %v", c.flow, c.flow.Server, to, past)
		}
	}
}
