package tests

import (
	"slices"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// chain is a list of flatnet and further plugins, as a conflist.
func chain(further ...string) string {
	return `{"cniVersion":"1.0.0","name":"flatnet","plugins":[{"type":"flatnet"},` + strings.Join(further, ",") + `]}`
}

// Debian's plugins, which come after flatnet in a list.
const (
	portmap   = `{"type":"portmap","capabilities":{"portMappings":true},"snat":true}`
	firewall  = `{"type":"firewall","backend":"iptables"}`
	tuning    = `{"type":"tuning","sysctl":{"net.ipv4.conf.eth0.arp_filter":"1"},"mac":"02:aa:bb:cc:dd:07"}`
	idle      = `{"type":"tuning"}` // changes nothing
	bandwidth = `{"type":"bandwidth","ingressRate":80000000,"ingressBurst":80000000,"egressRate":80000000,"egressBurst":80000000}`
)

// A lister runs lists of plugins by the reference library.
type lister struct {
	box
	program string
}

func newLister(t *testing.T) lister {
	t.Helper()
	b := newBox(t)
	b.Run("cp", program, plugins)
	return lister{b, tool(t, "cnirun")}
}

func (l lister) run(verb, id string) (string, error) {
	cmd := []string{"env", "CNI_PATH=" + plugins, l.program, verb, "/run/list.conflist", id, "/run/netns/" + id,
		`{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}`}
	return l.Try(cmd...)
}

// First in a list, flatnet leaves the other plugins what they need: each list
// is added, checked, used by packets, and deleted.
func TestChains(t *testing.T) {
	t.Parallel()
	for name, further := range map[string][]string{
		"portmap":   {portmap},
		"firewall":  {firewall},
		"tuning":    {tuning},
		"bandwidth": {bandwidth},
		"all":       {portmap, firewall, tuning, bandwidth},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLister(t)
			l.Write("/run/list.conflist", chain(further...))
			c := container{Place: l.NetNS("c1")}
			out, err := l.run("add", "c1")
			if err != nil {
				t.Fatal(err)
			}
			fromJSON(t, out, &c.result)
			c.addr = c.result.Addr()
			list := strings.Join(further, " ")
			if list == firewall {
				// A host whose firewall forwards nothing but what is asked for.
				l.Run("iptables", "-P", "FORWARD", "DROP")
			}
			if err := c.Ping(lab.OutsideAddr); err != nil {
				t.Error(err)
			}
			c.Serve(":80")
			if as, err := l.Outside.Ask(lab.HostAddr + ":8080"); strings.Contains(list, portmap) && (err != nil || as == "") {
				t.Errorf("the published port: %q: %v", as, err)
			}
			if strings.Contains(list, tuning) {
				if v := c.Run("cat", "/proc/sys/net/ipv4/conf/eth0/arp_filter"); v != "1\n" {
					t.Errorf("arp_filter is %s", v)
				}
				if mac := links(t, c.Place)["eth0"].Address; mac != "02:aa:bb:cc:dd:07" {
					t.Errorf("the MAC is %s", mac)
				}
			}
			if qdisc := l.Run("tc", "qdisc", "show", "dev", "fn-c1"); strings.Contains(list, bandwidth) && !strings.Contains(qdisc, "tbf") {
				t.Errorf("qdiscs: %s", qdisc)
			}
			// Debian's portmap 1.1.1 wants IPv6 rules of every container on CHECK.
			l.Write("/run/list.conflist", chain(append(slices.DeleteFunc(slices.Clone(further), func(p string) bool { return p == portmap }), idle)...))
			if _, err := l.run("check", "c1"); err != nil {
				t.Errorf("CHECK: %v", err)
			}
			l.Write("/run/list.conflist", chain(further...))
			for range 2 {
				if _, err := l.run("del", "c1"); err != nil {
					t.Errorf("DEL: %v", err)
				}
			}
			l.nothingOf(c)
		})
	}
}

// nothingOf fails unless all that is left of a container are chains and tables
// that the other plugins keep.
func (b box) nothingOf(c container) {
	b.t.Helper()
	left := b.Sh(`ip -o link | grep -E 'fn-|ifb|bwp' || :; nft list tables | grep flatnet || :
		nft list ruleset 2>/dev/null | grep -F ` + c.addr + ` || :`)
	if leases := b.leases(); left != "" || len(leases) != 0 {
		b.t.Errorf("left are %s and the leases %v", left, leases)
	}
}

// A chain that fails after flatnet is undone by the runtime's DEL.
func TestChainThatFails(t *testing.T) {
	l := newLister(t)
	l.Write("/run/list.conflist", chain(`{"type":"tuning","sysctl":{"net.ipv4.conf.eth0.no_such":"1"}}`))
	l.NetNS("c1")
	before := l.state()
	if out, err := l.run("add", "c1"); err == nil {
		t.Fatalf("no error: %s", out)
	}
	if _, err := l.run("del", "c1"); err != nil {
		t.Error(err)
	}
	l.Run("ip", "link", "del", bridgeName)
	l.same(before)
}

// Later in a list, flatnet says what is wrong.
func TestLaterInAList(t *testing.T) {
	l := newLister(t)
	l.Write("/run/list.conflist", `{"cniVersion":"1.0.0","name":"flatnet","plugins":[
		{"type":"bridge","bridge":"br0","ipam":{"type":"host-local","subnet":"10.10.0.0/24"}},{"type":"flatnet"}]}`)
	l.NetNS("c1")
	if out, err := l.run("add", "c1"); err == nil || !strings.Contains(err.Error(), "prevResult") || !strings.Contains(err.Error(), "first plugin") {
		t.Errorf("%s %v", out, err)
	}
	if _, err := l.run("del", "c1"); err != nil {
		t.Error(err)
	}
}

// The same list by Podman, which sends runtimeConfig by what each plugin
// declares.
func TestPodmanWithAChain(t *testing.T) {
	b := newBox(t)
	p := newPod(t, b.debianPodman("bookworm"))
	p.Write("/etc/cni/net.d/87-flatnet.conflist", chain(portmap, firewall, strings.Replace(tuning, `,"mac":"02:aa:bb:cc:dd:07"`, "", 1), bandwidth))
	p.Start("test1", "-p", "8080:80")
	c := container{addr: p.addr("test1")}
	p.Do("exec", "test1", "/bin/sh", "-c", `b=/bin/busybox; $b nc -ll -p 80 -e $b echo hello </dev/null >/dev/null 2>&1 &
		until $b netstat -ltn | $b grep -q :80; do :; done`)
	for addr, from := range map[string]lab.Place{lab.HostAddr + ":8080": b.Outside, c.addr + ":80": b.Place} {
		if got, err := from.Ask(addr); got != "hello\n" {
			t.Errorf("%s says %q: %v", addr, got, err)
		}
	}
	p.ping("test1", lab.OutsideAddr)
	p.Do("restart", "-t", "0", "test1")
	if err := b.Ping(p.addr("test1")); err != nil {
		t.Errorf("after restart: %v", err)
	}
	p.Do("rm", "-ft0", "test1")
	p.nothingOf(c)
}
