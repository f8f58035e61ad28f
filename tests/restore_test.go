package tests

import (
	"fmt"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// An older copy of the lease file is not believed, though it is flatnet's own
// and of this boot: each container that runs keeps its address, no other gets
// it, and the message says so once.
func TestOlderLeaseFile(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]struct{ keep, restore string }{
		"the file":               {"cp -p $F /run/kept", "cp -p /run/kept $F"},
		"the file, in its place": {"cp -p $F /run/kept", "cat /run/kept >$F"},
		"the file, renamed":      {"cp -p $F /run/kept", "cp -p /run/kept $F.new; mv $F.new $F"},
		"a link to it":           {"ln $F $F.kept", "mv $F.kept $F"},
		"all files":              {"tar -C $D -cf /run/kept .", "tar -C $D -xf /run/kept"},
		"the directory":          {"cp -a $D /run/kept", "rm -r $D; mv /run/kept $D"},
		"an edited one":          {":", `sed -i '/"n[12]"/d; s/"n0": "10.87.1.2",/"n0": "10.87.1.2"/' $F`},
		"none":                   {":", "rm $F"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			run := func(script string) { b.Sh("D=" + ipamDir + "; F=" + leaseFile + ";" + script) }
			all := []container{b.attach("n0")}
			run(how.keep)
			all = append(all, b.attach("n1"), b.attach("n2"))
			// The kernel may stamp two changes within one tick with the same time.
			b.Sh("t=$(stat -c %Z " + leaseFile + "); until [ $(date +%s) -gt $t ]; do :; done")
			run(how.restore)
			taken := map[string]bool{}
			for i := range 5 {
				id := fmt.Sprint("new", i)
				b.NetNS(id)
				r := b.Call(program, call("ADD", id), "sh", "-c", `exec "$0" 2>/run/stderr`)
				for _, c := range all {
					taken[c.addr] = true
				}
				if addr := r.Addr(); r.Exit != 0 || taken[addr] {
					t.Errorf("%s got %s", id, r.Stdout)
				} else {
					taken[addr] = true
				}
				if said := b.Read("/run/stderr"); strings.Contains(said, leaseFile) != (i == 0) {
					t.Errorf("ADD %d says %q", i, said)
				}
			}
			for _, c := range all {
				b.do(c.then("CHECK"))
				b.do(c.then("DEL"))
			}
			if len(b.leases()) != 5 {
				t.Errorf("leases are %v", b.leases())
			}
		})
	}
}

// The address of an ADD that has no link yet is not given away when its lease
// is lost, neither while the ADD goes on nor when its link is made.
func TestOlderLeaseFileWithAnADDInFlight(t *testing.T) {
	b := newBox(t)
	b.attach("n0")
	b.Sh("cp -p " + leaseFile + " /run/kept")
	b.NetNS("flying")
	goOn := b.pause(call("ADD", "flying"))
	b.Sh("t=$(stat -c %Z " + leaseFile + "); until [ $(date +%s) -gt $t ]; do :; done; cp -p /run/kept " + leaseFile)
	seen := map[string]bool{b.attach("n1").addr: true, b.attach("n2").addr: true}
	flying := goOn()
	if flying.Exit != 0 {
		t.Fatal(flying.Stdout)
	}
	for i := range 3 {
		seen[b.attach(fmt.Sprint("later", i)).addr] = true
	}
	if len(seen) != 5 || seen[flying.Addr()] {
		t.Errorf("the ADD in flight got %s, and others %v", flying.Addr(), seen)
	}
	if b.leases()["flying"] != flying.Addr() {
		t.Errorf("leases are %v", b.leases())
	}
}

// While nobody touches the file, no ADD and no DEL lists the host's links for
// the leases' sake.
func TestOwnLeaseFileIsBelieved(t *testing.T) {
	b := newBox(t)
	b.attach("n0")
	for i := range 3 {
		id := fmt.Sprint("c", i)
		b.NetNS(id)
		r := b.Call(program, call("ADD", id), "strace", "-f", "-o", "/run/trace", "-e", "trace=sendto,sendmsg,write")
		if r.Exit != 0 {
			t.Fatal(r.Stdout)
		}
		for line := range strings.Lines(b.Read("/run/trace")) {
			if strings.Contains(line, "RTM_GETLINK") && strings.Contains(line, "NLM_F_DUMP") {
				t.Errorf("ADD %d lists links: %s", i, line)
			}
		}
	}
	if trace := b.Read("/run/trace"); !strings.Contains(trace, "RTM_NEWLINK") {
		t.Errorf("nothing is shown: %s", trace)
	}
}

// pause begins an ADD and stops it between its lease and its link. The returned
// function lets it go on and returns its reply.
func (b box) pause(add lab.Call) (goOn func() lab.Reply) {
	b.t.Helper()
	cont := b.hold(add, "CONT")
	return func() (r lab.Reply) {
		b.t.Helper()
		cont()
		out := b.Read("/run/stopped")
		if fromJSON(b.t, out, &r); r.Code != 0 {
			r.Exit = 1
		}
		r.Stdout = out
		return r
	}
}
