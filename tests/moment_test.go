package tests

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"flatnet/tests/lab"
)

// goOn is the file that a program waits for which is held up.
const goOn = "/run/go-on"

// A foreign program changes rules before each message that a verb sends, and so also
// between each question of the verb and its commit. No verb fails for it, and all do
// what they do without it.
func TestForeignChangeAtEveryMessage(t *testing.T) {
	t.Parallel()
	inject := injector(t)
	for _, s := range scenarios {
		if s.name == "CHECK" {
			continue // of another ADD's result, and so it fails
		}
		t.Run(s.name, func(t *testing.T) {
			b := newBox(t)
			b.NetNS("c1")
			b.neighbours(s.near)
			tr := trial{box: b, scenario: s, inject: inject}
			tr.disturbed()
		})
	}
}

// disturbed runs the verb once for each of its messages; in short, for some.
func (tr *trial) disturbed() {
	tr.before(tr.box)
	if r := tr.run(tr.box, tr.inject, "-o", traceFile); r.Exit != 0 {
		tr.t.Fatalf("without a change: exit %d: %s", r.Exit, r.Stdout)
	}
	calls, after := points(tr.Read(traceFile)), tr.footprint()
	tr.back(tr.box)
	world := tr.footprint()
	for _, p := range calls {
		if p.call != "sendto" || !long && p.n%3 != 0 {
			continue
		}
		tr.before(tr.box)
		f := fault{point: p, until: goOn}
		r, held := tr.hold(f, func() {
			tr.Run("nft", "table ip meddler { chain c { }; }")
			tr.Run("nft", "delete", "table", "ip", "meddler")
		})
		if held {
			tr.held++
		}
		if r.Exit != 0 {
			tr.t.Errorf("%s: exit %d: %s", f, r.Exit, r.Stdout)
		}
		tr.same(f, r, after)
		tr.back(tr.box)
		if end := tr.footprint(); end != world {
			tr.t.Errorf("%s: in the end %s", f, difference(world, end))
		}
		if tr.t.Failed() {
			return
		}
	}
	if tr.t.Logf("%d messages, held up at %d", count(calls, "sendto"), tr.held); tr.held == 0 {
		tr.t.Error("the verb was never held up: nothing is shown")
	}
}

// same fails the test unless the verb has done what it does undisturbed. Each ADD gets
// another address, and so CHECK compares what it has made.
func (tr *trial) same(f fault, r lab.Reply, after string) {
	tr.t.Helper()
	switch {
	case tr.check != "":
		c := call("CHECK", "c1")
		c.Conf = lab.WithPrev(tr.check, r)
		tr.do(c)
	case tr.name != "setup":
		if is := tr.footprint(); is != after {
			tr.t.Errorf("%s: %s", f, difference(after, is))
		}
	}
}

func count(all []point, call string) (n int) {
	for _, p := range all {
		if p.call == call {
			n++
		}
	}
	return n
}

// hold runs the verb and, while it is held up, something else. It reports whether it
// was: the verb may end before.
func (tr *trial) hold(f fault, during func()) (r lab.Reply, held bool) {
	tr.t.Helper()
	tr.Sh("rm -f " + traceFile + " " + goOn)
	ended := make(chan lab.Reply, 1)
	go func() { ended <- tr.run(tr.box, f.wrapper(tr.inject)...) }()
	err := lab.Until(30*time.Second, func() error {
		select {
		case r = <-ended:
			ended <- r
			return nil
		default:
		}
		if !f.met(tr.box) {
			return fmt.Errorf("not %s: %s", f, tr.Read(traceFile))
		}
		return nil
	})
	if err != nil {
		tr.t.Error(err)
	}
	if held = f.met(tr.box); held {
		during()
	}
	tr.Write(goOn, "")
	return <-ended, held
}

// All rules are flushed before each message of an ADD. As long as the ADD has not
// committed its own, they and all that they build on are there in the end; if it has,
// a reload restores them.
func TestFlushAtEveryMessageOfAnADD(t *testing.T) {
	inject := injector(t)
	b := newBox(t)
	b.NetNS("c1")
	b.neighbours(like(dual))
	tr := trial{box: b, inject: inject, scenario: scenario{run: verb("ADD", ported)}}
	add(ported)(b)
	del(b)
	world, before, behind := b.footprint(), 0, 0 // with what a network keeps from its first container on
	for n := 1; !t.Failed(); n++ {
		committed := false
		f := fault{point: point{call: "sendto", n: n}, until: goOn}
		r, held := tr.hold(f, func() {
			committed = strings.Contains(b.Run("nft", "list", "ruleset"), "/c1/")
			b.Run("nft", "flush", "ruleset")
		})
		if r.Exit != 0 {
			t.Fatalf("%s: %s", f, r.Stdout)
		}
		if committed {
			behind++
			b.reload()
		} else {
			before++
		}
		check := call("CHECK", "c1")
		check.Conf = lab.WithPrev(ported, r)
		b.do(check)
		b.reload() // for the neighbours
		b.do(call("DEL", "c1"))
		if end := b.footprint(); end != world {
			t.Errorf("%s: in the end %s", f, difference(world, end))
		}
		if !held {
			break
		}
	}
	if t.Logf("flushed before its commit at %d messages, and behind it at %d", before, behind); before < 5 {
		t.Error("nothing is shown")
	}
}

// While an ADD with a port is held up, at each of its messages, another container's
// ADD wants the same port. One of them gets it, and of the other nothing is left.
func TestPortIsClaimedAtEveryMessage(t *testing.T) {
	inject := injector(t)
	b := newBox(t)
	b.attach("neighbour")
	b.NetNS("c1")
	b.NetNS("c2")
	conf := publish(lab.Conf, mapping(8080, 80, ""))
	rival := call("ADD", "c2")
	rival.Conf = conf
	tr := trial{box: b, inject: inject, scenario: scenario{run: verb("ADD", conf)}}
	wins := map[string]int{}
	world := b.footprint()
	for n := 1; !t.Failed(); n++ {
		var second lab.Reply
		ended := make(chan lab.Reply, 1)
		first, held := tr.hold(fault{point: point{call: "sendto", n: n}, until: goOn}, func() {
			go func() { ended <- b.Call(program, rival) }()
			select {
			case second = <-ended:
				ended <- second
			case <-time.After(time.Second): // it waits for a lock of the first
			}
		})
		if !held {
			if n < 5 {
				t.Errorf("%d messages: nothing is shown", n-1)
			}
			b.do(call("DEL", "c1"))
			break
		}
		second = <-ended
		winner, loser, lost := "c1", "c2", second
		if first.Exit != 0 {
			winner, loser, lost = "c2", "c1", first
		}
		wins[winner]++
		if (first.Exit == 0) == (second.Exit == 0) || lost.Code != 101 || !strings.Contains(lost.Msg, "8080") {
			t.Errorf("message %d: %s and %s", n, first.Stdout, second.Stdout)
		}
		if _, ok := b.leases()[loser]; ok {
			t.Errorf("message %d: %s has a lease", n, loser)
		}
		if rules := b.Run("nft", "list", "ruleset"); strings.Contains(rules, "/"+loser+"/") || !strings.Contains(rules, "/"+winner+"/") {
			t.Errorf("message %d: the port is not %s's alone: %s", n, winner, rules)
		}
		b.do(call("DEL", "c1"))
		b.do(call("DEL", "c2"))
		if end := b.footprint(); end != world {
			t.Errorf("message %d: in the end %s", n, difference(world, end))
		}
	}
	t.Logf("won: %v", wins)
}
