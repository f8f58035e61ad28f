package firewall

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/testns"
)

// inNamespace runs fn in a new network namespace, on a thread that ends with it.
func inNamespace(t *testing.T, fn func(*host.Host)) {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nft: apt-get install nftables")
	}
	testns.Run(t, func() {
		h, err := host.Open(func(text string) { t.Errorf("warning: %s", text) })
		if err != nil {
			t.Error(err)
			return
		}
		defer h.Close()
		fn(h)
	})
}

// runNFT runs nft commands in the calling thread's namespace.
func runNFT(t *testing.T, commands string) string {
	t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(commands)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("nft: %v: %s", err, out)
	}
	return string(out)
}

// transact reports how many messages a transaction has.
func transact(t *testing.T, h *host.Host, fill func(*host.Tx) error) (messages int) {
	t.Helper()
	_, err := h.Transact(func(tx *host.Tx) error {
		err := fill(tx)
		messages = tx.Len()
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return messages
}

// put puts a network's rules and returns what nft lists. It must be complete at once.
func put(t *testing.T, h *host.Host, s *model.Shared) string {
	t.Helper()
	fill := func(tx *host.Tx) error { return Put(tx, s, true) }
	transact(t, h, fill)
	if n := transact(t, h, fill); n != 0 {
		t.Errorf("a second Put sends %d messages", n)
	}
	faults(t, h, s)
	return runNFT(t, "list ruleset")
}

// faults compares the things that have faults.
func faults(t *testing.T, h *host.Host, s *model.Shared, want ...string) {
	t.Helper()
	c, err := h.Rules()
	if err != nil {
		t.Error(err)
		return
	}
	found, err := Faults(c, s, true)
	var things []string
	for _, f := range found {
		things = append(things, f.Thing)
	}
	if err != nil || !slices.Equal(things, want) {
		t.Errorf("faults %q, %v; want %q", things, err, want)
	}
}

func subnet(prefix, gateway string) model.Subnet {
	s := model.Subnet{Prefix: netip.MustParsePrefix(prefix)}
	if gateway != "" {
		s.Gateway = netip.MustParseAddr(gateway)
	}
	return s
}

// network returns the default network, after a change.
func network(change func(*model.Shared)) *model.Shared {
	s := &model.Shared{Served: []model.Subnet{subnet(model.DefaultSubnet, "10.87.1.1")}}
	s.Name, s.Bridge, s.IsGateway, s.IPMasq, s.Isolated = "flatnet", model.DefaultBridge, true, true, true
	s.Flat = []netip.Prefix{netip.MustParsePrefix(model.DefaultFlat)}
	if change != nil {
		change(s)
	}
	return s
}

// networks are those of which testdata has the rules.
var networks = map[string]func(*model.Shared){
	"default":       nil,
	"open":          func(s *model.Shared) { s.Isolated = false },
	"internal":      func(s *model.Shared) { s.Internal = true },
	"portIsolation": func(s *model.Shared) { s.PortIsolated = true },
	"inbound":       func(s *model.Shared) { s.PublishedOnly = true },
	"noGateway": func(s *model.Shared) {
		s.IsGateway, s.IPMasq, s.Served = false, false, []model.Subnet{subnet("10.87.1.0/24", "")}
	},
	"noSubnet": func(s *model.Shared) { s.Served, s.Internal, s.PublishedOnly = nil, true, true },
	"dualStack": func(s *model.Shared) {
		s.Served = append(s.Served, subnet("fd87::/64", "fd87::1"))
		s.Flat = append(s.Flat, netip.MustParsePrefix("fd87::/48"))
	},
	"spans": func(s *model.Shared) { s.Spans = true },
	"ipv6":  func(s *model.Shared) { s.Served = []model.Subnet{subnet("fd87::/62", "fe80::1")} },
}

// ruleLine matches rules in what nft lists, and not the types of chains.
var ruleLine = regexp.MustCompile(`(?m)^(\t\t[^t].*)$`)

// golden returns the rules in testdata, each with the network's comment.
func golden(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".nft"))
	if err != nil {
		t.Error(err)
	}
	return ruleLine.ReplaceAllString(string(text), `$1 comment "flatnet network flatnet"`)
}

// What is put are the rules that nft makes of testdata's.
func TestRules(t *testing.T) {
	for name, change := range networks {
		var want, got string
		inNamespace(t, func(h *host.Host) {
			runNFT(t, golden(t, name))
			want = runNFT(t, "list ruleset")
			faults(t, h, network(change))
		})
		inNamespace(t, func(h *host.Host) { got = put(t, h, network(change)) })
		if got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestPutMends(t *testing.T) {
	inNamespace(t, func(h *host.Host) {
		s := network(nil)
		before := put(t, h, s)
		isolation, forward := "the chain ip flatnet isolation-10.87.1.0/24", "the chain ip6 flatnet forward-flatnet-br0"
		for spoil, want := range map[string]string{
			"flush chain ip flatnet isolation-10.87.1.0/24":        isolation,
			"insert rule ip flatnet isolation-10.87.1.0/24 accept": isolation,
			"add rule ip flatnet isolation-10.87.1.0/24 accept":    isolation,
			"flush chain ip6 flatnet forward-flatnet-br0":          forward,
			"delete chain ip6 flatnet forward-flatnet-br0":         forward,
		} {
			runNFT(t, spoil)
			faults(t, h, s, want)
			if after := put(t, h, s); after != before {
				t.Errorf("%s: it was\n%s\nand is\n%s", spoil, before, after)
			}
		}
		runNFT(t, "flush ruleset; add table ip other; add chain ip other forward-a; "+before)
		faults(t, h, s)
		if n := transact(t, h, func(tx *host.Tx) error { return Put(tx, s, true) }); n != 0 {
			t.Errorf("after nft has loaded the rules, Put sends %d messages", n)
		}
	})
}

// A network whose configuration changes has the rules of the new one.
func TestPutReplaces(t *testing.T) {
	inNamespace(t, func(h *host.Host) {
		before := put(t, h, network(nil))
		for name, change := range networks {
			s := network(change)
			if s.Served == nil { // and so the subnet's rules stay
				continue
			}
			put(t, h, s)
			if name == "dualStack" || name == "ipv6" {
				runNFT(t, "delete table ip6 flatnet")
			}
			if after := put(t, h, network(nil)); after != before {
				t.Errorf("before %s it was\n%s\nand then\n%s", name, before, after)
			}
		}
		before = put(t, h, network(networks["dualStack"]))
		if after := put(t, h, network(nil)); after != before { // the other subnet's may be in use
			t.Errorf("with one subnet it was\n%s\nand is\n%s", before, after)
		}
	})
}

func TestPutWithoutIPv6(t *testing.T) {
	for name, tt := range map[string]struct {
		change           func(*model.Shared)
		ipv6, noOptional bool
		want             string
	}{
		"isolation is optional":         {nil, true, true, "table ip flatnet\n"},
		"an internal network's is not":  {networks["internal"], true, true, "table ip flatnet\ntable ip6 flatnet\n"},
		"published ports only":          {networks["inbound"], true, true, "table ip flatnet\ntable ip6 flatnet\n"},
		"a kernel without IPv6":         {networks["internal"], false, false, "table ip flatnet\n"},
		"a network without any subnets": {func(s *model.Shared) { s.Served = nil }, true, false, ""},
	} {
		inNamespace(t, func(h *host.Host) {
			transact(t, h, func(tx *host.Tx) error {
				tx.NoOptional = tt.noOptional
				return Put(tx, network(tt.change), tt.ipv6)
			})
			if tables := runNFT(t, "list tables"); tables != tt.want {
				t.Errorf("%s: %q, want %q", name, tables, tt.want)
			}
		})
	}
}

// Names have what nft can't read replaced, and comments name what no rule shows.
func TestNames(t *testing.T) {
	inNamespace(t, func(h *host.Host) {
		s := network(func(s *model.Shared) {
			s.Name, s.Bridge, s.VLANs.ID = "a.b_c", "br@0", 7
			s.ForwardAccept, s.ServesDNS = true, true
		})
		list := put(t, h, s)
		for _, want := range []string{
			"table ip6 flatnet-a.b_c {", "chain forward-br_0.7 {", `oifname "br@0.7"`,
			`comment "flatnet network a.b_c, forwardAccept, dns"`,
		} {
			if !strings.Contains(list, want) {
				t.Errorf("no %s in\n%s", want, list)
			}
		}
		runNFT(t, "flush ruleset; "+list)
		faults(t, h, s)
	})
}

func TestRemove(t *testing.T) {
	inNamespace(t, func(h *host.Host) {
		remove := func(tx *host.Tx) error { return Remove(tx, "flatnet") }
		if n := transact(t, h, remove); n != 0 {
			t.Errorf("without tables: %d messages", n)
		}
		other := network(func(s *model.Shared) { s.Name = "other" })
		before := put(t, h, other)
		put(t, h, network(networks["dualStack"]))
		runNFT(t, "add table bridge flatnet; add chain ip flatnet own; add rule ip flatnet own accept")
		transact(t, h, remove)
		if after := put(t, h, other); after != before {
			t.Errorf("without the network it was\n%s\nand is\n%s", before, after)
		}
	})
}

func TestRequired(t *testing.T) {
	for name, want := range map[string]bool{"default": true, "noGateway": false, "noSubnet": true} {
		if got := Required(network(networks[name])); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
