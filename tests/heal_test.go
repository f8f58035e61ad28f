package tests

import (
	"bufio"
	"fmt"
	"strings"
	"sync"
	"testing"

	"flatnet/tests/lab"
)

// reboot does to the world what a reboot does: links, rules and namespaces go,
// no DEL is sent, and the boot ID is another one.
func (b box) reboot(ids ...string) {
	b.t.Helper()
	for _, id := range ids {
		b.Run("ip", "netns", "del", id)
	}
	b.Sh(`nft flush ruleset
		for l in flatnet-br0 br-five $(ip -br link | grep -o '^fn-[^@ ]*'); do ip link del $l 2>/dev/null || :; done
		uuid=$(cat /proc/sys/kernel/random/uuid); echo $uuid >/run/boot_id
		mount --bind /run/boot_id /proc/sys/kernel/random/boot_id`)
}

// limited is a network of three addresses.
func limited(c *lab.Call) {
	c.Conf = conf(`"ipam":{"subnet":"10.87.1.0/24","rangeStart":"10.87.1.10","rangeEnd":"10.87.1.12"}`)
}

func wanting(ip string) func(*lab.Call) { return func(c *lab.Call) { c.Args = "IP=" + ip } }

func TestSameAddressesAfterAReboot(t *testing.T) {
	b := newBox(t)
	c1, c2, fixed := b.attach("c1"), b.attach("c2"), b.attach("c3", wanting("10.87.1.77"))
	b.reboot("c1", "c2", "c3")
	// Not in the order in which they came first, and c1 asks by --ip for what it had.
	for _, c := range []container{
		b.attach("c3", wanting("10.87.1.77")), b.attach("c2"), b.attach("c1", wanting(c1.addr)), b.attach("c4"),
	} {
		want := map[string]string{"c1": c1.addr, "c2": c2.addr, "c3": fixed.addr}[c.add.ID]
		if want != "" && c.addr != want {
			t.Errorf("%s had %s and got %s", c.add.ID, want, c.addr)
		}
		if err := c.Ping(lab.OutsideAddr); err != nil {
			t.Error(err)
		}
		b.do(c.then("CHECK"))
	}
}

// A container that died with the reboot loses its address to one that asks for
// it. When it comes back, it gets another one.
func TestForeignWishAfterAReboot(t *testing.T) {
	b := newBox(t)
	c1 := b.attach("c1")
	b.reboot("c1")
	if c2 := b.attach("c2", wanting(c1.addr)); c2.addr != c1.addr {
		t.Errorf("c2 asked for %s and got %s", c1.addr, c2.addr)
	}
	if again := b.attach("c1"); again.addr == c1.addr {
		t.Errorf("c1 got %s, which c2 has", again.addr)
	}
}

func TestStaleLeasesAreTakenWhenThePoolIsExhausted(t *testing.T) {
	b := newBox(t)
	var had [3]string
	for i := range had {
		had[i] = b.attach(fmt.Sprint("old", i), limited).addr
	}
	b.NetNS("new0")
	add := call("ADD", "new0")
	limited(&add)
	b.refused(add, 100, "10.87.1.10-10.87.1.12") // all three are running
	b.reboot("old0", "old1", "old2", "new0")
	running := b.attach("old1", limited)
	if running.addr != had[1] {
		t.Errorf("old1 had %s and got %s", had[1], running.addr)
	}
	// Two newcomers take the leases of those that did not come back, and a third
	// finds none: nobody's who is running is taken.
	taken := map[string]bool{running.addr: true}
	for i := range 2 {
		c := b.attach(fmt.Sprint("new", i), limited)
		if taken[c.addr] {
			t.Errorf("%s is given away twice", c.addr)
		}
		taken[c.addr] = true
		if err := c.Ping(gateway); err != nil {
			t.Error(err)
		}
	}
	b.NetNS("new2")
	add.ID, add.NetNS = "new2", "/run/netns/new2"
	b.refused(add, 100, "10.87.1.10-10.87.1.12")
	b.do(running.then("CHECK"))
}

// die deletes a namespace without DEL. The kernel takes its link a little later.
func (b box) die(id string) {
	b.t.Helper()
	b.Sh("ip netns del " + id + "; while ip link show fn-" + id + " >/dev/null 2>&1; do :; done")
}

// stop begins an ADD and stops it between its lease and its link. The returned
// function kills it.
func (b box) stop(add lab.Call) (kill func()) {
	b.t.Helper()
	return b.hold(add, "KILL")
}

// hold begins an ADD and stops it between its lease and its link, where it reads the
// network's record: that is a pipe until it is stopped. The returned function sends it a signal
// and waits for its end.
func (b box) hold(add lab.Call, signal string) (end func()) {
	b.t.Helper()
	b.Write("/run/conf", add.Conf)
	cmd := b.Cmd("sh", "-ec", `umask 077; record=/run/flatnet/$(stat -Lc %i /proc/self/ns/net)/flatnet/bridge
		mkdir -p $(dirname $record); [ -e $record ] || : >$record
		mkfifo /run/gate; mount --bind /run/gate $record
		trap 'umount -l $record 2>/dev/null' EXIT
		# An ADD that fails earlier opens the gate as well: see exec, which waits for a reader.
		{ sh -c 'echo $$ >/run/pid; exec "$0"' "$0" </run/conf >/run/stopped 2>&1; : </run/gate; } 2>/dev/null &
		exec 8>/run/gate
		add=$(cat /run/pid); kill -STOP $add
		while grep -hq '^State:.[^T]' /proc/$add/task/*/status; do :; done
		exec 8>&-; umount -l $record; rm /run/gate; echo stopped; read end || :
		kill -`+signal+` $add; wait || :`, program)
	cmd.Env = append(add.Env(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	end = sync.OnceFunc(func() { in.Close(); cmd.Wait() })
	b.t.Cleanup(end)
	if said, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		b.t.Fatalf("%s said %q, %v: %s", add.ID, said, err, b.Read("/run/stopped"))
	}
	return end
}

// An ADD that has its lease and not yet its link keeps it, however short
// addresses are, and for as long as it takes; once it is killed, it does not.
func TestLeaseInFlightIsNotTaken(t *testing.T) {
	b := newBox(t)
	c0 := b.attach("c0", limited)
	b.attach("c1", limited)
	b.NetNS("flying")
	b.NetNS("c2")
	flying, add := call("ADD", "flying"), call("ADD", "c2")
	limited(&flying)
	limited(&add)
	kill := b.stop(flying)
	leased := b.leases()["flying"]
	if _, made := links(t, b.Place)["fn-flying"]; made || leased == "" {
		t.Fatalf("the ADD is stopped too early or too late: lease %q, link %v", leased, made)
	}
	b.refused(add, 100, "10.87.1.10-10.87.1.12")
	b.die("c0")
	if got := b.do(add).Addr(); got != c0.addr {
		t.Errorf("c2 got %s; c0 had %s, and the one in flight has %s", got, c0.addr, leased)
	}
	b.NetNS("c3")
	add = call("ADD", "c3")
	limited(&add)
	b.refused(add, 100, "10.87.1.10-10.87.1.12")
	kill()
	if got := b.do(add).Addr(); got != leased {
		t.Errorf("c3 got %s; the killed one had %s", got, leased)
	}
}

// A container whose namespace went without DEL holds up nobody.
func TestStaleLeaseIsTakenAtOnce(t *testing.T) {
	b := newBox(t)
	var all [3]container
	for i := range all {
		all[i] = b.attach(fmt.Sprint("c", i), limited)
	}
	b.die("c1")
	for i := range 3 {
		id := fmt.Sprint("new", i)
		if got := b.attach(id, limited); got.addr != all[1].addr {
			t.Errorf("%s got %s, c1 had %s", id, got.addr, all[1].addr)
		}
		b.die(id)
	}
	b.do(all[0].then("CHECK"))
	b.do(all[2].then("CHECK"))
}

// Wherever a SIGKILL hits an ADD, the lease file is whole afterwards, the
// container's DEL leaves nothing, and an ADD in a new namespace works.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	inject := injector(t)
	for _, name := range []string{"sendto", "renameat", "fdatasync", "openat", "flock", "write"} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			killed := 0
			for n := 1; n < 100; n++ {
				id := fmt.Sprint("k", n)
				ns := b.NetNS(id)
				add := call("ADD", id)
				f := fault{point: point{call: name, n: n}}
				r := b.Call(program, add, f.wrapper(inject)...)
				if r.Stdout == "" {
					killed++
				}
				b.leases()
				if n%2 == 0 { // as after a reboot of the container's runtime
					b.Run("ip", "netns", "del", id)
					ns = b.NetNS(id)
					addr := b.do(add).Addr()
					if err := b.Ping(addr); err != nil {
						t.Errorf("%s: %v", f, err)
					}
				}
				add.Command = "DEL"
				b.do(add)
				if b.clean(); t.Failed() {
					t.Fatal(f)
				}
				if out := ns.Run("ip", "-br", "link"); strings.Contains(out, "eth0") {
					t.Errorf("%s: the container has %s", f, out)
				}
				b.Run("ip", "netns", "del", id)
				if r.Exit == 0 {
					break
				}
			}
			if killed == 0 {
				t.Error("no ADD was killed: nothing is shown")
			}
		})
	}
}

// A lease file that is not what it should be is set aside, with a message, and
// rebuilt from what runs.
func TestBrokenLeaseFiles(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(whole string) string{
		"empty":              func(string) string { return "" },
		"torn":               func(s string) string { return s[:len(s)/2] },
		"zeros":              func(s string) string { return strings.Repeat("\x00", len(s)) },
		"somebody else's":    func(string) string { return `{"hello":["world"]}` },
		"a list":             func(string) string { return `[]` },
		"an address twice":   func(s string) string { return strings.Replace(s, "10.87.1.3", "10.87.1.2", 1) },
		"what no address is": func(s string) string { return strings.Replace(s, `"10.87.1.3"`, `"ten"`, 1) },
		"trailing data":      func(s string) string { return s + s },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			c1, c2 := b.attach("c1"), b.attach("c2")
			broken := spoil(b.Read(leaseFile))
			b.Write(leaseFile, broken)
			b.NetNS("c3")
			third := b.Call(program, call("ADD", "c3"), "sh", "-c", `exec "$0" 2>/run/stderr`)
			if third.Exit != 0 || third.Addr() == c1.addr || third.Addr() == c2.addr {
				t.Errorf("c3 got %s", third.Stdout)
			}
			if said := b.Read("/run/stderr"); !strings.Contains(said, leaseFile) || !strings.Contains(said, "rebuilt with 2 leases") {
				t.Errorf("it says %q", said)
			}
			if kept := b.Read(leaseFile + ".broken-1"); kept != broken {
				t.Errorf("set aside is %q", kept)
			}
			if l := b.leases(); len(l) != 3 || l["c1"] != c1.addr || l["c2"] != c2.addr {
				t.Errorf("leases are %v", l)
			}
			b.do(c1.then("CHECK"))
			b.do(c2.then("DEL"))
		})
	}
}

// A file that says nothing wrong but not the truth either: who runs keeps the
// address, and nobody else gets it.
func TestForeignLeaseFiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ file, says string }{
		"of another subnet":   {`{"subnet":"192.168.0.0/24","gateway":"192.168.0.1","allocations":{}}`, "192.168.0.0/24"},
		"of other containers": {`{"subnet":"10.87.1.0/24","gateway":"10.87.1.1","allocations":{"x":"10.87.1.7"}}`, "1 running container"},
		"of nobody":           {`{"subnet":"10.87.1.0/24","gateway":"10.87.1.1","allocations":{}}`, "1 running container"},
		"at another address":  {`{"subnet":"10.87.1.0/24","gateway":"10.87.1.1","allocations":{"c1":"10.87.1.9"}}`, "1 running container"},
		"its address another": {`{"subnet":"10.87.1.0/24","gateway":"10.87.1.1","allocations":{"x":"10.87.1.2"}}`, "1 running container"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			c1 := b.attach("c1")
			b.Write(leaseFile, c.file)
			b.NetNS("c2")
			second := b.Call(program, call("ADD", "c2"), "sh", "-c", `exec "$0" 2>/run/stderr`)
			if second.Exit != 0 || second.Addr() == c1.addr {
				t.Errorf("c1 has %s, and c2 got %s", c1.addr, second.Stdout)
			}
			if said := b.Read("/run/stderr"); !strings.Contains(said, leaseFile) || !strings.Contains(said, c.says) {
				t.Errorf("it says %q", said)
			}
			if b.leases()["c1"] != c1.addr {
				t.Errorf("leases are %v", b.leases())
			}
			for _, addr := range []string{c1.addr, second.Addr()} {
				if err := b.Ping(addr); err != nil {
					t.Error(err)
				}
			}
			b.do(c1.then("CHECK"))
			b.do(c1.then("DEL"))
		})
	}
}

// Another tool may write the file, with the promised keys alone.
func TestLeaseFileOfAnotherTool(t *testing.T) {
	b := newBox(t)
	b.Sh("mkdir -p /var/lib/flatnet/ipam")
	b.Write(leaseFile, `{"subnet":"10.87.1.0/24","gateway":"10.87.1.1","allocations":{"theirs":"10.87.1.2","theirs/eth1":"10.87.1.3"}}`)
	c := b.attach("c1")
	if c.addr != "10.87.1.4" {
		t.Errorf("c1 got %s", c.addr)
	}
	if again := b.attach("theirs"); again.addr != "10.87.1.2" {
		t.Errorf("theirs had 10.87.1.2 and got %s", again.addr)
	}
	if l := b.leases(); len(l) != 3 || l["theirs/eth1"] != "10.87.1.3" {
		t.Errorf("leases are %v", l)
	}
}
