package tests

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"flatnet/tests/lab"
)

// flatnet runs a command for people, which must succeed, and returns what it prints.
func (b box) flatnet(args string) string {
	b.t.Helper()
	return b.Run(append([]string{program}, strings.Fields(args)...)...)
}

// fails runs a command for people that must fail with a text that has all texts.
func (b box) fails(args string, texts ...string) {
	b.t.Helper()
	out, err := b.Try(append([]string{program}, strings.Fields(args)...)...)
	if err == nil {
		b.t.Errorf("flatnet %s: %s; want an error", args, out)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			b.t.Errorf("flatnet %s: %v; it does not name %q", args, err, text)
		}
	}
}

// serves makes servers in a container on its port 80 and, for UDP, 53.
func (b box) serves(c container) {
	c.Serve("[::]:80")
	for _, addr := range []string{c.addr, c.addr6()} {
		c.ServeUDP(net.JoinHostPort(addr, "53"))
	}
}

// passes makes a CHECK of what the runtime asked for, which must succeed.
func (b box) passes(c container) {
	b.t.Helper()
	b.do(c.then("CHECK"))
}

// Ports of a container that runs are reached by everybody who reaches those of an ADD, are
// restored by a reload, and gone after unpublish or DEL.
func TestPublishByHand(t *testing.T) {
	for _, bridged := range []string{"0", "1"} { // br_netfilter
		t.Run("bridge-nf-call="+bridged, func(t *testing.T) {
			b := newBox(t)
			b.Sh("for f in ip ip6; do f=/proc/sys/net/bridge/bridge-nf-call-${f}tables; test -e $f && echo " + bridged + " >$f; done")
			web := b.attach("web", func(c *lab.Call) { c.Conf = dual })
			sibling := b.attach("sibling", func(c *lab.Call) { c.Conf = dual })
			b.serves(web)
			before := b.state()
			if out := b.flatnet("publish web 8080:80 8053:53/udp"); !strings.Contains(out, "published 8080->80/tcp of web in network flatnet") {
				t.Errorf("publish prints %s", out)
			}
			b.reached(web, sibling, true)
			b.passes(web)
			b.flatnet("status")
			if out := b.flatnet("publish") + b.flatnet("list"); strings.Count(out, "8080->80/tcp") != 2 || !strings.Contains(out, "8053->53/udp") {
				t.Errorf("listed: %s", out)
			}
			rules := sorted(b.Run("nft", "list", "ruleset"))
			b.flatnet("publish web 8080:80") // is published already
			b.Run("nft", "flush", "ruleset")
			b.flatnet("reload")
			if now := sorted(b.Run("nft", "list", "ruleset")); now != rules {
				t.Errorf("rules were\n%s\nand after a flush and a reload\n%s", rules, now)
			}
			b.reached(web, sibling, true)
			b.flatnet("unpublish web 8053/udp")
			b.flatnet("unpublish web 8080:80")
			b.reached(web, sibling, false)
			b.same(before)
			b.passes(web)
			b.flatnet("status")
			b.flatnet("publish web 8080:80")
			b.do(web.then("DEL"))
			b.do(sibling.then("DEL"))
			b.clean()
		})
	}
}

// reached asks the published servers of web from everywhere.
func (b box) reached(web, sibling container, want bool) {
	b.t.Helper()
	type client struct {
		from lab.Place
		to   []string
	}
	clients := map[string]client{
		"outside": {b.Outside, []string{lab.HostAddr, hostAddr6}}, "the host": {b.Place, []string{lab.HostAddr, hostAddr6, "127.0.0.1"}},
		"itself": {web.Place, []string{lab.HostAddr, hostAddr6}}, "a sibling": {sibling.Place, []string{gateway, hostAddr6}},
	}
	if !want { // a client waits a while for what does not come
		clients = map[string]client{"outside": clients["outside"]}
	}
	for name, c := range clients {
		for _, to := range c.to {
			got, err := c.from.Ask(net.JoinHostPort(to, "8080"))
			if (err == nil && got != "") != want {
				b.t.Errorf("tcp from %s to %s: %q, %v", name, to, got, err)
			}
			got, err = c.from.AskUDP(net.JoinHostPort(to, "8053"), 40000) // one client that stays
			if (err == nil && got != "") != want {
				b.t.Errorf("udp from %s to %s: %q, %v", name, to, got, err)
			}
		}
	}
}

// What can't be published is refused, and leaves rules and records as they were.
func TestPublishIsRefused(t *testing.T) {
	b := newBox(t)
	web := b.attach("web1", func(c *lab.Call) { c.Conf = dual })
	b.attach("web2", func(c *lab.Call) {
		c.Conf = publish(dual, mapping(80, 80, ""), mapping(81, 80, `,"hostIP":"`+lab.HostAddr+`"`))
	})
	state := func() string { return b.state() + b.Sh("grep -r . /run/flatnet/*/flatnet") }
	before := state()
	for args, texts := range map[string][]string{
		"publish web1 80:8080":                     {"flatnet/web2/eth0", "80/tcp"},
		"publish web1 7000 127.0.0.1:80:80 7001":   {"flatnet/web2/eth0"},
		"publish web1 81":                          {"flatnet/web2/eth0"},
		"publish web1 [::1]:90:80":                 {"::1", "IPv6 loopback"},
		"publish web1 [fe80::1]:90:80":             {"fe80::1"},
		"publish web1 90:80 90:81":                 {"90/tcp", "twice"},
		"publish web2 80:81":                       {"80/tcp", "flatnet/web2/eth0", "unpublish"},
		"publish web2 81:81":                       {"81/tcp", "unpublish"},
		"publish web 90":                           {`"web" may be 2 containers: web1, web2`},
		"publish wbe1 90":                          {`no attached container`, `is "web1" meant?`},
		"publish web1 --network other 90":          {`"other"`, "flatnet"},
		"unpublish web1 80":                        {"web1 does not publish 80/tcp; it publishes none"},
		"unpublish web2 80 82":                     {"web2 does not publish 82/tcp"},
		"unpublish web2 127.0.0.1:80":              {"127.0.0.1:80/tcp", "80->80/tcp"},
		"unpublish web2":                           {"--all"},
		"unpublish web2 --all 80":                  {"--all"},
		"publish web1 90:80/icmp":                  {"icmp"},
		"publish web1 0":                           {"1 to 65535"},
		"publish web1 90-91:80":                    {"90-91 are 2 ports"},
		"publish web1 localhost:90:80":             {"localhost"},
		"publish web1 224.0.0.1:90:80":             {"multicast"},
		"publish web1 " + lab.HostAddr + ":81:80":  {"flatnet/web2/eth0"},
		"publish web1 90:80 " + gateway + ":90:80": {"twice"},
	} {
		b.fails(args, texts...)
		if now := state(); now != before {
			t.Fatalf("flatnet %s: state was\n%s\nand now is\n%s", args, before, now)
		}
	}
	b.Sh("rm /run/flatnet/*/flatnet/web1:eth0")
	b.fails("publish web1 90", "flatnet/web1/eth0 has no record")
	b.do(web.then("DEL"))
}

// What an ADD warns of, publish warns of as well: programs of the host that lose the port.
// An internal network's port is reached by the host only.
func TestPublishWarns(t *testing.T) {
	b := newBox(t)
	b.attach("web")
	inside := b.attach("inside", func(c *lab.Call) { c.Conf = strings.Replace(dualOther, `"bridge"`, `"internal":true,"bridge"`, 1) })
	inside.Serve("[::]:80")
	b.Serve("0.0.0.0:90")
	said := func(args string) string { return b.Sh(program + " " + args + " 2>&1") }
	if out := said("publish web 90"); !strings.Contains(out, "a program of the host listens at [::]:90") {
		t.Errorf("it says %s", out)
	}
	if out := said("publish inside 91:80"); !strings.Contains(out, "network other is internal") {
		t.Errorf("it says %s", out)
	}
	if got, err := b.Ask("127.0.0.1:91"); err != nil || got == "" {
		t.Errorf("from the host: %q, %v", got, err)
	}
	if got, err := b.Outside.Ask(lab.HostAddr + ":91"); err == nil {
		t.Errorf("from outside: %q", got)
	}
}

// A port of the runtime can be taken away and come back by hand. CHECK goes by what people
// wanted, and the next ADD by what the runtime wants. A container's port that only
// 127.0.0.1 publishes is closed to neighbours, until another publication opens it.
func TestUnpublishWhatTheRuntimeAskedFor(t *testing.T) {
	b := newBox(t)
	web := b.attach("web", func(c *lab.Call) {
		c.Conf = publish(dual, mapping(8080, 80, ""), mapping(8081, 80, `,"hostIP":"127.0.0.1"`))
	})
	web.Serve("[::]:80")
	reached := func(published, open, loopback bool) {
		t.Helper()
		if got, err := b.Outside.Ask(lab.HostAddr + ":8080"); (err == nil) != published {
			t.Errorf("the published port from outside: %q, %v", got, err)
		}
		closed := "10.87.1.2 . 80 comment \"flatnet/web/eth0\""
		if rules := b.Run("nft", "list", "ruleset"); strings.Contains(rules, closed) == open {
			t.Errorf("closed is %v in\n%s", !open, rules)
		}
		if got, err := b.Ask("127.0.0.1:8081"); (err == nil) != loopback {
			t.Errorf("127.0.0.1:8081: %q, %v", got, err)
		}
		b.passes(web)
		b.flatnet("status")
	}
	reached(true, true, true)
	b.flatnet("unpublish web 8080")
	reached(false, false, true)
	b.Run("nft", "flush", "ruleset")
	b.flatnet("reload")
	reached(false, false, true)
	b.flatnet("publish web " + lab.HostAddr + ":8080:80")
	reached(true, true, true)
	b.flatnet("unpublish web --all")
	if said := b.Run(program, "unpublish", "web", "--all"); said != "nothing to unpublish: web publishes no port\n" {
		t.Errorf("a second unpublish says %q", said)
	}
	reached(false, true, false)
	if rules := b.Run("nft", "list", "tables"); strings.Contains(rules, "ports") {
		t.Errorf("left are %s", rules)
	}
	b.do(web.then("DEL"))
	again := b.do(web.add)
	if web.result = again; again.Addr() != web.addr {
		t.Errorf("the address was %s and is %s", web.addr, again.Addr())
	}
	reached(true, true, true)
	b.do(web.then("DEL"))
	b.clean()
}

// Of those who publish one port at once, one gets it and the others an error that names
// the port; what belongs to a container that goes at the same moment goes with it.
func TestPublishRaces(t *testing.T) {
	b := newBox(t)
	b.attach("stays")
	for round := range 4 {
		var got atomic.Int32
		var wg sync.WaitGroup
		for i := range 4 {
			c := b.attach(fmt.Sprintf("c%d-%d", round, i))
			wg.Go(func() {
				_, err := b.Try(program, "publish", c.add.ID, "8080:80", fmt.Sprint(9000+10*i, "-", 9009+10*i))
				if err == nil {
					got.Add(1)
				} else if !strings.Contains(err.Error(), "8080/tcp is published by flatnet/c") && round%2 == 0 {
					t.Error(err)
				}
			})
			if round%2 == 1 {
				wg.Go(func() { b.do(c.then("DEL")) })
			}
		}
		wg.Wait()
		if n := got.Load(); round%2 == 0 && (n != 1 || strings.Count(b.Run("nft", "list", "ruleset"), ": 10.87.1.") != 11) {
			t.Errorf("%d have the port:\n%s", n, b.Run("nft", "list", "ruleset"))
		}
		for i := range 4 {
			b.do(call("DEL", fmt.Sprintf("c%d-%d", round, i)))
		}
		if list := b.Run("nft", "list", "ruleset") + b.Sh("find /run/flatnet -name 'c*:*'"); strings.Contains(list, "ports") || strings.Contains(list, "eth0") {
			t.Errorf("left are\n%s", list)
		}
	}
}

// The record is changed before the rules. A call that was killed between them is completed
// by a reload, and DEL does not go by such a record.
func TestPublishKilledHalfway(t *testing.T) {
	b := newBox(t)
	b.attach("stays")
	web := b.attach("web")
	web.Serve(web.addr + ":80")
	reached := func(want bool) {
		t.Helper()
		if got, err := b.Outside.Ask(lab.HostAddr + ":8080"); (err == nil) != want {
			t.Errorf("%q, %v", got, err)
		}
	}
	const record = "$(ls /run/flatnet/*/flatnet/web:eth0)"
	b.flatnet("publish web 8080:80 8081:80")
	b.Sh("cp " + record + " /run/both")
	b.flatnet("unpublish web 8080")
	b.Sh("cp " + record + " /run/one; cp /run/both " + record)
	b.flatnet("reload") // publish was killed
	reached(true)
	b.Sh("cp /run/one " + record)
	b.flatnet("reload") // unpublish was
	reached(false)
	b.Sh("cp /run/both " + record)
	b.flatnet("reload")
	b.Sh("cp /run/one " + record)
	b.do(web.then("DEL"))
	if list := b.Run("nft", "list", "ruleset"); strings.Contains(list, "ports") {
		t.Errorf("left are\n%s", list)
	}
}

// A fault at a system call: a failed call leaves the rules as they were, a killed one leaves
// what a reload completes or takes back, and DEL takes everything. The short version tries
// some of the faults.
func TestPublishFaults(t *testing.T) {
	inject := injector(t)
	for _, args := range []string{"publish web 8080:80 127.0.0.1:8081:80/udp", "unpublish web --all"} {
		t.Run(args, func(t *testing.T) {
			b := newBox(t)
			b.attach("stays", like(dual))
			web := b.attach("web", like(dual))
			run := func(wrapper ...string) int {
				cmd := b.Cmd(slices.Concat(wrapper, []string{program}, strings.Fields(args))...)
				cmd.Run()
				return cmd.ProcessState.ExitCode()
			}
			rules := func() string { return sorted(b.Run("nft", "list", "ruleset")) }
			begin := func() string {
				if b.do(web.then("DEL")); strings.Contains(rules(), "ports") {
					t.Errorf("DEL leaves %s", rules())
				}
				b.do(web.add)
				if strings.HasPrefix(args, "un") {
					b.flatnet("publish web 8080:80 8053:53/udp")
				}
				return rules()
			}
			before := begin()
			if run(inject, "-o", traceFile) != 0 {
				t.Fatal("it fails without a fault")
			}
			after := rules()
			list := faults(points(b.Read(traceFile)))
			for i, f := range list {
				if i%8 != 0 && !long {
					continue
				}
				begin()
				exit := run(f.wrapper(inject)...)
				wrote := f.call == "write" && f.errno != 0 // it is done, and can't say so
				if now := rules(); exit == 0 && now != after || exit == 1 && now != before && !wrote {
					t.Errorf("%s: exit %d and\n%s", f, exit, difference(before, now))
				}
				b.flatnet("reload")
				if now := rules(); now != before && now != after {
					t.Errorf("%s: after a reload\n%s", f, difference(before, now))
				}
			}
			begin()
		})
	}
}

// Of a container's networks, the one with the default route gets the port; another one has
// to be named. A port of the runtime is taken from all of them.
func TestPublishInTwoNetworks(t *testing.T) {
	b := newBox(t)
	w := newTwice(b)
	w.call("ADD", "eth0") // in network zulu, and by that the default route
	w.call("ADD", "eth1") // in network alpha
	if out := b.flatnet("publish web 9090:80"); !strings.Contains(out, "in network zulu") {
		t.Errorf("publish prints %s", out)
	}
	b.fails("publish web --network alpha 9090:80", "zulu/web/eth0")
	if out := b.flatnet("publish web --network alpha 9091:80"); !strings.Contains(out, "in network alpha") {
		t.Errorf("publish prints %s", out)
	}
	for _, port := range []string{"8080", "9090", "9091"} {
		if got, err := b.Ask(lab.HostAddr + ":" + port); err != nil || got == "" {
			t.Errorf("port %s: %q, %v", port, got, err)
		}
	}
	b.flatnet("unpublish web 8080 9091")
	if out := b.flatnet("publish web"); strings.Contains(out, "8080") || strings.Count(out, "->") != 1 {
		t.Errorf("published are %s", out)
	}
	if got, err := b.Ask(lab.HostAddr + ":8080"); err == nil {
		t.Errorf("still reached: %q", got)
	}
	w.call("DEL", "eth0")
	w.call("DEL", "eth1")
	if rules := b.Run("nft", "list", "ruleset"); rules != "" {
		t.Errorf("left are\n%s", rules)
	}
}

// Thousands of ports take one message each way.
func TestPublishManyPorts(t *testing.T) {
	b := newBox(t)
	web := b.attach("web")
	web.Serve(web.addr + ":80")
	start := time.Now()
	if out := b.flatnet("publish web 10000-19999:20000-29999 8080:80"); !strings.Contains(out, "10000-19999->20000-29999/tcp") {
		t.Errorf("publish prints %s", out)
	}
	b.flatnet("unpublish web 10000-19998")
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if out := b.flatnet("list"); !strings.Contains(out, "19999->29999/tcp,8080->80/tcp") {
		t.Errorf("left are %s", out)
	}
	if got, err := b.Outside.Ask(lab.HostAddr + ":8080"); err != nil {
		t.Errorf("%q, %v", got, err)
	}
	b.do(web.then("DEL"))
	b.clean()
}

// In WSL2's mirrored mode, Windows and WSL reach the port by 127.0.0.1 as well.
func TestPublishMirrored(t *testing.T) {
	m := newMirror(t)
	web := m.attach("web")
	m.before = m.everything()
	web.Serve(web.addr + ":80")
	web.ServeUDP(web.addr + ":53")
	m.flatnet("publish web 8080:80 8053:53/udp")
	m.reach(web, 8080, 8053, m.ways(gateway))
	m.passes(web)
	m.flatnet("status")
	m.flatnet("unpublish web --all")
	m.unchanged()
	m.do(web.then("DEL"))
}

// A rootless Podman's flatnet publishes where its containers are, and says so.
func TestPublishRootless(t *testing.T) {
	u := newBox(t).tenant("65532", "HOME=/run/home/65532", "XDG_RUNTIME_DIR=/run/user/65532", "_CONTAINERS_USERNS_CONFIGURED=done")
	u.netns("web")
	u.do("ADD", "web", lab.Conf)
	out := u.sh(program + " publish web 8080:80 2>&1; " + program + " list; " + program + " status; " + program + " unpublish web --all")
	if !strings.Contains(out, "port forwarder") || !strings.Contains(out, "8080->80/tcp") {
		u.t.Errorf("it says %s", out)
	}
	u.do("DEL", "web", lab.Conf)
}

// Podman's names lead to containers of both doors. Podman itself does not know of the port,
// and the container loses it with a restart.
func TestPublishPodman(t *testing.T)  { testPublishPodman(t, "trixie") }
func TestPublishPodman4(t *testing.T) { testPublishPodman(t, "bookworm") }

func testPublishPodman(t *testing.T, suite string) {
	b := newBox(t)
	p := nv{b.debianPodman(suite), b.Outside, b.Cgroup(), t}
	if p.Backend == "netavark" {
		p.Do("network", "create", "--driver", "flatnet", "--disable-dns", "flatnet")
	}
	serve := func(name string, options ...string) {
		p.Do(slices.Concat([]string{"run", "-d", p.cgroup, "--name", name, "--network", "flatnet"}, options, []string{lab.Image,
			"/bin/busybox", "nc", "-ll", "-p", "80", "-e", "/bin/busybox", "echo", "port", name})...)
	}
	reached := func(addr, name string) {
		t.Helper()
		if err := lab.Until(10*time.Second, func() error { // the server may have just begun
			if got := b.ask(addr); got != "port "+name {
				return fmt.Errorf("%s: %q", addr, got)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	serve("web")
	serve("asked", "-p", "8081:80")
	id := p.Do("inspect", "-f", "{{.Id}}", "web")
	out := p.World.Run("flatnet", "publish", "web", "8080:80", "53:53/udp")
	if out != "published 8080->80/tcp of web in network flatnet\npublished 53->53/udp of web in network flatnet\n" {
		t.Errorf("publish prints %q", out)
	}
	if out := p.World.Sh("flatnet publish"); strings.Count(out, "\n") != 4 || !strings.Contains(out, "web    53->53/udp") || !strings.Contains(out, "asked  8081->80/tcp") {
		t.Errorf("published are %s", out)
	}
	reached(lab.HostAddr+":8080", "web")
	reached(localhost+":8080", "web")
	if out = p.World.Run("flatnet", "publish", id[:6]); !strings.Contains(out, "web   8080->80/tcp") {
		t.Errorf("published are %s", out)
	}
	if _, err := p.World.Try("flatnet", "publish", "web", "8081:80"); err == nil || !strings.Contains(err.Error(), "is published by flatnet/") {
		t.Errorf("a port that another container has: %v", err)
	}
	if out := p.Do("port", "web"); out != "" {
		t.Errorf("podman port: %s", out)
	}
	p.World.Run("nft", "flush", "ruleset")
	p.World.Run("flatnet", "reload")
	reached(lab.HostAddr+":8080", "web")
	p.World.Run("flatnet", "unpublish", "web", "8080")
	b.closed([]string{lab.HostAddr + ":8080"})
	p.World.Run("flatnet", "publish", "web", "8080")
	p.Do("restart", "-t0", "web")
	b.closed([]string{lab.HostAddr + ":8080"})
	p.World.Run("flatnet", "unpublish", "asked", "--all")
	p.World.Run("flatnet", "publish", "web", "8081:80")
	reached(lab.HostAddr+":8081", "web")
	p.Do("rm", "-fat0")
	p.clean()
}
