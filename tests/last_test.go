package tests

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"flatnet/tests/lab"
)

// An entrance attaches and detaches containers of a network of its own: its bridge is
// made for it, and a port is published, so that everything that a network shares
// is there.
type entrance struct {
	name    string
	add     func(b box, id string) error
	del     func(b box, id string) error
	bridge  string // goes with the last, if not empty
	network string
}

func entrances() []entrance {
	conf := func(id string) string {
		return publish(`{"cniVersion":"1.0.0","name":"five","type":"flatnet","bridge":"br-five","ipam":{"subnet":"10.99.5.0/24"}}`, mapping(8000+int(id[1]), 80, ""))
	}
	cni := func(command string) func(b box, id string) error {
		return func(b box, id string) error {
			c := call(command, id)
			c.Conf = conf(id)
			if r := b.Call(program, c); r.Exit != 0 {
				return fmt.Errorf("%s %s: %s", command, id, r.Stdout)
			}
			return nil
		}
	}
	netavark := func(command string) func(b box, id string) error {
		return func(b box, id string) error {
			ports := fmt.Sprintf(`{"port_mappings":[{"container_port":80,"host_port":%d,"host_ip":"","protocol":"tcp","range":1}],`, 8000+int(id[1]))
			return b.netavarkWith(command, id, strings.Replace(setup(id), "{", ports, 1))
		}
	}
	return []entrance{
		{"CNI", cni("ADD"), cni("DEL"), "", "five"},
		{"netavark", netavark("setup"), netavark("teardown"), "br-five", "five"},
	}
}

// netavarkWith calls the plugin as netavark does, with a stdin of the test's and a
// command that runs it.
func (b box) netavarkWith(command, id, stdin string, wrapper ...string) error {
	cmd := b.Cmd(append(wrapper, program, command, "/run/netns/"+id)...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", command, id, err, out)
	}
	return nil
}

// nothingLeft fails unless everything that the network shares is gone.
func (d entrance) nothingLeft(b box) {
	b.t.Helper()
	if rules := b.Run("nft", "list", "ruleset"); strings.Contains(rules, "flatnet") {
		b.t.Errorf("rules are left:\n%s", rules)
	}
	if v, err := b.Try("cat", "/proc/sys/net/ipv4/conf/br-five/route_localnet"); err == nil && v != "0\n" {
		b.t.Errorf("route_localnet is %s", v)
	}
	if left := b.Sh("cd /run/flatnet/*; find . -name '*:*' ! -path './.gone/*'"); left != "" {
		b.t.Errorf("records are left: %s", left)
	}
	if out := b.Run("ip", "-o", "link"); d.bridge != "" && strings.Contains(out, d.bridge) || strings.Contains(out, "fn-") {
		b.t.Errorf("links are left: %s", out)
	}
}

// complete fails unless the network has what a container needs.
func (d entrance) complete(b box, p lab.Place) bool {
	b.t.Helper()
	if rules, err := b.Try("nft", "list", "table", "ip", "flatnet-"+d.network); err != nil || strings.Count(rules, "comment") < 5 {
		b.t.Errorf("rules are missing:\n%s%v", rules, err)
		return false
	}
	if err := p.Ping("10.99.5.1"); err != nil {
		b.t.Error(err)
		return false
	}
	return true
}

func (b box) vanish(id string) {
	b.t.Helper()
	b.Sh("ip netns del " + id + "; while ip -o link | grep -q fn-" + id + "; do :; done")
}

// A lease whose container vanished without a DEL keeps nothing.
func TestDeadLeaseKeepsNothing(t *testing.T) {
	t.Parallel()
	for _, d := range entrances() {
		t.Run(d.name, func(t *testing.T) {
			b := newBox(t)
			for _, id := range []string{"c1", "c2", "c3"} {
				b.NetNS(id)
				if err := d.add(b, id); err != nil {
					t.Fatal(err)
				}
			}
			b.vanish("c1")
			for i, id := range []string{"c2", "c3"} {
				if err := d.del(b, id); err != nil {
					t.Error(err)
				}
				if i == 0 {
					d.complete(b, b.At("/run/netns/c3"))
				}
			}
			d.nothingLeft(b) // nor its published port
			if err := d.del(b, "c1"); err != nil {
				t.Error(err)
			}
			d.nothingLeft(b)
			if left := b.Sh("find /run/flatnet -path '*/.gone*'"); left != "" {
				t.Errorf("notes are left: %s", left)
			}
		})
	}
}

// Attachments without addresses have no leases, and count all the same.
func TestLastOfThoseWithoutLeases(t *testing.T) {
	b := newBox(t)
	conf := `{"cniVersion":"1.0.0","name":"five","type":"flatnet","bridge":"br-five","disableContainerInterface":true,"macspoofchk":true,"internal":true}`
	with := func(c *lab.Call) { c.Conf = conf }
	c1, c2 := b.attach("c1", with), b.attach("c2", with)
	before := b.Run("nft", "list", "table", "bridge", "flatnet-five")
	if !strings.Contains(before, "fn-c2") || !strings.Contains(b.Run("nft", "list", "tables"), "table ip flatnet-five") {
		t.Fatalf("the rules are %s", b.Run("nft", "list", "ruleset"))
	}
	b.do(c1.then("DEL"))
	b.do(c2.then("CHECK"))
	if after := b.Run("nft", "list", "table", "bridge", "flatnet-five"); !strings.Contains(after, "fn-c2") || strings.Contains(after, "fn-c1") {
		t.Errorf("the other's guard is\n%s", after)
	}
	b.do(c2.then("DEL"))
	if rules := b.Run("nft", "list", "ruleset"); rules != "" {
		t.Errorf("rules are left:\n%s", rules)
	}
}

// rounds is how often something that races is done.
func rounds() int {
	if long {
		return 1000
	}
	return 100
}

// A network's first container of a new time comes while its last one of the old
// goes: it has all that it needs, or else its ADD fails and leaves nothing.
func TestFirstADDRacesLastDEL(t *testing.T) {
	t.Parallel()
	for _, d := range entrances() {
		t.Run(d.name, func(t *testing.T) {
			b := newBox(t)
			ids := []string{"c1", "c2"}
			for _, id := range ids {
				b.NetNS(id)
			}
			if err := d.add(b, ids[0]); err != nil {
				t.Fatal(err)
			}
			for i := range rounds() {
				goes, comes := ids[i%2], ids[1-i%2]
				var racing sync.WaitGroup
				var added error
				racing.Go(func() {
					if err := d.del(b, goes); err != nil {
						t.Error(err)
					}
				})
				racing.Go(func() { added = d.add(b, comes) })
				racing.Wait()
				if added != nil {
					t.Errorf("round %d: %v", i, added)
				}
				if t.Failed() || !d.complete(b, b.At("/run/netns/"+comes)) {
					t.Fatalf("round %d", i)
				}
			}
			for _, id := range ids {
				if err := d.del(b, id); err != nil {
					t.Error(err)
				}
			}
			d.nothingLeft(b)
		})
	}
}

// The network that a bridge was made for goes while a container of another network
// comes to the same bridge.
func TestBridgeOfANetworkThatGoes(t *testing.T) {
	b := newBox(t)
	b.NetNS("c1")
	b.NetNS("c2")
	six := strings.NewReplacer(`"five"`, `"six"`, "10.99.5.0/24", "fd99:0:0:6::/64").Replace(setup("c2"))
	for i := range rounds() {
		if err := b.netavark("setup", "c1"); err != nil {
			t.Fatal(err)
		}
		var racing sync.WaitGroup
		// Between question and act there is time for the other.
		slow := func(ms int) []string {
			return []string{"strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=sendto", "-e", fmt.Sprintf("inject=sendto:delay_enter=%d", 1000*ms)}
		}
		racing.Go(func() {
			if err := b.netavarkWith("teardown", "c1", setup("c1"), slow(i%12)...); err != nil {
				t.Errorf("round %d: %v", i, err)
			}
		})
		racing.Go(func() {
			if err := b.netavarkWith("setup", "c2", six, slow(i*5%12)...); err != nil {
				t.Errorf("round %d: %v", i, err)
			}
		})
		racing.Wait()
		if err := b.At("/run/netns/c2").Ping("fd99:0:0:6::1"); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if err := b.netavarkWith("teardown", "c2", six); err != nil {
			t.Fatal(err)
		}
		b.Try("ip", "link", "del", "br-five")
	}
}

// Two last containers go at once: what they shared goes once, and wholly.
func TestTwoLastDELsAtOnce(t *testing.T) {
	t.Parallel()
	for _, d := range entrances() {
		t.Run(d.name, func(t *testing.T) {
			b := newBox(t)
			b.NetNS("c1")
			b.NetNS("c2")
			for range rounds() / 4 {
				for _, do := range []func(box, string) error{d.add, d.del} {
					var racing sync.WaitGroup
					for _, id := range []string{"c1", "c2"} {
						racing.Go(func() {
							if err := do(b, id); err != nil {
								t.Error(err)
							}
						})
					}
					racing.Wait()
				}
				if d.nothingLeft(b); t.Failed() {
					return
				}
			}
		})
	}
}

// Somebody makes the network's tables and flushes all rules, again and again. The
// last DEL leaves nothing that only those rules made harmless.
func TestLastDELAmongFlushes(t *testing.T) {
	t.Parallel()
	for _, d := range entrances() {
		t.Run(d.name, func(t *testing.T) {
			b := newBox(t)
			b.NetNS("c1")
			nft := b.Cmd("sh", "-c", `while test ! -e /run/stop; do echo "add table ip flatnet-five; add table ip6 flatnet-five"; echo "flush ruleset"; done | nft -i`)
			if err := nft.Start(); err != nil {
				t.Fatal(err)
			}
			for range rounds() / 4 {
				for _, do := range []func(box, string) error{d.add, d.del} {
					if err := do(b, "c1"); err != nil {
						t.Error(err)
					}
				}
				if v, err := b.Try("cat", "/proc/sys/net/ipv4/conf/br-five/route_localnet"); err == nil && v != "0\n" {
					t.Errorf("route_localnet is %s", v)
				}
				if left := b.Sh("cd /run/flatnet/*; find . -name '*:*' ! -path './.gone/*'"); left != "" {
					t.Errorf("records are left: %s", left)
				}
				if t.Failed() {
					break
				}
			}
			b.Write("/run/stop", "")
			if err := nft.Wait(); err != nil {
				t.Error(err)
			}
			b.Run("nft", "flush ruleset")
			d.nothingLeft(b)
		})
	}
}

// An ADD that was killed, at any of its messages, keeps nothing beyond its own DEL,
// and takes nothing from others.
func TestLastBesideKilledADDs(t *testing.T) {
	inject := injector(t)
	b := newBox(t)
	conf := publish(lab.Conf, mapping(8080, 80, ""))
	b.NetNS("killed")
	killed := call("ADD", "killed")
	killed.Conf = conf
	for n := 1; ; n++ {
		other := b.attach(fmt.Sprint("c", n))
		f := fault{point: point{call: "sendto", n: n}}
		killed.Command = "ADD"
		b.Call(program, killed, f.wrapper(inject)...)
		met := f.met(b)
		if err := other.Ping(lab.OutsideAddr); err != nil {
			t.Error(err)
		}
		killed.Command = "DEL"
		if n%2 == 0 {
			b.do(other.then("DEL"))
			b.do(killed)
		} else {
			b.do(killed)
			b.do(other.then("CHECK"))
			b.do(other.then("DEL"))
		}
		if b.clean(); t.Failed() {
			t.Fatalf("killed at message %d", n)
		}
		if v := b.Run("cat", "/proc/sys/net/ipv4/conf/"+bridgeName+"/route_localnet"); v != "0\n" {
			t.Fatalf("killed at message %d: route_localnet is %s", n, v)
		}
		if !met {
			return
		}
	}
}

// A GC removes what a network shared also when there is nobody left to remove.
func TestGCOfNobody(t *testing.T) {
	b := newBox(t)
	c := b.attach("c1", func(c *lab.Call) { c.Conf = publish(lab.Conf, mapping(8080, 80, "")) })
	b.vanish("c1")
	b.Sh("rm -r /var/lib/flatnet/*; nft delete table ip flatnet.ports; rm /run/flatnet/*/flatnet/c1:eth0")
	b.do(gc(c.add.Conf))
	b.clean()
	if v := b.Run("cat", "/proc/sys/net/ipv4/conf/"+bridgeName+"/route_localnet"); v != "0\n" {
		t.Errorf("route_localnet is %s", v)
	}
}
