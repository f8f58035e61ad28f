package foreign

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/nft"
	"flatnet/internal/nl"
	"flatnet/internal/sysctl"
	"flatnet/internal/testns"

	"golang.org/x/sys/unix"
)

func TestDropsRest(t *testing.T) {
	accept, drop := nft.Verdict(nft.Accept, ""), nft.Verdict(nft.Drop, "")
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
		{"last rule counts, logs and rejects", nft.Chain{}, rules(nft.Expr{Name: "counter"}, nft.Expr{Name: "log"}, nft.Expr{Name: "reject"}), true},
		{"last rule counts, and rejects by xtables", nft.Chain{}, rules(nft.Expr{Name: "counter"},
			nft.Expr{Name: "target", Data: nl.Text(unix.NFTA_TARGET_NAME, "REJECT")}), true},
		{"last rule has another target of xtables", nft.Chain{}, rules(nft.Expr{Name: "target", Data: nl.Text(unix.NFTA_TARGET_NAME, "LOG")}), false},
		{"last rule counts", nft.Chain{}, rules(nft.Expr{Name: "counter"}), false},
		{"last rule drops some", nft.Chain{}, rules(nft.DropIf(nft.CompareName(nft.MetaIifName, nft.Equal, "eth0"))...), false},
		{"last rule drops what some extension says", nft.Chain{}, rules(nft.Expr{Name: "match"}, drop), false},
	} {
		if got := dropsRest(tt.chain, tt.rules); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestMentions(t *testing.T) {
	s := &model.Shared{Network: model.Network{Bridge: "flatnet-br0"}}
	for _, tt := range []struct {
		name  string
		hook  nft.Hook
		exprs []nft.Expr
		want  bool
	}{
		{"the bridge", nft.Forward, nft.CompareName(nft.MetaOifName, nft.Equal, "flatnet-br0"), true},
		{"a longer name", nft.Forward, nft.CompareName(nft.MetaOifName, nft.Equal, "flatnet-br01"), false},
		{"another interface", nft.Forward, nft.CompareName(nft.MetaOifName, nft.Equal, "eth0"), false},
		{`"flatnet-*"`, nft.Input, []nft.Expr{nft.Meta(nft.MetaIifName, nft.Reg1), nft.Cmp(nft.Reg1, nft.Equal, []byte("flatnet-"))}, true},
		{"DNS", nft.Input, nft.ToPort(unix.IPPROTO_UDP, 53), true},
		{"DNS that is forwarded", nft.Forward, nft.ToPort(unix.IPPROTO_UDP, 53), false},
		{"SSH", nft.Input, nft.ToPort(unix.IPPROTO_TCP, 22), false},
		{"nothing", nft.Input, []nft.Expr{nft.Verdict(nft.Drop, "")}, false},
	} {
		if got := mentions(nft.Rule{Exprs: tt.exprs}, s, tt.hook); got != tt.want {
			t.Errorf("a rule about %s: %v", tt.name, got)
		}
	}
}

func TestReportAdvises(t *testing.T) {
	chain := func(name string, hook nft.Hook) nft.Chain {
		return nft.Chain{Table: nft.Table{Family: nft.IPv4, Name: "filter"}, Name: name, Hook: hook}
	}
	found := []nft.Chain{chain("FORWARD", nft.Forward), chain("INPUT", nft.Input)}
	h := &host.Host{Sysctl: sysctl.Dir(t.TempDir())} // without br_netfilter
	firewalld := chain("filter_FORWARD", nft.Forward)
	firewalld.Table = nft.Table{Family: nft.Inet, Name: "firewalld"}
	input := firewalld
	input.Name, input.Hook = "filter_INPUT", nft.Input
	const filter = "chain ip filter FORWARD drops what containers of network n send to the outside; " +
		"chain ip filter INPUT drops the DNS queries of network n"
	const dynamic = "chain inet firewalld filter_FORWARD drops what containers of network n send to the outside; " +
		"chain inet firewalld filter_INPUT drops the DNS queries of network n"
	const trusted = "firewall-cmd --zone=trusted --add-interface=br7 adds one"
	for _, tt := range []struct {
		found         []nft.Chain
		accept, owned bool
		want          string
	}{
		{found, false, false, filter + ", unless a rule accepts it (forwardAccept would add one)"},
		{found, true, false, filter + ", unless a rule accepts it (flatnet reload adds one)"},
		{found, true, true, filter + ", unless a rule accepts it (only the program that owns the table can add one)"},
		{[]nft.Chain{firewalld, input}, false, false, dynamic + ", unless a rule accepts it (" + trusted + ")"},
		{[]nft.Chain{firewalld, input}, true, true, dynamic + ", unless a rule accepts it (" + trusted + ")"},
		{append([]nft.Chain{firewalld, input}, found...), false, false,
			dynamic + "; " + filter + ", unless a rule accepts it (" + trusted + "; forwardAccept would add one)"},
	} {
		err := report(h, tt.found, &model.Shared{Network: model.Network{Name: "n", Bridge: "br7", ForwardAccept: tt.accept}}, tt.owned)
		if err.Error() != tt.want || !errors.Is(err, model.ErrConflict) {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
	vlan := &model.Shared{Network: model.Network{Name: "n", Bridge: "br7", IsGateway: true, VLANs: model.VLANs{ID: 2}}}
	if got, want := remedy(firewalld, vlan, false), "--add-interface="+vlan.GatewayName()+" --add-interface=br7 adds one"; !strings.HasSuffix(got, want) {
		t.Errorf("with a VLAN: %s, want %s", got, want)
	}
}

// With br_netfilter, forward chains see what containers send to each other, too.
func TestBridged(t *testing.T) {
	dir := t.TempDir()
	h := &host.Host{Sysctl: sysctl.Dir(dir)}
	if err := os.MkdirAll(dir+"/net/bridge", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"iptables": "1", "ip6tables": "0"} {
		if err := os.WriteFile(dir+"/net/bridge/bridge-nf-call-"+name, []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const each = "each other (br_netfilter is on)"
	for _, tt := range []struct {
		name    string
		family  nft.Family
		network model.Network
		want    string // what is dropped
	}{
		{"IPv4", nft.IPv4, model.Network{}, "the outside and to " + each},
		{"both families", nft.Inet, model.Network{}, "the outside and to " + each},
		{"IPv6, which is off", nft.IPv6, model.Network{}, "the outside,"},
		{"an internal network", nft.IPv4, model.Network{Internal: true}, "n send to " + each},
		{"isolated ports", nft.IPv4, model.Network{PortIsolated: true}, "the outside,"},
	} {
		ch := nft.Chain{Table: nft.Table{Family: tt.family, Name: "filter"}, Name: "FORWARD", Hook: nft.Forward}
		tt.network.Name = "n"
		if err := report(h, []nft.Chain{ch}, &model.Shared{Network: tt.network}, false); !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestOurs(t *testing.T) {
	for name, want := range map[string]bool{"flatnet": true, "flatnet-x": true, "flatnet.ports": true, "flatnetwork": false, "filter": false} {
		if ours(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

// run runs a program in the calling thread's namespace.
func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

// A chain of each kind is found, gets its accept rules once, and loses them again.
func TestAcceptAndRemove(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nft: apt-get install nftables")
	}
	testns.Run(t, func() {
		var warned []string
		h, err := host.Open(func(text string) { warned = append(warned, text) })
		if err != nil {
			t.Error(err)
			return
		}
		defer h.Close()
		acceptAndRemove(t, h, &warned)
	})
}

func acceptAndRemove(t *testing.T, h *host.Host, warned *[]string) {
	run(t, "nft", `table ip filter {
		chain FORWARD { type filter hook forward priority 0; policy drop; }
		chain INPUT { type filter hook input priority 0; policy drop; iifname "lo" accept; }
	}
	table inet strict { chain forward { type filter hook forward priority 10; counter reject; }; }
	table inet lax { chain forward { type filter hook forward priority 10; counter accept; }; }
	table ip6 filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }`)
	before := run(t, "nft", "-s", "list", "ruleset")
	s := &model.Shared{Network: model.Network{Name: "n", Bridge: "br7", IsGateway: true, ServesDNS: true}}
	if err := Check(h, s); err != nil {
		t.Errorf("without a subnet: %v", err)
	}
	s.Serve(model.Subnet{Prefix: netip.MustParsePrefix("10.87.1.0/24")})
	err := Check(h, s)
	for text, want := range map[string]bool{
		"ip filter FORWARD drops": true, "ip filter INPUT drops": true, "inet strict forward drops": true, "lax": false, "ip6": false,
	} {
		if err == nil || !errors.Is(err, model.ErrConflict) || strings.Contains(err.Error(), text) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
	Accept(h, s)
	if len(*warned) != 1 || (*warned)[0] != err.Error() {
		t.Errorf("warned %q", *warned)
	}
	*warned = nil
	if after := run(t, "nft", "-s", "list", "ruleset"); after != before {
		t.Errorf("it is now\n%s", after)
	}
	s.ForwardAccept = true
	for range 2 {
		accepts(t, h, s)
	}
	// A chain that has lost its rules gets them again, though another one of its table
	// has some.
	run(t, "nft", "flush chain ip filter FORWARD")
	if err := Check(h, s); err == nil || strings.Contains(err.Error(), "INPUT") {
		t.Errorf("a flushed chain: %v", err)
	}
	Accept(h, s)
	Remove(h, "other")
	if err := Check(h, s); err != nil {
		t.Error(err)
	}
	for range 2 {
		Remove(h, "n")
		if after := run(t, "nft", "-s", "list", "ruleset"); after != before {
			t.Errorf("it was\n%s\nand is\n%s", before, after)
		}
	}
	if len(*warned) > 0 {
		t.Errorf("warned %q", *warned)
	}
}

// accepts fails the test unless all accept rules are there after Accept, each once.
func accepts(t *testing.T, h *host.Host, s *model.Shared) {
	t.Helper()
	Accept(h, s)
	if err := Check(h, s); err != nil {
		t.Error(err)
	}
	const comment = ` accept comment "flatnet network n, forwardAccept"`
	want := []string{`oifname "br7"` + comment, `iifname "br7"` + comment, `iifname "br7" udp dport 53` + comment, `iifname "br7" tcp dport 53` + comment}
	after := run(t, "nft", "-s", "list", "ruleset")
	for i, rule := range want {
		n := 1
		if i < 2 {
			n = 2 // table inet strict
		}
		if strings.Count(after, rule) != n {
			t.Errorf("%d of %s in\n%s", strings.Count(after, rule), rule, after)
		}
	}
}

// A rule drops what containers send only if it certainly does.
func TestDropsSome(t *testing.T) {
	testns.Run(t, func() {
		h, err := host.Open(func(string) {})
		if err != nil {
			t.Error(err)
			return
		}
		defer h.Close()
		run(t, "sh", "-ec", "ip link add up0 type veth peer name up1; ip addr add 192.0.2.2/24 dev up0; ip link set up0 up; ip link set up1 up; ip route add default via 192.0.2.1")
		s := &model.Shared{Network: model.Network{Name: "n", Bridge: "br7", IsGateway: true}}
		s.Serve(model.Subnet{Prefix: netip.MustParsePrefix("10.87.1.0/24")})
		for text, want := range map[string]bool{
			`oifname "up0" drop`:                              true,
			`oifname "up*" counter log drop`:                  true,
			`oifname "eth0" drop`:                             false,
			`oifname != "eth0" reject`:                        true,
			`ip saddr 10.0.0.0/8 drop`:                        true,
			`ip saddr 10.64.0.0/10 drop`:                      true,
			`ip saddr 10.87.1.5 drop`:                         false,
			`ip saddr 10.88.0.0/16 drop`:                      false,
			`ip daddr 192.0.2.7 drop`:                         false,
			`meta l4proto tcp drop`:                           true,
			`meta l4proto udp drop`:                           true,
			`ip protocol tcp drop`:                            true,
			`meta l4proto icmp drop`:                          false,
			`tcp dport 25 drop`:                               false,
			`meta protocol ip drop`:                           true,
			`meta protocol ip6 drop`:                          false,
			`ct state established accept; oifname "up0" drop`: true,
			`ct state new accept; oifname "up0" drop`:         false,
			`ct state invalid drop`:                           false,
			`ct state vmap { established : accept, new : accept }; drop; accept`: false,
			`ip daddr 192.0.2.7 accept; oifname "up0" drop; accept`:              false,
			`oifname { "up0", "up7" } drop; accept`:                              false,
			`limit rate over 9/second drop`:                                      false,
			`jump sub`:                                                           true,
			`oifname "up0" jump sub`:                                             true,
			`oifname "eth0" jump sub`:                                            false,
			`jump back; accept`:                                                  false,
			`jump back; drop; accept`:                                            true,
			`ip daddr 192.0.2.7 jump back; oifname "up0" drop; accept`:           true,
			`goto back; drop; accept`:                                            false,
			`jump deep`:                                                          true,
			`return; drop; accept`:                                               false,
			`meta mark set 5; oifname "up0" drop`:                                true,
			`oifname "up0" drop; iifname "br7" accept`:                           false, // the owner has decided
		} {
			for _, family := range []string{"ip", "inet"} {
				run(t, "nft", "flush ruleset; add table "+family+" f; add chain "+family+" f sub { counter; drop; }; add chain "+family+" f back { oifname \"eth0\" drop; return; }; "+
					"add chain "+family+" f deep { jump sub; }; add chain "+family+" f forward { type filter hook forward priority 0; policy accept; "+text+"; }")
				if err := Check(h, s); (err != nil) != want {
					t.Errorf("%s %s: %v", family, text, err)
				}
			}
		}
	})
}

// What is read of others' rules has an end, though the kernel lets chains jump to each other
// exponentially often.
func TestJudgeIsBounded(t *testing.T) {
	calls := 0
	chain := func(string) ([]nft.Rule, error) {
		calls++
		jump := nft.Rule{Exprs: []nft.Expr{nft.Verdict(unix.NFT_JUMP, strings.Repeat("x", calls))}}
		return slices.Repeat([]nft.Rule{jump}, 100), nil
	}
	j := judge{packet: packet{subnet: model.Subnet{Prefix: netip.MustParsePrefix("10.87.1.0/24")}}, rules: chain, subs: map[string][]nft.Rule{}}
	rules, _ := chain("")
	if got := j.walk(rules, 0); got != undecided || j.steps > maxSteps+maxDepth || calls > maxSubs+1 {
		t.Errorf("%d after %d steps and %d chains", got, j.steps, calls)
	}
}
