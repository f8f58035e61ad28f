package bridge

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"flatnet/internal/nft"

	"golang.org/x/sys/unix"
)

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func TestPublications(t *testing.T) {
	v4, v6 := Address{Prefix: pfx("10.87.1.2/24")}, Address{Prefix: pfx("fd87::2/64")}
	tcp := func(host string, port uint16) PortMapping {
		p := PortMapping{Protocol: unix.IPPROTO_TCP, HostPort: port, ContainerPort: 80}
		if host != "" {
			p.HostIP = ip(host)
		}
		return p
	}
	pub := func(host, target string) Publication {
		return Publication{Protocol: unix.IPPROTO_TCP, Host: at(host), Target: at(target)}
	}
	local := func(host, target string) Publication {
		p := Publication{Protocol: unix.IPPROTO_TCP, Target: at(target), Local: true}
		if host != "" {
			p.Host = at(host)
		}
		return p
	}
	for _, tt := range []struct {
		name  string
		ports []PortMapping
		addrs []Address
		want  []Publication // nil: refused
	}{
		{"each family that the container has", []PortMapping{tcp("", 8080)}, []Address{v4, v6},
			[]Publication{pub("0.0.0.0:8080", "10.87.1.2:80"), pub("[::]:8080", "[fd87::2]:80")}},
		{"one family", []PortMapping{tcp("", 8080)}, []Address{v6}, []Publication{pub("[::]:8080", "[fd87::2]:80")}},
		{"that of the host address", []PortMapping{tcp("192.0.2.1", 8080), tcp("::", 8081)}, []Address{v4, v6},
			[]Publication{pub("192.0.2.1:8080", "10.87.1.2:80"), pub("[::]:8081", "[fd87::2]:80")}},
		{"the first address of a family", []PortMapping{tcp("0.0.0.0", 80)}, []Address{v4, {Prefix: pfx("10.88.0.2/24")}},
			[]Publication{pub("0.0.0.0:80", "10.87.1.2:80")}},
		{"the same twice", []PortMapping{tcp("", 80), tcp("0.0.0.0", 80)}, []Address{v4}, []Publication{pub("0.0.0.0:80", "10.87.1.2:80")}},
		{"one port on two addresses", []PortMapping{tcp("192.0.2.1", 80), tcp("192.0.2.9", 80)}, []Address{v4},
			[]Publication{pub("192.0.2.1:80", "10.87.1.2:80"), pub("192.0.2.9:80", "10.87.1.2:80")}},
		{"the loopback address only", []PortMapping{tcp("127.0.0.1", 8080)}, []Address{v4, v6, {Prefix: pfx("10.88.0.2/24")}},
			[]Publication{local("127.0.0.1:8080", "10.87.1.2:80"), local("", "[fd87::2]:80"), local("", "10.88.0.2:80")}},
		{"the loopback address twice", []PortMapping{tcp("127.0.0.1", 8080), tcp("127.0.0.1", 8081)}, []Address{v4, v6},
			[]Publication{local("127.0.0.1:8080", "10.87.1.2:80"), local("127.0.0.1:8081", "10.87.1.2:80"), local("", "[fd87::2]:80")}},
		{"the loopback address and others", []PortMapping{tcp("127.0.0.1", 8080), tcp("", 8081)}, []Address{v4, v6},
			[]Publication{pub("127.0.0.1:8080", "10.87.1.2:80"), pub("0.0.0.0:8081", "10.87.1.2:80"), pub("[::]:8081", "[fd87::2]:80")}},
		{"the loopback address and another family", []PortMapping{tcp("127.0.0.1", 8080), tcp("::", 8080)}, []Address{v4, v6},
			[]Publication{local("127.0.0.1:8080", "10.87.1.2:80"), pub("[::]:8080", "[fd87::2]:80")}},
		{"no address of the family", []PortMapping{tcp("::", 80)}, []Address{v4}, nil},
		{"::1", []PortMapping{tcp("::1", 80)}, []Address{v4, v6}, nil},
		{"everywhere and somewhere", []PortMapping{tcp("", 80), {unix.IPPROTO_TCP, ip("127.0.0.1"), 80, 81}}, []Address{v4}, nil},
	} {
		got, err := publications(tt.ports, tt.addrs)
		if !reflect.DeepEqual(got, tt.want) || (err == nil) != (tt.want != nil) || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v, %v", tt.name, got, err)
		}
	}
}

// What is read of an element is what was published.
func TestElementOfAPublication(t *testing.T) {
	for _, p := range []Publication{
		{unix.IPPROTO_TCP, at("0.0.0.0:8080"), at("10.87.1.2:80"), false},
		{unix.IPPROTO_UDP, at("192.0.2.1:53"), at("10.87.1.2:5353"), false},
		{unix.IPPROTO_SCTP, at("[::]:1"), at("[fd87::2]:65535"), false},
		{unix.IPPROTO_TCP, at("[2001:db8::1]:65535"), at("[fd87::2]:1"), false},
	} {
		e := p.element(testKey)
		if got, ok := portsOf(familyOf(p.Host.Addr())).publication(e); !ok || got != p {
			t.Errorf("got %v, want %v", got, p)
		}
	}
	if _, ok := portsOf(nft.IPv4).publication(entry{Element: nft.Element{Key: []byte{1}}}); ok {
		t.Error("a short key is read")
	}
}

func TestRecords(t *testing.T) {
	r := records{dir: t.TempDir()}
	f := Firewall{Network: "flatnet", Bridge: "br", Subnet: pfx("fd87::/64"), Gateway: ip("fd87::1"), Flat: []netip.Prefix{pfx("fd00::/8")}, IPMasq: true}
	w := wish{testKey, []Publication{{6, at("[::]:80"), at("[fd87::2]:80"), false}}, &Guard{"fn-0", HardwareAddr{2, 0, 0, 0, 0, 1}, []netip.Addr{ip("fd87::2")}, false}, Bandwidth{Ingress: Limit{Rate: 8}}, true}
	r.saveFirewall(f)
	r.saveWish(w)
	firewalls, wishes, err := r.all()
	if err != nil || !reflect.DeepEqual(firewalls, []Firewall{f}) || !reflect.DeepEqual(wishes, []wish{w}) {
		t.Errorf("got %+v, %+v, %v", firewalls, wishes, err)
	}
	if got, ok := r.wish(testKey); !ok || !reflect.DeepEqual(got, w) {
		t.Errorf("got %+v, %v", got, ok)
	}
	// One that is being written, one that goes at this moment, and one that is broken.
	for name, bad := range map[string]bool{"c9:eth0": false, "firewall:10.0.0.0_8": false, "c8:eth0": true} {
		path := filepath.Join(r.dir, "flatnet", name)
		content := ""
		if bad {
			content = "{"
		}
		if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Symlink("gone", path+"-")); err != nil {
			t.Fatal(err)
		}
		firewalls, wishes, err := r.all()
		if (err != nil) != bad || len(firewalls) != 1 || len(wishes) != 1 {
			t.Errorf("beside %s: got %v, %v, %v", name, firewalls, wishes, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(r.dropWish(testKey), r.dropWish(testKey), r.dropNetwork("flatnet"), r.dropNetwork("flatnet")); err != nil {
		t.Error(err)
	}
	if firewalls, wishes, err := r.all(); err != nil || len(firewalls)+len(wishes) != 0 {
		t.Errorf("left %v, %v, %v", firewalls, wishes, err)
	}
}

func TestWhatDropsForwarded(t *testing.T) {
	accept, drop := nft.Verdict{Code: nft.Accept}, nft.Verdict{Code: nft.Drop}
	rules := func(exprs ...nft.Expr) []nft.Rule { return []nft.Rule{{Exprs: []nft.Expr{accept}}, {Exprs: exprs}} }
	for _, tt := range []struct {
		name  string
		chain nft.Chain
		rules []nft.Rule
		want  bool
	}{
		{"policy", nft.Chain{Drop: true}, rules(accept), true},
		{"no rule", nft.Chain{}, nil, false},
		{"last rule accepts", nft.Chain{}, rules(accept), false},
		{"last rule drops", nft.Chain{}, rules(drop), true},
		{"last rule counts, logs and rejects", nft.Chain{}, rules(nft.Other{Name: "counter"}, nft.Other{Name: "log"}, nft.Other{Name: "reject"}), true},
		{"last rule drops some", nft.Chain{}, rules(append(ifName(nft.MetaIifName, nft.Equal, "eth0"), drop)...), false},
		{"last rule drops what some extension says", nft.Chain{}, rules(nft.Other{Name: "match"}, drop), false},
	} {
		if got := drops(tt.chain, tt.rules); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	for data, want := range map[string]bool{"flatnet-br0": true, "flatnet-br01": false, "eth0": false} {
		if got := mentions(nft.Rule{Exprs: ifName(nft.MetaOifName, nft.Equal, data)}, "flatnet-br0"); got != want {
			t.Errorf("a rule about %s: %v", data, got)
		}
	}
	if !mentions(nft.Rule{Exprs: []nft.Expr{nft.Meta{Key: nft.MetaIifName}, nft.Cmp{Data: []byte("flatnet-")}}}, "flatnet-br0") {
		t.Error(`a rule about "flatnet-*" is not seen`)
	}
}

func TestBlockedSaysWhatHelps(t *testing.T) {
	chain := func(name string, hook nft.Hook) blocker {
		return blocker{nft.Chain{Table: nft.Table{Family: nft.IPv4, Name: "filter"}, Name: name, Hook: hook}}
	}
	found := []blocker{chain("FORWARD", nft.Forward), chain("INPUT", nft.Input), chain("OTHER", nft.Forward)}
	for accept, want := range map[bool]string{false: "forwardAccept would add one", true: "flatnet reload adds one"} {
		want = "table ip filter FORWARD, table ip filter OTHER drop what containers of network n send to the outside; " +
			"table ip filter INPUT drops the DNS queries of network n, unless a rule accepts it (" + want + ")"
		if got := blocked(found, Firewall{Network: "n", ForwardAccept: accept}).Error(); got != want {
			t.Errorf("got %s", got)
		}
	}
}

func TestOursIsNoForeignTable(t *testing.T) {
	for name, want := range map[string]bool{"flatnet": true, "flatnet-x": true, "flatnet.ports": true, "flatnetwork": false, "filter": false} {
		if ours(nft.Table{Name: name}) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

func TestLinkLocal(t *testing.T) {
	if got := (HardwareAddr{0x0a, 0x57, 10, 87, 1, 2}).linkLocal(); got != ip("fe80::857:aff:fe57:102") {
		t.Errorf("got %v", got)
	}
}

func TestTokenBucket(t *testing.T) {
	for l, want := range map[Limit][2]uint64{
		{Rate: 8_000_000, Burst: 800_000}:    {1_000_000, 100_000},
		{Rate: 8_000_000}:                    {1_000_000, 100_000},
		{Rate: 8_000_000, Burst: 16_000}:     {1_000_000, 2000},
		{Rate: 1}:                            {1, defaultBurst},
		{Rate: 1 << 50}:                      {1 << 47, 1<<31 - 1},
		{Rate: 8_000_000, Burst: 2147483647}: {1_000_000, 268435455},
	} {
		if b := l.bucket(1500); b.Rate != want[0] || uint64(b.Burst) != want[1] || b.Limit <= b.Burst && l.Rate > 1000 {
			t.Errorf("%+v: %+v", l, b)
		}
	}
	if b := (Limit{Rate: 8000}).bucket(65000); b.Burst != 65014 {
		t.Errorf("the burst %d of an interface with the MTU 65000 is less than a frame", b.Burst)
	}
}

func TestBurstsThatCannotBeGiven(t *testing.T) {
	for burst, want := range map[uint64]string{
		0: "", 8 * 1414: "", 8*1414 - 1: "give at least 11312", 1: "give at least 11312",
		8 * maxBurst: "", 8*maxBurst + 8: "are more than",
	} {
		for _, b := range []Bandwidth{{Ingress: Limit{1e6, burst}}, {Egress: Limit{1e6, burst}}} {
			if err := b.check(1400); (err == nil) != (want == "") || err != nil && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want)) {
				t.Errorf("%d: %v", burst, err)
			}
		}
	}
}
