package tests

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"flatnet/tests/lab"
)

// Rulesets in the shape of others that drop what they don't know, and the name
// by which the chain is told.
var dropping = []struct{ name, load, chain string }{
	{"iptables-nft, as Docker leaves it", `iptables-nft -N DOCKER-USER; iptables-nft -N DOCKER; iptables-nft -A FORWARD -j DOCKER-USER
		iptables-nft -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables-nft -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
		iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP`, "ip filter FORWARD"},
	{"iptables-nft, which rejects the rest", `for ip in iptables-nft ip6tables-nft; do
		$ip -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; $ip -A FORWARD -j REJECT; done`, "ip filter FORWARD"},
	{"firewalld", `nft -f - <<'X'
table inet firewalld {
	chain filter_FORWARD {
		type filter hook forward priority filter + 10; policy accept;
		ct state { established, related } accept
		iifname "lo" accept
		reject with icmpx admin-prohibited
	}
}
X`, "inet firewalld filter_FORWARD"},
	{"a policy of nftables", `nft 'table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }'`, "inet filter forward"},
}

// advised attaches a container and takes it off again: without being asked,
// flatnet changes no foreign chain, and names it.
func (b box) advised(chain string) {
	b.t.Helper()
	b.NetNS("c0")
	add := call("ADD", "c0")
	if r := b.do(add); !strings.Contains(r.Stderr, chain) {
		b.t.Errorf("ADD says %q", r.Stderr)
	}
	add.Command = "DEL"
	b.do(add)
}

func TestForeignForwardPolicy(t *testing.T) {
	t.Parallel()
	for _, f := range dropping {
		t.Run(f.name, func(t *testing.T) {
			b := newBox(t)
			b.Sh(f.load)
			b.Outside.Serve(lab.OutsideAddr + ":80")
			b.Outside.Serve("[" + outsideAddr6 + "]:80")
			before := b.Run("nft", "-s", "list", "ruleset")

			status := lab.Call{Command: "STATUS", Conf: newer(lab.Conf)}
			b.refused(status, 51, f.chain)
			b.advised(f.chain)
			if after := b.Run("nft", "-s", "list", "ruleset"); after != before {
				t.Errorf("was\n%s\nand is\n%s", before, after)
			}

			accept := func(c *lab.Call) {
				c.Conf = publish(strings.Replace(dual, `"ipam"`, `"forwardAccept":true,"ipam"`, 1), mapping(8080, 80, ""))
			}
			c1 := b.attach("c1", accept)
			c2 := b.attach("c2", func(c *lab.Call) { accept(c); c.Conf = strings.ReplaceAll(c.Conf, "8080", "8081") })
			for _, addr := range []string{c1.addr, c1.addr6()} {
				c1.Serve(net.JoinHostPort(addr, "80"))
			}
			works := func() {
				t.Helper()
				for _, to := range []string{lab.OutsideAddr, outsideAddr6} {
					if _, err := c1.Ask(net.JoinHostPort(to, "80")); err != nil {
						t.Error(err)
					}
				}
				for _, to := range []string{lab.HostAddr, hostAddr6} {
					if _, err := b.Outside.Ask(net.JoinHostPort(to, "8080")); err != nil {
						t.Error(err)
					}
				}
			}
			works()
			status.Conf = strings.TrimSuffix(status.Conf, "}") + `,"forwardAccept":true}`
			b.do(status)
			if f.chain == "ip filter FORWARD" {
				if out := b.Run("iptables-nft", "-S", "FORWARD"); !strings.Contains(out, "-i "+bridgeName) {
					t.Errorf("iptables shows %s", out)
				}
			}
			b.do(c2.then("DEL"))
			works()
			b.Run("nft", "flush", "ruleset")
			b.Sh(f.load)
			b.reload()
			works()
			b.do(c1.then("DEL"))
			if after := b.Run("nft", "-s", "list", "ruleset"); sorted(after) != sorted(before) {
				t.Errorf("was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

// An ADD without forwardAccept that fails before it makes rules has recorded the change:
// the accept rules must be gone by then, for the last DEL no longer looks for them.
func TestForwardAcceptTakenBackByAnADDThatFails(t *testing.T) {
	b := newBox(t)
	b.Run("nft", `table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }`)
	before := b.Run("nft", "list", "table", "inet", "filter")
	c1 := b.attach("c1", func(c *lab.Call) { c.Conf = conf(`"forwardAccept":true`) })
	b.NetNS("c2")
	c2 := call("ADD", "c2")
	c2.Conf = conf(`"ipam":{"subnet":"10.87.1.0/24","routes":[{"dst":"10.98.0.0/16","scope":253},{"dst":"10.99.0.0/16","gw":"203.0.113.9"}]}`)
	b.refused(c2, 110, "203.0.113.9")
	b.do(c1.then("DEL"))
	if after := b.Run("nft", "list", "table", "inet", "filter"); after != before {
		t.Errorf("was\n%s\nand is\n%s", before, after)
	}
}

// However many first ADDs come at once, each chain gets its accept rules once.
func TestForwardAcceptOnceByParallelADDs(t *testing.T) {
	b := newBox(t)
	b.Run("nft", `table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }`)
	before := b.Run("nft", "list", "ruleset")
	const containers = 12
	for i := range containers {
		b.NetNS(fmt.Sprint("c", i))
	}
	for range 3 {
		for _, command := range []string{"ADD", "DEL"} {
			var calls sync.WaitGroup
			for i := range containers {
				calls.Go(func() {
					c := call(command, fmt.Sprint("c", i))
					c.Conf = conf(`"forwardAccept":true`)
					if r := b.Call(program, c); r.Exit != 0 {
						t.Errorf("%s: %s", command, r.Stdout)
					}
				})
			}
			calls.Wait()
			if command == "ADD" {
				if rules := b.Run("nft", "list", "table", "inet", "filter"); strings.Count(rules, "forwardAccept") != 2 {
					t.Errorf("the rules are\n%s", rules)
				}
			}
		}
		if after := b.Run("nft", "list", "ruleset"); after != before {
			t.Errorf("was\n%s\nand is\n%s", before, after)
		}
	}
}
