package tests

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"flatnet/tests/lab"
)

// A range of ports, each of which leads to that of the same number.
type ports struct {
	protocol     string // as in a configuration
	first, count int
}

// mappings are those of portMappings, each by itself.
func (p ports) mappings() []string {
	all := make([]string, p.count)
	for i := range all {
		all[i] = fmt.Sprintf(`{"hostPort":%d,"containerPort":%[1]d,"protocol":%q,"hostIP":""}`, p.first+i, p.protocol)
	}
	return all
}

// some are the first, a middle and the last one.
func (p ports) some() []int { return []int{p.first, p.first + p.count/2, p.first + p.count - 1} }

// timed makes a step and logs how long it took.
func (b box) timed(name string, step func()) {
	b.t.Helper()
	began := time.Now()
	step()
	b.t.Logf("%s: %v", name, time.Since(began).Round(time.Millisecond))
}

// serve answers at some of the ports.
func (p ports) serve(c container) {
	for _, port := range p.some() {
		for _, addr := range c.addrs() {
			if p.protocol == "udp" {
				c.ServeUDP(net.JoinHostPort(addr, fmt.Sprint(port)))
			} else {
				c.Serve(net.JoinHostPort(addr, fmt.Sprint(port)))
			}
		}
	}
}

func (c container) addrs() []string {
	if six := c.addr6(); six != "" {
		return []string{c.addr, six}
	}
	return []string{c.addr}
}

// ask reads bytes from some of the ports.
func (p ports) ask(b box, c container) {
	b.t.Helper()
	for _, port := range p.some() {
		for _, host := range []string{lab.HostAddr, hostAddr6}[:len(c.addrs())] {
			at := net.JoinHostPort(host, fmt.Sprint(port))
			got, err := "", error(nil)
			if p.protocol == "udp" {
				got, err = b.Outside.AskUDP(at, 40000)
			} else {
				got, err = b.Outside.Ask(at)
			}
			if got == "" || err != nil {
				b.t.Errorf("%s %s: %q, %v", p.protocol, at, got, err)
			}
		}
	}
}

// silent fails if one of the ports answers.
func (p ports) silent(b box) {
	b.t.Helper()
	for _, port := range p.some() {
		at := net.JoinHostPort(lab.HostAddr, fmt.Sprint(port))
		got, err := "", error(nil)
		if p.protocol == "udp" {
			got, err = b.Outside.AskUDP(at, 40000)
		} else {
			got, err = b.Outside.Ask(at)
		}
		if err == nil {
			b.t.Errorf("after DEL, %s %s answers %q", p.protocol, at, got)
		}
	}
}

// Thousands of ports come, are compared, restored and go as a whole. A port that
// another container wants is still found among them.
func TestThousandsOfPorts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, conf string
		ports      ports
	}{
		{"10001 tcp", lab.Conf, ports{"tcp", 10000, 10001}},
		{"10001 udp", lab.Conf, ports{"udp", 10000, 10001}},
		{"10001 udp dual stack", dual, ports{"udp", 10000, 10001}},
		{"65000 tcp", lab.Conf, ports{"tcp", 500, 65000}},
		{"65000 tcp dual stack", dual, ports{"tcp", 500, 65000}}, // in make long
	} {
		if c.ports.count > 10001 && c.conf == dual && !long {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			stays := b.attach("stays", func(l *lab.Call) { l.Conf = c.conf })
			var web container
			all := publish(c.conf, c.ports.mappings()...)
			b.timed("ADD", func() { web = b.attach("web", func(l *lab.Call) { l.Conf = all }) })
			c.ports.serve(web)
			c.ports.ask(b, web)
			b.timed("CHECK", func() { b.do(web.then("CHECK")) })
			b.Run("nft", "flush", "ruleset")
			b.timed("reload", b.reload)
			c.ports.ask(b, web)
			b.do(web.then("CHECK"))
			b.NetNS("c2")
			for _, port := range c.ports.some() {
				for _, more := range []string{"", `,"hostIP":"` + lab.HostAddr + `"`, `,"hostIP":"127.0.0.1"`} {
					wants := call("ADD", "c2")
					wants.Conf = publish(lab.Conf, mapping(port, 80, `,"protocol":"`+c.ports.protocol+`"`+more))
					b.refused(wants, 101, "flatnet/web/eth0", fmt.Sprint(port))
				}
			}
			b.timed("a second ADD that is refused", func() {
				wants := call("ADD", "c2")
				wants.Conf = all
				b.refused(wants, 101, "flatnet/web/eth0")
			})
			b.timed("CHECK afterwards", func() { b.do(web.then("CHECK")) })
			b.timed("DEL", func() { b.do(web.then("DEL")) })
			c.ports.silent(b)
			b.do(stays.then("DEL"))
			b.clean()
		})
	}
}

// Of those who want thousands of ports, one on all addresses and one on a single
// one, the second is refused, in both orders.
func TestThousandsOfPortsOfOneAddress(t *testing.T) {
	b := newBox(t)
	all := ports{"tcp", 20000, 10001}
	one := all.mappings()
	for i, m := range one {
		one[i] = strings.Replace(m, `"hostIP":""`, `"hostIP":"`+lab.HostAddr+`"`, 1)
	}
	last := mapping(30000, 80, "")
	for _, c := range []struct {
		first, second []string
	}{{one, all.mappings()}, {all.mappings(), one}, {[]string{strings.TrimSuffix(last, "}") + `,"hostIP":"127.0.0.1"}`}, all.mappings()}} {
		first := b.attach("c1", func(l *lab.Call) { l.Conf = publish(lab.Conf, c.first...) })
		b.NetNS("c2")
		add := call("ADD", "c2")
		add.Conf = publish(lab.Conf, c.second...)
		b.timed("refused", func() { b.refused(add, 101, "flatnet/c1/eth0") })
		b.do(first.then("DEL"))
		b.timed("ADD", func() { b.do(add) })
		add.Command = "DEL"
		b.timed("DEL", func() { b.do(add) })
		b.clean()
		b.Run("ip", "netns", "del", "c1")
		b.Run("ip", "netns", "del", "c2")
	}
}

// What thousands of ports of all addresses cost does not grow with the host's
// addresses, of which a node of Kubernetes has hundreds. A port of one of these is
// found all the same.
func TestThousandsOfPortsBesideManyAddresses(t *testing.T) {
	b := newBox(t)
	var lines strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&lines, "addr add 198.18.%d.%d/32 dev lo\n", i/250, i%250+1)
	}
	add := b.Cmd("ip", "-batch", "-")
	add.Stdin = strings.NewReader(lines.String())
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.NetNS("c1")
	many := call("ADD", "c1")
	many.Conf = publish(lab.Conf, ports{"tcp", 20000, 10001}.mappings()...)
	one := b.attach("c2", func(l *lab.Call) { l.Conf = publish(lab.Conf, mapping(30000, 80, `,"hostIP":"198.18.3.250"`)) })
	b.refused(many, 101, "flatnet/c2/eth0", "198.18.3.250:30000")
	b.do(one.then("DEL"))
	const half = "--data=536870912" // RLIMIT_DATA in bytes
	for _, many.Command = range []string{"ADD", "DEL"} {
		if r := b.Call(program, many, "prlimit", half); r.Exit != 0 {
			t.Errorf("%s: %s%.2000s", many.Command, r.Stdout, r.Stderr)
		}
	}
	b.clean()
}

// Podman 5 passes a range on as it is.
func TestThousandsOfPortsThroughNetavark(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		protocols string
		ports     ports
	}{
		{"tcp", ports{"tcp", 10000, 10001}},
		{"udp", ports{"udp", 10000, 10001}},
		{"tcp,udp", ports{"udp", 10000, 50000}},
	} {
		t.Run(fmt.Sprint(c.ports.count, " ", c.protocols), func(t *testing.T) {
			b := newBox(t)
			mapping := fmt.Sprintf(`{"container_port":%d,"host_ip":"","host_port":%[1]d,"protocol":%q,"range":%d}`, c.ports.first, c.protocols, c.ports.count)
			stdin := strings.Replace(netavarkCall, `{"container_port":80,"host_ip":"","host_port":8080,"protocol":"tcp","range":2}`, mapping, 1)
			web := container{Place: b.NetNS("c1"), addr: "10.87.1.2"}
			run := func(args ...string) {
				if r := command(stdin, args...)(b); r.Exit != 0 {
					t.Fatalf("%v: %s", args, r.Stdout)
				}
			}
			b.timed("setup", func() { run("setup", "/run/netns/c1") })
			c.ports.serve(web)
			c.ports.ask(b, web)
			b.Run("nft", "flush", "ruleset")
			b.timed("reload", b.reload)
			c.ports.ask(b, web)
			b.timed("teardown", func() { run("teardown", "/run/netns/c1") })
			c.ports.silent(b)
			b.clean()
		})
	}
}

// meddle changes rules of a table of its own without a break, until the test ends.
func (b box) meddle() {
	cmd := b.Cmd("sh", "-c", `yes 'add table ip foreign; add chain ip foreign c; delete table ip foreign' | nft -i >/dev/null 2>&1`)
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	})
}

// whenNotBusy makes a call as a runtime does, which comes again later when that
// is asked for (code 11): on a busy machine a lock is not free in time.
func (b box) whenNotBusy(c lab.Call) (r lab.Reply) {
	b.t.Helper()
	lab.Until(time.Minute, func() error {
		if r = b.Call(program, c); r.Code == 11 {
			return errors.New(r.Msg)
		}
		return nil
	})
	return r
}

// Nothing is lost and nothing is left while another program changes rules all the
// time.
func TestPortsAmongEndlessChanges(t *testing.T) {
	b := newBox(t)
	stays := b.attach("stays", func(l *lab.Call) { l.Conf = publish(dual, mapping(7000, 80, "")) })
	stays.Serve(stays.addr + ":80")
	b.meddle()
	many := ports{"udp", 10000, 10001}
	var web container
	b.timed("ADD of many", func() {
		web = b.attach("web", func(l *lab.Call) { l.Conf = publish(dual, many.mappings()...) })
	})
	many.serve(web)
	many.ask(b, web)
	var wg sync.WaitGroup
	for i := range 4 {
		id := fmt.Sprint("c", i)
		b.Run("ip", "netns", "add", id)
		wg.Go(func() {
			for round := range 5 {
				add := call("ADD", id)
				add.Conf = publish(dual, mapping(8000+i, 80, ""))
				if r := b.whenNotBusy(add); r.Exit != 0 {
					t.Errorf("%s, round %d: %s", id, round, r.Stdout)
				}
				err := lab.Until(time.Minute, func() error {
					_, err := b.Try(program, "reload")
					if err != nil && !strings.Contains(err.Error(), "try again") {
						t.Error(err)
						return nil
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
				add.Command = "DEL"
				if r := b.whenNotBusy(add); r.Exit != 0 {
					t.Errorf("%s, round %d: %s", id, round, r.Stdout)
				}
			}
		})
	}
	b.timed("20 ADDs, reloads and DELs", wg.Wait)
	many.ask(b, web)
	if _, err := b.Outside.Ask(lab.HostAddr + ":7000"); err != nil {
		t.Error(err)
	}
	b.timed("reload", b.reload)
	b.timed("DEL of many", func() { b.do(web.then("DEL")) })
	many.silent(b)
	b.do(stays.then("DEL"))
	for _, table := range []string{"flatnet.ports", "flatnet"} {
		for _, family := range []string{"ip", "ip6", "bridge"} {
			if out, err := b.Cmd("nft", "list", "table", family, table).CombinedOutput(); err == nil || !strings.Contains(string(out), "No such file") {
				t.Errorf("%s %s: %v: %s", family, table, err, out)
			}
		}
	}
}
