package tests

import (
	"net"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// bridged switches br_netfilter on or off for the box, in both families, and reports
// whether the machine has it. The VMs of TestKernels always do.
func (b box) bridged(value string) bool {
	b.t.Helper()
	if _, err := b.Try("test", "-e", "/proc/sys/net/bridge/bridge-nf-call-iptables"); err != nil {
		b.t.Log("no br_netfilter here: load the module")
		return false
	}
	b.Sh("for f in ip ip6; do echo " + value + " >/proc/sys/net/bridge/bridge-nf-call-${f}tables; done")
	return true
}

// Where br_netfilter is on, a foreign policy keeps siblings apart as well. With
// forwardAccept they reach each other, in internal networks, too, where that lets
// nothing else through; without, it is said.
func TestSiblingsUnderAForeignPolicy(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string]string{"internal": `"internal":true,`, "open": ""} {
		for _, f := range dropping {
			t.Run(name+", "+f.name, func(t *testing.T) {
				b := newBox(t)
				if !b.bridged("1") {
					return
				}
				b.Sh(f.load)
				without := strings.Replace(dual, `"ipam"`, keys+`"ipam"`, 1)
				accept := strings.Replace(without, `"ipam"`, `"forwardAccept":true,"ipam"`, 1)
				before := b.Run("nft", "-s", "list", "ruleset")
				b.siblings(without, f.chain, "")
				b.siblings(accept, f.chain, f.load)
				if after := b.Run("nft", "-s", "list", "ruleset"); sorted(after) != sorted(before) {
					t.Errorf("was\n%s\nand is\n%s", before, after)
				}
			})
		}
	}
}

// siblings attaches two containers, which reach each other if the foreign chain has accept
// rules, and takes them off again. Meanwhile the accept rules are lost: load makes the
// chain again.
func (b box) siblings(conf, chain, load string) {
	b.t.Helper()
	names, reach := []string{"a", "b"}, load != ""
	if reach {
		names = []string{"c", "d"}
	}
	c1, c2 := b.attach(names[0], withConf(conf)), b.attach(names[1], withConf(conf))
	for _, to := range []string{c2.addr, c2.addr6()} {
		if err := c1.Ping(to); (err == nil) != reach {
			b.t.Errorf("%s: %v", to, err)
		}
	}
	status := call("STATUS", "")
	status.Conf = newer(conf)
	if reach {
		b.do(status)
		b.Run("nft", "flush", "ruleset")
		b.Sh(load)
		b.reload()
		b.do(status)
		if err := c2.Ping(c1.addr6()); err != nil {
			b.t.Error(err)
		}
	} else {
		advice := "forwardAccept"
		if strings.Contains(chain, "firewalld") { // whose own table usually lets nobody else in
			advice = "firewall-cmd"
		}
		b.refused(status, 51, chain, "to each other (br_netfilter is on)", advice)
		if said := c1.result.Stderr; !strings.Contains(said, chain) || !strings.Contains(said, "to each other (br_netfilter is on)") {
			b.t.Errorf("ADD says %q", said)
		}
	}
	b.internalStaysSo(conf, c1)
	for _, c := range []container{c1, c2} {
		b.do(c.then("DEL"))
	}
}

// internalStaysSo fails the test if a container of an internal network gets a packet
// out.
func (b box) internalStaysSo(conf string, c container) {
	b.t.Helper()
	if !strings.Contains(conf, `"internal":true`) {
		return
	}
	c.Sh("ip route add default via " + gateway)
	if c.Ping(lab.OutsideAddr) == nil {
		b.t.Error("an internal network reaches the outside")
	}
}

// Where br_netfilter is on, the bridge itself refuses to forward from one isolated port
// to another, though a published port leads there. ADD says so, and everybody else is
// served.
func TestPublishedPortOfIsolatedPorts(t *testing.T) {
	for _, value := range []string{"0", "1"} {
		t.Run("bridge-nf-call="+value, func(t *testing.T) {
			b := newBox(t)
			if !b.bridged(value) && value == "1" {
				return
			}
			isolated := strings.Replace(dual, `"ipam"`, `"portIsolation":true,"ipam"`, 1)
			web := b.attach("web", withConf(publish(isolated, mapping(8080, 80, ""))))
			sibling, other := b.attach("sibling", withConf(isolated)), b.attach("other", withConf(dualOther))
			web.Serve("[::]:80")
			said := web.result.Stderr
			named := strings.Contains(said, "portIsolation") && strings.Contains(said, "bridge-nf-call-iptables")
			if named != (value == "1") || strings.Contains(sibling.result.Stderr, "portIsolation") {
				t.Errorf("ADD says %q and %q", said, sibling.result.Stderr)
			}
			for _, c := range []struct {
				name    string
				from    lab.Place
				to      []string
				reaches bool
			}{
				{"the outside", b.Outside, []string{lab.HostAddr, hostAddr6}, true},
				{"the host", b.Place, []string{lab.HostAddr, hostAddr6, "127.0.0.1"}, true},
				{"another network", other.Place, []string{lab.HostAddr, hostAddr6}, true},
				{"a sibling", sibling.Place, []string{lab.HostAddr, gateway, hostAddr6}, value == "0"},
				{"the container itself", web.Place, []string{lab.HostAddr, gateway, hostAddr6}, value == "0"},
			} {
				for _, to := range c.to {
					if got, err := c.from.Ask(net.JoinHostPort(to, "8080")); (err == nil) != c.reaches {
						t.Errorf("from %s to %s: %q, %v", c.name, to, got, err)
					}
				}
			}
			b.do(web.then("CHECK"))
		})
	}
}
