package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// A scenario is a verb that faults happen to. Each fault meets the same world.
type scenario struct {
	name   string
	near   func(*lab.Call) // how the neighbours are attached
	before func(b box)     // before each fault
	run    func(b box, wrapper ...string) lab.Reply
	back   func(b box) // after each fault: what a runtime does then
	whole  bool        // a failed call leaves the world as it was, without back
	check  string      // configuration of a CHECK that must agree with a reported success
}

func nothing(box) {}

// verb is a call about c1.
func verb(command, conf string) func(box, ...string) lab.Reply {
	return func(b box, wrapper ...string) lab.Reply {
		c := call(command, "c1")
		c.Conf = conf
		return b.Call(program, c, wrapper...)
	}
}

// add and del are calls about c1 that must succeed.
func add(conf string) func(box) {
	return func(b box) {
		c := call("ADD", "c1")
		c.Conf = conf
		b.do(c)
	}
}

func del(b box) { b.do(call("DEL", "c1")) }

// like edits a call to have that configuration.
func like(conf string) func(*lab.Call) { return func(c *lab.Call) { c.Conf = conf } }

// ported is a configuration that uses all that nf_tables can do for a container.
// Flags of its network are as in dual, so that the rules of one fit the other.
var ported = publish(withKeys(dual, `"macspoofchk":true`), mapping(8080, 80, ""), mapping(8053, 53, `,"protocol":"udp"`))

var scenarios = []scenario{
	{"first ADD", otherNetwork, nothing, verb("ADD", lab.Conf), func(b box) { del(b); b.Try("ip", "link", "del", bridgeName) }, true, lab.Conf},
	{"further ADD", like(lab.Conf), nothing, verb("ADD", lab.Conf), del, true, lab.Conf},
	{"ADD with ports", like(dual), nothing, verb("ADD", ported), del, true, ported},
	{"DEL", like(lab.Conf), add(lab.Conf), verb("DEL", lab.Conf), del, false, ""},
	{"DEL with ports", like(dual), add(ported), verb("DEL", ported), del, false, ""},
	{"last DEL", otherNetwork, add(lab.Conf), verb("DEL", lab.Conf), del, false, ""},
	{"CHECK", like(dual), add(ported), func(b box, wrapper ...string) lab.Reply {
		c := call("CHECK", "c1")
		c.Conf = b.Read("/run/check")
		if c.Conf == "" { // the first time, without a fault
			del(b)
			add := call("ADD", "c1")
			add.Conf = withKeys(ported, `"args":{"cni":{"ips":["10.87.1.77","fd87:0:0:1::77"]}}`)
			c.Conf = lab.WithPrev(add.Conf, b.do(add))
			b.Write("/run/check", c.Conf)
		}
		return b.Call(program, c, wrapper...)
	}, del, false, ""},
	{"GC", like(lab.Conf), add(ported), func(b box, wrapper ...string) lab.Reply {
		return b.Call(program, gc(lab.Conf, "n1", "n2"), wrapper...)
	}, func(b box) { b.do(gc(lab.Conf, "n1", "n2")) }, false, ""},
	{"STATUS", like(lab.Conf), nothing, func(b box, wrapper ...string) lab.Reply {
		return b.Call(program, lab.Call{Command: "STATUS", Conf: newer(lab.Conf)}, wrapper...)
	}, nothing, true, ""},
	{"reload", like(publish(lab.Conf)), func(b box) { b.Run("nft", "flush", "ruleset") }, command("", "reload"),
		func(b box) { b.Run(program, "reload") }, false, ""},
	{"setup", like(lab.Conf), nothing, command(netavarkCall, "setup", "/run/netns/c1"), teardown, true, ""},
	{"teardown", like(lab.Conf), setUp, command(netavarkCall, "teardown", "/run/netns/c1"), teardown, false, ""},
	{"last teardown", otherNetwork, setUp, command(netavarkCall, "teardown", "/run/netns/c1"), teardown, false, ""},
}

// netavarkCall is what Podman 5 tells the plugin of c1, see PODMAN.md.
const netavarkCall = `{"container_id":"c1","container_name":"c1",
	"port_mappings":[{"container_port":80,"host_ip":"","host_port":8080,"protocol":"tcp","range":2}],
	"network":{"name":"flatnet","id":"f1a7","driver":"flatnet","network_interface":"flatnet-br0","dns_enabled":false,"internal":false,"ipv6_enabled":false,
		"ipam_options":{"driver":"flatnet"},"subnets":[{"subnet":"10.87.1.0/24","gateway":"10.87.1.1"}]},
	"network_options":{"interface_name":"eth0","aliases":["c1"]}}`

func setUp(b box) {
	if r := command(netavarkCall, "setup", "/run/netns/c1")(b); r.Exit != 0 {
		b.t.Fatalf("setup: %s", r.Stdout)
	}
}

func teardown(b box) {
	if r := command(netavarkCall, "teardown", "/run/netns/c1")(b); r.Exit != 0 {
		b.t.Fatalf("teardown: %s", r.Stdout)
	}
}

// command runs flatnet through another door than CNI's.
func command(stdin string, args ...string) func(box, ...string) lab.Reply {
	return func(b box, wrapper ...string) lab.Reply {
		b.t.Helper()
		cmd := b.Cmd(slices.Concat(wrapper, []string{program}, args)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.Output()
		exit := (*exec.ExitError)(nil)
		if err != nil && !errors.As(err, &exit) {
			b.t.Fatal(err)
		}
		r := lab.Reply{Stdout: string(out), Exit: cmd.ProcessState.ExitCode()}
		failure := struct{ Error string }{}
		if exit != nil && stdin == "" { // for people
			failure.Error = string(exit.Stderr)
		} else if exit != nil && json.Unmarshal(out, &failure) != nil && len(out) > 0 {
			b.t.Errorf("%v wrote %q", args, out)
		}
		if r.Msg = failure.Error; r.Msg != "" {
			r.Code = 1
		}
		return r
	}
}

// neighbours attaches two containers that live throughout, n1 and n2, and
// notes where n2 is.
func (b box) neighbours(near func(*lab.Call)) {
	b.attach("n1", near)
	n2 := b.attach("n2", near)
	b.Write("/run/n2", n2.addr)
}

// talk is whether n1 reaches n2 and the outside.
func (b box) talk() error {
	n1 := b.At("/run/netns/n1")
	return errors.Join(n1.Ping(b.Read("/run/n2")), n1.Ping(lab.OutsideAddr))
}

// footprint is all that flatnet may leave: interfaces but for the bridges, which
// are shared, rules, leases, and files but for the temporary one, which the next
// change of a lease takes away.
func (b box) footprint() string {
	b.t.Helper()
	leases, addrs := b.leases(), []string{}
	for id, addr := range leases {
		addrs = append(addrs, id+"="+addr)
	}
	slices.Sort(addrs)
	rest := b.Sh(`ip -o link | sed 's/^[0-9]*: \([^:@]*\).*/\1/' | grep -vxe ` + bridgeName + ` -e br9 | sort
		find /var/lib/flatnet /run/flatnet -type f ! -name .lock ! -name 'allocations.json*' 2>/dev/null | sort`)
	return sorted(b.Run("nft", "list", "ruleset")) + rest + strings.Join(addrs, "\n")
}

// Each verb meets a fault at each of its system calls: SIGKILL, and errors.
// What must hold is in [trial.meet].
func TestFaultAtEverySystemCall(t *testing.T) {
	t.Parallel()
	inject := injector(t)
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			b := newBox(t)
			b.NetNS("c1")
			b.NetNS("next")
			b.neighbours(s.near)
			tr := trial{box: b, scenario: s, inject: inject}
			tr.next = !strings.HasPrefix(s.name, "first") && !strings.HasPrefix(s.name, "last")
			tr.all()
		})
	}
}

// A trial is a scenario under way.
type trial struct {
	box
	scenario
	inject string
	next   bool // whether the next container is tried after each fault

	tried, held, unmet, startup int
}

func (tr *trial) all() {
	tr.before(tr.box)
	if r := tr.run(tr.box, tr.inject, "-o", traceFile); r.Exit != 0 {
		tr.t.Fatalf("without a fault: exit %d: %s", r.Exit, r.Stdout)
	}
	calls := points(tr.Read(traceFile))
	tr.back(tr.box)
	world := tr.footprint() // with what a network keeps from its first container on
	for _, f := range faults(calls) {
		met, problem := tr.meet(f, world)
		if !met {
			tr.unmet++
			continue
		}
		if f.startup {
			tr.startup++
		}
		tr.tried++
		if problem == "" {
			tr.held++
			continue
		}
		tr.t.Errorf("%s: %s", f, problem)
		if tr.tried-tr.held >= 10 {
			tr.t.Fatal("and so on")
		}
	}
	tr.do(call("ADD", "next"))
	tr.do(call("DEL", "next"))
	if files := tr.Sh("find /var/lib/flatnet -name '*.*.*'"); files != "" {
		tr.t.Errorf("in the end there are the files %s", files)
	}
	tr.t.Logf("%s: %d system calls; %d faults tried, %d held (%d before main); %d not met again",
		tr.name, len(calls), tr.tried, tr.held, tr.startup, tr.unmet)
	if tr.tried == 0 {
		tr.t.Error("no fault was met: nothing is shown")
	}
}

// meet lets one fault happen and returns whether it did, and what then did not
// hold: an orderly failure is an error reply, and leaves nothing if the verb
// promises that; the lease file can be read and has no address twice; the
// neighbours talk; repeating or undoing the call brings the world back; and
// the next ADD works.
func (tr *trial) meet(f fault, world string) (met bool, problem string) {
	tr.before(tr.box)
	r := tr.run(tr.box, f.wrapper(tr.inject)...)
	met = f.met(tr.box)
	switch orderly := r.Exit == 0 || r.Exit == 1; {
	case !orderly && f.errno != 0 && met:
		problem = fmt.Sprint("it crashed with status ", r.Exit)
	case r.Exit == 1 && r.Code == 0 && f.call != "write":
		problem = "no error is reported"
	case r.Exit == 1 && tr.whole:
		if after := tr.footprint(); after != world {
			problem = "failed (" + r.Msg + ") and left " + difference(world, after)
		}
	case r.Exit == 0 && tr.check != "":
		c := call("CHECK", "c1")
		c.Conf = lab.WithPrev(tr.check, r)
		if check := tr.Call(program, c); check.Exit != 0 {
			problem = "reported success, and CHECK says " + check.Stdout
		}
	}
	if twice := doubled(tr.leases()); twice != "" {
		problem += "; " + twice + " is leased twice"
	}
	tr.back(tr.box)
	if err := tr.talk(); err != nil {
		problem += "; the neighbours don't talk: " + err.Error()
	}
	if tr.next {
		tr.do(call("ADD", "next"))
		tr.do(call("DEL", "next"))
	}
	if after := tr.footprint(); after != world {
		problem += "; in the end " + difference(world, after)
	}
	return met, strings.TrimPrefix(problem, "; ")
}

// doubled is an address that two leases have.
func doubled(leases map[string]string) string {
	seen := map[string]bool{}
	for _, list := range leases {
		for addr := range strings.SplitSeq(list, ",") {
			if seen[addr] {
				return addr
			}
			seen[addr] = true
		}
	}
	return ""
}

// difference is the lines that came and went.
func difference(before, after string) string {
	was, is := strings.Split(before, "\n"), strings.Split(after, "\n")
	gone := slices.DeleteFunc(slices.Clone(was), func(l string) bool { return slices.Contains(is, l) })
	came := slices.DeleteFunc(slices.Clone(is), func(l string) bool { return slices.Contains(was, l) })
	return fmt.Sprintf("more %q, less %q", came, gone)
}
