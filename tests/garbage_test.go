package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"flatnet/tests/lab"
)

// A leftover is what gc --json says of one thing.
type leftover struct {
	Network, Container, Name, Interface, Kind, What, Kept string
	Removed                                               bool
}

// garbage runs gc with --json, which ends with a status.
func (b box) garbage(status int, args ...string) (found []leftover) {
	b.t.Helper()
	out, err := b.Cmd(append([]string{program, "gc", "--json"}, args...)...).Output()
	var exit *exec.ExitError
	got := 0
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		b.t.Fatal(err)
	}
	if jerr := json.Unmarshal(out, &found); jerr != nil || got != status {
		b.t.Errorf("gc %v: status %d, not %d; %v: %s", args, got, status, jerr, out)
	}
	return found
}

// kinds lists the kinds of what was found of a container, or with "" of the network itself.
func kinds(found []leftover, container string) string {
	var all []string
	for _, l := range found {
		if l.Container == container {
			all = append(all, l.Kind)
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

const spoofShaped = `"macspoofchk":true,` + shaped

// What containers leave behind whose namespaces vanish without a DEL is named, and removed
// only with --yes. A living one keeps all that it has, whatever is gone around it.
func TestGarbage(t *testing.T) {
	b := newBox(t)
	if found := b.garbage(0); len(found) != 0 {
		t.Errorf("on a fresh host: %+v", found)
	}
	lives := b.attach("lives", bothFamilies, func(c *lab.Call) { c.Conf = newer(withKeys(c.Conf, spoofShaped)) })
	gone := b.attach("gone", bothFamilies, func(c *lab.Call) {
		c.Conf = newer(withKeys(c.Conf, strings.Replace(spoofShaped, "8080", "8081", 1)))
	})
	other := b.attach("other", func(c *lab.Call) { c.Conf = dualOther })
	alive := func() string { return b.state() + b.Sh("cat /run/flatnet/*/flatnet/lives:eth0") }
	b.vanish("gone")
	b.vanish("other")
	before := alive()
	found := b.garbage(3)
	const ofOne = "lease, limit, macspoofchk, published ports, record"
	if got := kinds(found, "gone"); got != ofOne {
		t.Errorf("of gone there are %s, not %s", got, ofOne)
	}
	if got := kinds(found, "other"); got != "lease, record" {
		t.Errorf("of other there are %s", got)
	}
	if got := kinds(found, ""); got != "bridge, network record, rules, rules" {
		t.Errorf("of network other there are %s", got)
	}
	if got := kinds(found, "lives"); got != "" {
		t.Errorf("of a living container %s would be removed", got)
	}
	if out, err := b.Try(program, "gc"); err == nil || !strings.Contains(out, gone.addr+","+gone.addr6()) || !strings.Contains(out, "nothing was changed") {
		t.Errorf("gc: %v, %s", err, out)
	}
	if after := alive(); after != before {
		t.Errorf("without --yes it was\n%s\nand is\n%s", before, after)
	}
	if removed := b.garbage(0, "--yes", "flatnet"); kinds(removed, "gone") != ofOne || kinds(removed, "other") != "" {
		t.Errorf("removed of one network: %+v", removed)
	}
	if out := b.Run(program, "gc", "-y"); !strings.Contains(out, other.addr) || !strings.Contains(out, "bridge") || !strings.Contains(out, "removed: 6") {
		t.Errorf("removed of the other network: %s", out)
	}
	if found := b.garbage(0); len(found) != 0 {
		t.Errorf("left are %+v", found)
	}
	if left := b.state(); strings.Contains(left, "gone") || strings.Contains(left, "other") || strings.Contains(left, "br9") {
		t.Errorf("left are %s", left)
	}
	b.do(lives.then("CHECK"))
	if _, err := b.Outside.Ask(lab.HostAddr + ":8080"); err == nil {
		t.Error("nothing serves here yet")
	}
	lives.Serve(lives.addr + ":80")
	if _, err := b.Outside.Ask(lab.HostAddr + ":8080"); err != nil {
		t.Error(err)
	}
	b.do(lives.then("DEL"))
	b.clean()
}

// A gc beside ADDs of containers that come back without a DEL takes nothing from them.
func TestGarbageBesideADDs(t *testing.T) {
	b := newBox(t)
	const containers, rounds = 4, 6
	stop, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				if out, err := b.Try(program, "gc", "--yes"); err != nil && !strings.Contains(err.Error(), " is left") {
					t.Errorf("%s, %v", out, err)
				}
			}
		}
	}()
	var calls sync.WaitGroup
	for i := range containers {
		id := fmt.Sprint("c", i)
		calls.Go(func() {
			for range rounds {
				c := b.attach(id, func(c *lab.Call) { c.Conf = newer(publish(lab.Conf, mapping(8080+i, 80, ""))) })
				b.do(c.then("CHECK"))
				b.Run("ip", "netns", "del", id)
			}
			b.do(call("DEL", id))
		})
	}
	calls.Wait()
	close(stop)
	<-stopped
	b.clean()
}

// Leases of containers that live in another network namespace, or whose ADD has not come
// to its link, are not taken for leftovers.
func TestGarbageOfOthers(t *testing.T) {
	b := newBox(t)
	c1 := b.attach("c1")
	elsewhere := b.NetNS("elsewhere")
	for _, args := range []string{"gc", "gc --yes"} {
		out := elsewhere.Sh(program + " " + args)
		if !strings.Contains(out, "nothing to remove") || !strings.Contains(out, "recorded in another network namespace") {
			t.Errorf("%s in another namespace: %s", args, out)
		}
	}
	if out, err := b.Try(program, "gc", "--yes", "flatnett"); err == nil || !strings.Contains(err.Error()+out, `network "flatnett"`) || strings.Contains(out, "nothing") {
		t.Errorf("gc of a network that is not there: %v, %s", err, out)
	}
	b.NetNS("flying")
	goOn := b.pause(call("ADD", "flying"))
	if removed := b.garbage(0, "--yes"); len(removed) != 0 {
		t.Errorf("removed while an ADD was under way: %+v", removed)
	}
	if r := goOn(); r.Exit != 0 || b.leases()["flying"] != r.Addr() || b.leases()["c1"] != c1.addr {
		t.Errorf("%s, leases %v", r.Stdout, b.leases())
	}
	b.do(c1.then("CHECK"))
	// A container that comes back after a reboot gets its address again, although gc was run.
	b.vanish("c1")
	if removed := b.garbage(0, "--yes"); kinds(removed, "c1") != "lease, record" {
		t.Errorf("removed: %+v", removed)
	}
	b.attach("c2")
	if back := b.attach("c1"); back.addr != c1.addr {
		t.Errorf("it had %s and now has %s", c1.addr, back.addr)
	}
}

// A link is still its container's if somebody has changed its MAC address, its alias or both:
// nothing takes its lease, ports and rules away, list names what was changed, and what list
// says repairs it.
func TestChangedLink(t *testing.T) {
	for _, tt := range []struct{ change, state string }{
		{"address 02:11:22:33:44:55", "changed MAC"},
		{"alias mine", "changed alias"},
		{"address 02:11:22:33:44:55 alias mine", "changed MAC and alias"},
		{"address 02:11:22:33:44:55 name mine", "changed MAC"},
	} {
		t.Run(tt.change, func(t *testing.T) {
			b := newBox(t)
			upTo := func(end string) string {
				return withKeys(lab.Conf, shaped+`,"ipam":{"subnet":"10.87.1.0/29","rangeEnd":"10.87.1.`+end+`"}`)
			}
			lives := b.attach("lives", func(c *lab.Call) { c.Conf = upTo("3") })
			b.Sh("ip link set fn-lives down; ip link set fn-lives " + tt.change + "; ip link set group default up")
			record := func() string { return b.Sh("nft list ruleset; cat /run/flatnet/*/flatnet/lives:eth0") }
			passes := b.attach("passes", func(c *lab.Call) { c.Conf = conf(`"ipam":{"subnet":"10.87.1.0/29"}`) })
			before := record()
			b.do(passes.then("DEL")) // the last one that is known as such
			other := call("ADD", "other")
			b.NetNS("other")
			other.Conf = upTo("3")
			b.refused(other, 0, "8080", "lives") // its port
			other.Conf = strings.Replace(upTo("2"), "8080", "8081", 1)
			b.refused(other, 0, "no free address") // but its own
			if removed := b.garbage(0, "--yes"); len(removed) != 0 {
				t.Errorf("removed of a living container: %+v", removed)
			}
			if after := record(); after != before || b.leases()["lives"] != lives.addr {
				t.Errorf("leases %v; it was\n%s\nand is\n%s", b.leases(), before, after)
			}
			repair := b.repairOf("lives", tt.state)
			if _, err := b.Try(program, "status"); err == nil || !strings.Contains(err.Error(), "flatnet/lives/eth0: "+tt.state) {
				t.Errorf("status: %v", err)
			}
			if out := b.Run(program, "doctor"); !strings.Contains(out, "of flatnet/lives/eth0: "+tt.state+"\n      -> ") {
				t.Errorf("doctor: %s", out)
			}
			if _, err := b.Try(program, "publish", "lives"); err == nil || !strings.Contains(err.Error(), "first run: "+strings.ReplaceAll(repair, program, "flatnet")) {
				t.Errorf("publish: %v", err)
			}
			b.Sh(repair)
			b.Run(program, "reload")
			b.repairOf("lives", "attached")
			b.Run(program, "status")
			b.do(lives.then("DEL"))
			b.clean()
		})
	}
}

// repairOf returns the command that list prints for a container, which must be in a state.
func (b box) repairOf(id, state string) string {
	b.t.Helper()
	var rows []struct{ Container, State, Repair string }
	fromJSON(b.t, b.Run(program, "list", "--json"), &rows)
	for _, r := range rows {
		if r.Container == id {
			if r.State != state {
				b.t.Errorf("%s is %q, not %q", id, r.State, state)
			}
			return strings.ReplaceAll(r.Repair, "flatnet reload", program+" reload")
		}
	}
	b.t.Errorf("%s is not listed: %+v", id, rows)
	return ""
}

// Leases say nothing of where their containers are. Without a record, those of a network
// that is not in this namespace are kept, until a reboot has ended all containers.
func TestGarbageWithoutRecords(t *testing.T) {
	b := newBox(t)
	c1 := b.attach("c1")
	b.Sh("rm -r /run/flatnet")
	elsewhere := b.NetNS("elsewhere")
	if out := elsewhere.Sh(program + " gc --yes"); b.leases()["c1"] != c1.addr {
		t.Errorf("%s; leases %v", out, b.leases())
	}
	b.Sh(`sed -i 's/^......../00000000/' /var/lib/flatnet/ipam/.lock`) // another boot's
	if out := elsewhere.Sh(program + " gc --yes"); len(b.leases()) != 0 {
		t.Errorf("after a reboot: %s; leases %v", out, b.leases())
	}
}

// A reload removes what would keep a port taken, and says so; the device of a limit has the
// mark of the link that is gone, and does not count as one.
func TestReloadSaysWhatItRemoves(t *testing.T) {
	b := newBox(t)
	lives := b.attach("lives")
	b.attach("gone", bothFamilies, func(c *lab.Call) { c.Conf = newer(withKeys(c.Conf, shaped)) })
	b.vanish("gone")
	const want = "removed: the record and rules of flatnet/gone/eth0, which has no link\n"
	if said := b.Run(program, "reload"); !strings.Contains(said, want) {
		t.Errorf("said %q", said)
	}
	if said := b.Run(program, "reload"); said != "nothing was missing\n" {
		t.Errorf("a second reload says %q", said)
	}
	if found := b.garbage(3); kinds(found, "gone") != "lease, limit" {
		t.Errorf("left are %+v", found)
	}
	b.attach("also")
	b.vanish("also")
	b.Run(program, "reload")
	if removed := b.garbage(0, "--yes"); kinds(removed, "gone") != "lease, limit" || kinds(removed, "also") != "lease" || b.Sh("find /run/flatnet -path '*/.gone/*'") != "" {
		t.Errorf("removed are %+v", removed)
	}
	b.attach("more")
	b.vanish("more")
	b.do(lives.then("CHECK"))
	b.do(lives.then("DEL")) // the network's last one: with it, the record of more goes
	if removed := b.garbage(0, "--yes"); kinds(removed, "more") != "lease" {
		t.Errorf("removed are %+v", removed)
	}
	b.clean()
}

// What another IPAM plugin has leased is that one's to collect: gc keeps flatnet's record of
// it, by which the next ADD of the container gives it back first, and list says so.
func TestGarbageOfAnotherIPAMPlugin(t *testing.T) {
	b := newBox(t)
	add := call("ADD", "h1")
	add.Conf = publish(strings.Replace(lab.Conf, "}", `,"ipam":{"type":"host-local","subnet":"10.87.43.0/24","dataDir":"/run/hl"}}`, 1), mapping(8080, 80, ""))
	b.NetNS("h1")
	addr := b.do(add).Addr()
	b.vanish("h1")
	b.repairOf("h1", "kept lease")
	for _, l := range b.garbage(0, "--yes") {
		if l.Kind == "lease" && !strings.Contains(l.Kept, "another IPAM plugin") {
			t.Errorf("removed: %+v", l)
		}
	}
	if left := b.Sh("ls /run/hl/flatnet"); !strings.Contains(left, addr) || b.leases()["h1"] != addr {
		t.Errorf("host-local has %s, flatnet %v", left, b.leases())
	}
	if out := b.Sh("nft list ruleset"); strings.Contains(out, "8080") {
		t.Errorf("published ports are left:\n%s", out)
	}
	b.NetNS("h1")
	b.do(add)
	add.Command = "DEL"
	b.do(add)
	if left := b.Sh("ls /run/hl/flatnet"); strings.Contains(left, addr) {
		t.Errorf("host-local has %s", left)
	}
}
