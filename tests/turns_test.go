package tests

import (
	"strings"
	"sync"
	"testing"
	"time"

	"flatnet/tests/lab"
)

// consistent fails unless every host end has the leases that its alias names, no
// address is on two of them, and no attachment has two.
func (b box) consistent() {
	b.t.Helper()
	leases, seen := b.leases(), map[string]string{}
	for name, l := range links(b.t, b.Place) {
		if l.Linkinfo.Kind != "veth" || name == lab.Uplink {
			continue
		}
		word := strings.Fields(l.Ifalias)
		if len(word) != 3 {
			b.t.Errorf("%s has the alias %q", name, l.Ifalias)
			continue
		}
		id := strings.Split(word[1], "/")[1]
		if leases[id] != word[2] {
			b.t.Errorf("%s is live with %s, and the lease of %s is %q", name, word[2], id, leases[id])
		}
		for _, what := range []string{word[1], word[2]} {
			if seen[what] != "" {
				b.t.Errorf("both %s and %s are of %s", seen[what], name, what)
			}
			seen[what] = name
		}
	}
}

// Two ADDs of one attachment in two namespaces, at the same moment as a DEL and as
// other containers' calls: what is live always has its lease.
func TestCallsForOneAttachmentTakeTurns(t *testing.T) {
	t.Parallel()
	rounds := 12
	if long {
		rounds = 300
	}
	for name, keys := range map[string]string{"lease first": `"x":1`, "link first": `"enabledad":true`} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			for _, id := range []string{"one", "two", "c1", "c2", "c3"} {
				b.NetNS(id)
			}
			for i := range rounds {
				var all sync.WaitGroup
				run := func(command, id, netns string) {
					all.Go(func() {
						c := call(command, id)
						c.NetNS, c.Conf = "/run/netns/"+netns, conf(keys)
						r := b.Call(program, c)
						if r.Exit != 0 && (command == "DEL" || r.Code != 101) { // 101: the interface is there already
							t.Errorf("%s of %s in %s: %s", command, id, netns, r.Stdout)
						}
					})
				}
				run("ADD", "same", "one")
				run("ADD", "same", "two")
				if i%2 == 1 {
					run("DEL", "same", "one")
				}
				run("ADD", "c1", "c1")
				run("ADD", "c2", "c2")
				run("DEL", "c3", "c3")
				all.Wait()
				if b.consistent(); t.Failed() {
					t.Fatalf("round %d", i)
				}
				for _, id := range []string{"same", "c1", "c2"} {
					run("DEL", id, id)
				}
				all.Wait()
				b.clean()
			}
		})
	}
}

// A link that was made without a lease makes room as well, when the next ADD of the
// attachment is by another configuration.
func TestLinkWithoutALeaseMakesRoom(t *testing.T) {
	b := newBox(t)
	b.attach("c1", func(c *lab.Call) { c.Conf = conf(`"disableContainerInterface":true,"macspoofchk":true`) })
	b.NetNS("again")
	add := call("ADD", "c1")
	add.NetNS = "/run/netns/again"
	b.do(add)
	b.consistent()
	if _, err := b.At("/run/netns/c1").Try("ip", "link", "show", "eth0"); err == nil {
		t.Error("the container's earlier interface is still there")
	}
	add.Command = "DEL"
	b.do(add)
	b.clean()
}

// The link of an earlier namespace makes room under another name, too, whether the
// lease comes before the link or after it: DEL would not find two.
func TestRenamedLinkMakesRoom(t *testing.T) {
	for name, keys := range map[string]string{
		"lease first": `"macspoofchk":true`,
		"link first":  `"macspoofchk":true,"enabledad":true`,
		"no lease":    `"macspoofchk":true,"disableContainerInterface":true`,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			add := b.attach("c1", func(c *lab.Call) { c.Conf = conf(keys) }).add
			b.Run("ip", "link", "set", "fn-c1", "name", "other")
			b.NetNS("again")
			add.NetNS = "/run/netns/again"
			b.do(add)
			if _, ok := links(t, b.Place)["other"]; ok {
				t.Error("the renamed link is still there")
			}
			if rules := b.Run("nft", "list", "ruleset"); strings.Contains(rules, `"other"`) {
				t.Errorf("the renamed link's guard is still there:\n%s", rules)
			}
			add.Command = "DEL"
			b.do(add)
			b.clean()
		})
	}
}

// An ADD whose runtime was killed goes on beside its successor: that waits, and is
// told to try again. When the ADD is killed as well, its lock is gone.
func TestOrphanOfAKilledRuntime(t *testing.T) {
	b := newBox(t)
	b.attach("neighbour")
	b.NetNS("c1")
	b.NetNS("again")
	kill := b.stop(call("ADD", "c1"))
	var all sync.WaitGroup
	for _, command := range []string{"ADD", "DEL"} {
		all.Go(func() {
			begin := time.Now()
			c := call(command, "c1")
			c.NetNS = "/run/netns/again"
			b.refused(c, 11, "c1", "try again")
			if took := time.Since(begin); took > time.Minute {
				t.Errorf("%s took %v", command, took)
			}
		})
	}
	all.Wait()
	kill()
	add := call("ADD", "c1")
	add.NetNS = "/run/netns/again"
	b.do(add)
	b.consistent()
	b.do(call("DEL", "c1"))
	if _, left := b.leases()["c1"]; left {
		t.Error("the lease is left")
	}
}

// A directory for locks that can't be written keeps nobody from working.
func TestTurnsWithoutRun(t *testing.T) {
	b := newBox(t)
	b.Sh("mkdir -p /run/flatnet; mount --bind /run/flatnet /run/flatnet; mount -o remount,ro,bind /run/flatnet")
	c := b.attach("c1")
	b.do(c.then("CHECK"))
	b.do(c.then("DEL"))
	b.clean()
}
