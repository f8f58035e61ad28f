package ports

import (
	"fmt"
	"net/netip"
	"testing"

	"flatnet/bridge/model"
	"flatnet/internal/conntrack"
	"flatnet/internal/nft"
)

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func udp(host, target string) model.Publication {
	return model.Publication{Protocol: model.UDP, Host: at(host), Target: at(target)}
}

// However many ports there are, the kernel is asked a few times only, and never for
// all flows on account of a port that leads nowhere.
func TestConntrackIsAskedOnce(t *testing.T) {
	var many, servers []model.Publication
	for port := range 1000 {
		many = append(many, udp(fmt.Sprintf("0.0.0.0:%d", port+1), "10.87.1.2:53"), udp(fmt.Sprintf("[::]:%d", port+1), "[fd87::2]:53"))
	}
	for i := range 200 {
		servers = append(servers, udp(fmt.Sprintf("0.0.0.0:%d", i+1), fmt.Sprintf("10.87.1.%d:53", i+2)))
	}
	few := []model.Publication{udp("0.0.0.0:53", "10.87.1.2:53"), udp("127.0.0.1:54", "10.87.1.2:54"),
		{Protocol: model.UDP, Target: at("10.88.1.2:54"), Local: true}, {Protocol: model.TCP, Host: at("0.0.0.0:80"), Target: at("10.87.1.2:80")}}
	for _, tt := range []struct {
		name            string
		gone, published []model.Publication
		want            int
	}{
		{"to many servers", servers, nil, 1}, {"to many", many, nil, 2}, {"past many", nil, many, 2}, {"both", servers, many, 2},
		{"to few", few, nil, 1}, {"past few", nil, few, 2}, {"tcp only", nil, few[3:], 0},
	} {
		if queries, _ := staleFlows(tt.gone, tt.published, nil); len(queries) != tt.want {
			t.Errorf("%s: %+v", tt.name, queries)
		}
	}
}

func TestStaleFlows(t *testing.T) {
	flow := func(dst, server string) conntrack.Flow {
		return conntrack.Flow{Protocol: model.UDP, Src: at("192.0.2.2:40000"), Dst: at(dst), Server: at(server)}
	}
	ports := []model.Publication{udp("0.0.0.0:53", "10.87.1.2:53"), udp("192.0.2.1:54", "10.87.1.2:54")}
	_, to := staleFlows(ports, nil, nil)
	_, past := staleFlows(nil, ports, []netip.Addr{ip("192.0.2.1")})
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
		if to, past := to(c.flow), past(c.flow); to != c.to || past != c.past {
			t.Errorf("%v, served by %v: %v, %v", c.flow, c.flow.Server, to, past)
		}
	}
}

// What is read of an element is what was published.
func TestElementOfAPublication(t *testing.T) {
	for _, p := range []model.Publication{
		{Protocol: model.TCP, Host: at("0.0.0.0:8080"), Target: at("10.87.1.2:80")},
		{Protocol: model.UDP, Host: at("192.0.2.1:53"), Target: at("10.87.1.2:5353")},
		{Protocol: model.SCTP, Host: at("[::]:1"), Target: at("[fd87::2]:65535")},
		{Protocol: model.TCP, Host: at("[2001:db8::1]:65535"), Target: at("[fd87::2]:1")},
	} {
		for _, table := range tables() {
			if !table.takes(p) {
				continue
			}
			if got, ok := publication(table.element(p, "")); !ok || got != p {
				t.Errorf("got %v, want %v", got, p)
			}
		}
	}
	for size := range 8 {
		zeros := string(make([]byte, size))
		if p, ok := publication(nft.Element{Key: zeros, Data: zeros}); ok {
			t.Errorf("%d bytes are read as %v", size, p)
		}
	}
}
