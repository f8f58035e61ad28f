package tests

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"flatnet/tests/lab"
)

// WSL2's mirrored networking: Windows has the distribution's addresses, and is reached by
// loopback0. The ip rules, routes and sysctls are those that WSL sets (NetworkManager.cpp
// of microsoft/WSL); the world's outside is the LAN, and windows is Windows.
const (
	mirroredSysctls = `for d in loopback0 up0; do for s in accept_local route_localnet; do echo 1 >/proc/sys/net/ipv4/conf/$d/$s; done; done
		for d in all loopback0 up0; do echo 0 >/proc/sys/net/ipv4/conf/$d/rp_filter; done`
	mirroredHost = `link add loopback0 type veth peer name lb netns windows
		link set loopback0 address 00:11:22:33:44:66
		link set loopback0 up
		rule del pref 0
		rule add pref 0 iif loopback0 ipproto tcp lookup local
		rule add pref 0 iif loopback0 ipproto udp lookup local
		rule add pref 0 iif up0 ipproto tcp lookup local
		rule add pref 0 iif up0 ipproto udp lookup local
		rule add pref 1 ipproto tcp lookup 127
		rule add pref 1 ipproto udp lookup 127
		rule add pref 1 ipproto tcp lookup 128
		rule add pref 1 ipproto udp lookup 128
		rule add pref 2 lookup local
		neigh add 169.254.73.152 lladdr 00:11:22:33:44:55 dev loopback0 nud permanent
		route add 127.0.0.1/32 via 169.254.73.152 dev loopback0 onlink src 127.0.0.1 table 127
		neigh add 169.254.73.152 lladdr 00:11:22:33:44:55 dev up0 nud permanent
		route add 192.0.2.1/32 via 169.254.73.152 dev up0 onlink table 128`
	windowsLinks = `link set lo up
		link set lb address 00:11:22:33:44:55
		link set lb up`
	windowsSysctls = `for d in all lb; do echo 0 >/proc/sys/net/ipv4/conf/$d/rp_filter
		for s in accept_local route_localnet; do echo 1 >/proc/sys/net/ipv4/conf/$d/$s; done; done`
	windowsRules = `rule del pref 0
		rule add pref 0 iif lb lookup local
		rule add pref 1 ipproto tcp lookup 127
		rule add pref 1 ipproto udp lookup 127
		rule add pref 2 lookup local
		neigh add 169.254.73.152 lladdr 00:11:22:33:44:66 dev lb nud permanent
		route add 127.0.0.1/32 via 169.254.73.152 dev lb onlink src 127.0.0.1 table 127`
)

// mirroredRule is what flatnet adds to the ip rules.
const mirroredRule = "0:	from all fwmark 0x10000000/0x10000000 lookup local proto static"

// A mirror is a box in mirrored mode.
type mirror struct {
	box
	windows lab.Place
	before  string
}

func newMirror(t *testing.T) mirror {
	t.Helper()
	b := newBox(t)
	m := mirror{box: b, windows: b.NetNS("windows")}
	b.IP(mirroredHost)
	b.Sh(mirroredSysctls)
	m.windows.IP(windowsLinks)
	m.windows.Sh(windowsSysctls)
	m.windows.IP(windowsRules)
	m.before = m.everything()
	return m
}

// everything is the state with the ip rules.
func (m mirror) everything() string {
	m.t.Helper()
	return "ip rules:\n" + m.Run("ip", "rule") + m.Run("ip", "-6", "rule") + m.Run("nft", "list", "ruleset")
}

// unchanged fails unless all that was added to rules is gone.
func (m mirror) unchanged() {
	m.t.Helper()
	if now := m.everything(); now != m.before {
		m.t.Errorf("rules were\n%s\nand now are\n%s", m.before, now)
	}
}

// publish attaches a container with its ports 80 and 53 published, and serves there.
func (m mirror) publish(id, conf string, tcp, udp int, more string) container {
	m.t.Helper()
	c := m.attach(id, func(c *lab.Call) {
		c.Conf = publish(conf, mapping(tcp, 80, more), mapping(udp, 53, more+`,"protocol":"udp"`))
	})
	c.Serve(c.addr + ":80")
	c.ServeUDP(c.addr + ":53")
	return c
}

// A way is one of those to a published port.
type way struct {
	name string
	from lab.Place
	to   string
	as   string // whom the container sees; empty: not compared
}

// ways are all of them for ports on all addresses.
func (m mirror) ways(gateway string) []way {
	return []way{
		{"Windows by 127.0.0.1", m.windows, "127.0.0.1", gateway},
		{"the LAN", m.Outside, lab.HostAddr, lab.OutsideAddr},
		{"WSL by 127.0.0.1", m.Place, "127.0.0.1", gateway},
		{"WSL by its own address", m.Place, lab.HostAddr, lab.HostAddr},
		{"WSL by the gateway", m.Place, gateway, gateway},
	}
}

// reach asks the container's published ports by each way.
func (m mirror) reach(c container, tcp, udp int, ways []way) {
	m.t.Helper()
	for _, w := range ways {
		got, err := w.from.Ask(net.JoinHostPort(w.to, fmt.Sprint(tcp)))
		if err != nil || got == "" || w.as != "" && got != w.as {
			m.t.Errorf("tcp from %s: %q, %v", w.name, got, err)
		}
		got, err = w.from.AskUDP(net.JoinHostPort(w.to, fmt.Sprint(udp)), 0)
		if err != nil || !strings.HasPrefix(got, c.addr+" to "+w.as) {
			m.t.Errorf("udp from %s: %q, %v", w.name, got, err)
		}
	}
}

// All ways lead to the container, of several containers and networks and under
// br_netfilter, past programs of the host that listen at the port as conmon does. With the
// last port everything is gone.
func TestMirroredNetworking(t *testing.T) {
	t.Parallel()
	for _, bridged := range []string{"0", "1"} {
		t.Run("bridge-nf-call="+bridged, func(t *testing.T) {
			m := newMirror(t)
			m.Sh("f=/proc/sys/net/bridge/bridge-nf-call-iptables; test ! -e $f || echo " + bridged + " >$f")
			m.Serve("127.0.0.1:9090")
			if _, err := m.windows.Ask("127.0.0.1:9090"); err != nil {
				t.Errorf("Windows does not reach a process of WSL: %v", err)
			}
			web := m.publish("web", dual, 8080, 8053, "")
			other := m.publish("other", dualOther, 8081, 8054, "")
			local := m.publish("local", lab.Conf, 8082, 8055, `,"hostIP":"127.0.0.1"`)
			m.Serve("0.0.0.0:8080")
			m.reach(web, 8080, 8053, append(m.ways(gateway), way{"a container of another network", other.Place, lab.HostAddr, ""},
				way{"the container itself", web.Place, lab.HostAddr, ""}, way{"a neighbour", local.Place, lab.HostAddr, ""}))
			m.reach(other, 8081, 8054, m.ways("10.87.9.1"))
			m.reach(local, 8082, 8055, []way{m.ways(gateway)[0], m.ways(gateway)[2]})
			if got, err := m.Outside.Ask(lab.HostAddr + ":8082"); err == nil {
				t.Errorf("a port of 127.0.0.1 is reached from the LAN: %s", got)
			}
			if got, err := m.Ask(web.addr + ":80"); err != nil || got != gateway {
				t.Errorf("from WSL by the container's address: %q, %v", got, err)
			}
			web.Serve(net.JoinHostPort(web.addr6(), "80"))
			if got, err := m.Ask("[2001:db8::1]:8080"); err != nil || got == "" {
				t.Errorf("from WSL by its IPv6 address: %q, %v", got, err)
			}
			m.do(web.then("CHECK"))
			m.do(web.then("DEL"))
			m.reach(other, 8081, 8054, m.ways("10.87.9.1"))
			m.do(local.then("DEL"))
			m.do(other.then("DEL"))
			m.unchanged()
		})
	}
}

// Bits of marks that somebody else has set stay, and so do his rules.
func TestMirroredKeepsMarksOfOthers(t *testing.T) {
	m := newMirror(t)
	m.Sh(`nft -f - <<E
table ip mine {
	chain output { type route hook output priority mangle; ct mark set ct mark | 0x2000; meta mark set meta mark | 0x1; }
	chain prerouting { type filter hook prerouting priority -160; iifname "flatnet-br0" meta mark set meta mark | 0x40; }
	chain input { type filter hook input priority 0
		iifname "flatnet-br0" ct mark 0x10002000 meta mark 0x10000040 counter comment "both"
		iifname "flatnet-br0" counter comment "all"
	}
}
E
ip rule add pref 100 fwmark 0x1/0x1 lookup 100`)
	m.before = m.everything()
	web := m.publish("web", lab.Conf, 8080, 8053, "")
	m.reach(web, 8080, 8053, m.ways(gateway)[2:4])
	var packets []string
	for line := range strings.Lines(m.Run("nft", "list", "chain", "ip", "mine", "input")) {
		if _, count, found := strings.Cut(line, "counter packets "); found {
			packets = append(packets, strings.Fields(count)[0])
		}
	}
	if len(packets) != 2 || packets[0] != packets[1] || packets[0] == "0" {
		t.Errorf("answers with the marks of both, and all: %v", packets)
	}
	m.do(web.then("DEL"))
	if now := m.Run("ip", "rule"); strings.Contains(now, "0x10000000") || !strings.Contains(now, "100:	from all fwmark 0x1/0x1 lookup 100") {
		t.Errorf("ip rules are %s", now)
	}
	if now := m.Run("nft", "list", "tables"); now != "table ip mine\n" {
		t.Errorf("tables are %s", now)
	}
}

// CHECK names each thing that is lost, a reload brings all of it back.
func TestMirroredIsMended(t *testing.T) {
	m := newMirror(t)
	web := m.publish("web", lab.Conf, 8080, 8053, "")
	whole := sortedLines(m.everything())
	if !strings.Contains(whole, mirroredRule) {
		t.Errorf("rules are %s", whole)
	}
	for _, c := range []struct{ lose, named string }{
		{"ip rule del fwmark 0x10000000/0x10000000 lookup local", "ip rule fwmark 0x10000000/0x10000000 lookup local is missing"},
		{"nft flush chain ip flatnet.ports mirrored", "chain ip flatnet.ports mirrored"},
		{"nft delete chain ip flatnet.ports mirrored-output", "chain ip flatnet.ports mirrored-output"},
		{"nft delete chain ip flatnet.ports mirrored-answer", "chain ip flatnet.ports mirrored-answer"},
		{"nft flush ruleset; ip rule del fwmark 0x10000000/0x10000000", "ip rule fwmark"},
	} {
		m.Sh(c.lose)
		m.refused(web.then("CHECK"), 0, c.named, "flatnet reload mends that")
		m.reload()
		m.do(web.then("CHECK"))
		if now := sortedLines(m.everything()); now != whole {
			t.Errorf("%s: after a reload\n%s\nand before\n%s", c.lose, now, whole)
		}
	}
	m.Sh("nft list ruleset >/run/saved; nft flush ruleset; nft -f /run/saved") // the same in nft's words
	m.reach(web, 8080, 8053, m.ways(gateway))
	m.Sh("nft delete chain ip flatnet.ports mirrored-output; ip rule del fwmark 0x10000000/0x10000000")
	second := m.publish("second", lab.Conf, 8081, 8054, "") // and so does the next ADD
	m.reach(web, 8080, 8053, m.ways(gateway))
	m.do(second.then("DEL"))
	m.do(web.then("DEL"))
	m.unchanged()
}

func sortedLines(s string) string {
	lines := strings.Split(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// A failed ADD, GC and a reload take away what a container had.
func TestMirroredIsUndone(t *testing.T) {
	m := newMirror(t)
	add := call("ADD", "c1")
	add.Conf = publish(lab.Conf, mapping(8080, 80, ""))
	m.NetNS("c1")
	m.Write("/run/conf", add.Conf)
	env := "CNI_COMMAND=ADD CNI_CONTAINERID=c1 CNI_NETNS=/run/netns/c1 CNI_IFNAME=eth0 "
	if out, err := m.Try("sh", "-c", env+program+" </run/conf >/dev/full"); err == nil {
		t.Errorf("an ADD whose result can't be written: %s", out)
	}
	m.unchanged()
	vanish := func() {
		m.do(add)
		m.Run("ip", "link", "del", "fn-c1")
		if rules := m.Run("ip", "rule"); !strings.Contains(rules, mirroredRule) {
			t.Errorf("ip rules are %s", rules)
		}
		m.Run("ip", "netns", "del", "c1")
		m.NetNS("c1")
	}
	vanish()
	m.do(gc(lab.Conf))
	m.unchanged()
	vanish()
	m.reload()
	if rules := m.Run("ip", "rule"); strings.Contains(rules, "fwmark") {
		t.Errorf("after a reload, ip rules are %s", rules)
	}
	m.do(call("DEL", "c1"))
	m.unchanged()
}

// Whichever message fails, a failed ADD leaves nothing, and a failed DEL nothing that a
// second one does not take away.
func TestMirroredFaults(t *testing.T) {
	t.Parallel()
	inject := injector(t)
	names := []string{"sendto", "socket"}
	if long {
		names = append(names, "recvmsg")
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t)
			m.NetNS("c1")
			add, del := call("ADD", "c1"), call("DEL", "c1")
			add.Conf = publish(lab.Conf, mapping(8080, 80, ""))
			for _, first := range []lab.Call{add, del} {
				for n, met := 1, true; met; n++ {
					if first.Command == "DEL" {
						m.do(add)
					}
					f := fault{point: point{call: name, n: n}, errno: faulty[name]}
					r := m.Call(program, first, f.wrapper(inject)...)
					met = f.met(m.box)
					if r.Exit == 0 || first.Command == "DEL" {
						m.do(del)
					}
					if m.unchanged(); t.Failed() {
						t.Fatalf("%s with %s: %s", first.Command, f, r.Stdout)
					}
				}
			}
		})
	}
}

// Windows reaches a port by an address that it shares with WSL (hostAddressLoopback): it
// comes by the mirrored interface, and its answer goes back there.
func TestMirroredHostAddress(t *testing.T) {
	m := newMirror(t)
	windows := m.Outside // at the other end of the mirrored interface
	windows.IP(`link set eth0 address 00:11:22:33:44:55
		addr add 192.0.2.1/32 dev lo
		link set lo up
		rule del pref 0
		rule add pref 0 iif eth0 lookup local
		rule add pref 1 ipproto tcp lookup 128
		rule add pref 1 ipproto udp lookup 128
		rule add pref 2 lookup local
		neigh add 169.254.73.152 lladdr ` + links(t, m.Place)[lab.Uplink].Address + ` dev eth0 nud permanent
		route add 192.0.2.1/32 via 169.254.73.152 dev eth0 onlink src 192.0.2.1 table 128`)
	windows.Sh(strings.ReplaceAll(windowsSysctls, "lb", "eth0"))
	web := m.publish("web", lab.Conf, 8080, 8053, "")
	m.reach(web, 8080, 8053, []way{{"Windows by its own address", windows, lab.HostAddr, lab.HostAddr}, m.ways(gateway)[0], m.ways(gateway)[3]})
}

// Containers that come and go at once leave the ip rule exactly as long as there are ports.
func TestMirroredStorm(t *testing.T) {
	m := newMirror(t)
	const many = 6
	for i := range many {
		m.NetNS(fmt.Sprint("c", i))
	}
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			add := call("ADD", fmt.Sprint("c", i))
			add.Conf = publish(lab.Conf, mapping(8080+i, 80, ""))
			for range 8 {
				for _, add.Command = range []string{"ADD", "DEL"} {
					if r := m.Call(program, add); r.Exit != 0 {
						t.Errorf("%s %s: %s", add.Command, add.ID, r.Stdout)
					}
				}
			}
		})
	}
	wg.Wait()
	m.unchanged()
	last := m.publish("last", lab.Conf, 8080, 8053, "")
	m.reach(last, 8080, 8053, m.ways(gateway))
}

// Neither an interface of that name nor the rule alone is mirrored mode.
func TestNotMirrored(t *testing.T) {
	t.Parallel()
	for name, setup := range map[string]string{
		"an interface alone": "ip link add loopback0 type veth peer name lb",
		"a rule alone":       "ip rule add pref 1 lookup 127",
		"neither":            "true",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.Sh(setup)
			before := b.Run("ip", "rule")
			web := b.attach("web", func(l *lab.Call) { l.Conf = publish(lab.Conf, mapping(8080, 80, "")) })
			if now := b.Run("ip", "rule"); now != before {
				t.Errorf("ip rules are %s", now)
			}
			if rules := b.Run("nft", "list", "ruleset"); strings.Contains(rules, "mirrored") {
				t.Errorf("rules are %s", rules)
			}
			b.do(web.then("CHECK"))
			b.do(web.then("DEL"))
			if now := b.Run("ip", "rule"); now != before {
				t.Errorf("after DEL, ip rules are %s", now)
			}
		})
	}
}
