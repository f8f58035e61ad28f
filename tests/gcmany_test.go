package tests

import (
	"fmt"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// GC of half of many containers reads everything once, what conntrack has of their UDP
// ports, too, and so takes what the kernel takes to delete their links. A DEL of a
// container without ports costs no more beside the others' ports than beside none.
func TestGCOfMany(t *testing.T) {
	const n = 200
	b := newBox(t)
	b.NetNS("all") // one namespace for all: it is the host's side that matters
	for i := range n {
		add := lab.Call{Command: "ADD", ID: fmt.Sprint("c", i), NetNS: "/run/netns/all", IfName: fmt.Sprint("eth", i)}
		add.Conf = publish(lab.Conf, mapping(10000+2*i, 80, ""), mapping(10001+2*i, 81, `,"protocol":"udp"`))
		b.do(add)
	}
	var keep []string
	for i := range n / 2 {
		keep = append(keep, fmt.Sprintf(`{"containerID":"c%d","ifname":"eth%[1]d"}`, i))
	}
	half := lab.Call{Command: "GC", Conf: withKeys(newer(lab.Conf), `"cni.dev/valid-attachments":[`+strings.Join(keep, ",")+`]`)}
	trace := "/run/gc.trace"
	b.timed("GC of half", func() {
		if r := b.Call(program, half, "strace", "-f", "-qq", "-e", "trace=openat,socket", "-o", trace); r.Exit != 0 {
			t.Fatal(r.Stdout)
		}
	})
	calls := b.Read(trace)
	if sockets := strings.Count(calls, "AF_NETLINK"); sockets > n/2+10 { // one for each deletion, which waits in the kernel
		t.Errorf("%d netlink sockets for one GC", sockets)
	}
	if reads := strings.Count(calls, "allocations.json\", O_RDONLY"); reads == 0 || reads > 10 {
		t.Errorf("the lease file is read %d times", reads)
	}
	list := b.Run("nft", "list", "ruleset")
	for i := range n {
		for _, port := range []string{fmt.Sprint("tcp . ", 10000+2*i), fmt.Sprint("udp . ", 10001+2*i)} {
			if has := strings.Contains(list, fmt.Sprintf("%s comment \"flatnet/c%d/", port, i)); has != (i < n/2) {
				t.Errorf("port %s of c%d: %v", port, i, has)
			}
		}
	}
	if got := len(b.leases()); got != n/2 {
		t.Errorf("%d leases are left", got)
	}
	b.timed("GC of all", func() { b.do(gc(lab.Conf)) })
	b.clean()
}

// answers counts the calls of recvmsg in the trace that returned something. How
// often one had to wait is chance.
func (b box) answers() int {
	trace := b.trace()
	return strings.Count(trace, " recvmsg(") - strings.Count(trace, "EAGAIN")
}

// A DEL finds its elements by their keys: it lists no map, whether it has ports or
// not.
func TestDELListsNoMaps(t *testing.T) {
	b := newBox(t)
	var many []string
	for i := range 3000 {
		many = append(many, mapping(10000+i, 80, ""))
	}
	b.attach("many", func(c *lab.Call) { c.Conf = publish(lab.Conf, many...) })
	received := func(c lab.Call) int {
		if r := b.Call(program, c, "strace", "-f", "-qq", "-e", "trace=recvmsg", "-o", "/run/trace"); r.Exit != 0 {
			t.Fatal(r.Stdout)
		}
		return b.answers()
	}
	plain, one := b.attach("plain"), b.attach("one", func(c *lab.Call) { c.Conf = publish(lab.Conf, mapping(80, 80, "")) })
	lost := b.attach("lost", func(c *lab.Call) { c.Conf = publish(lab.Conf, mapping(81, 80, "")) })
	b.Sh("rm /run/flatnet/*/flatnet/lost:eth0") // and so its port is found by listing
	for _, c := range []container{plain, one, lost} {
		answers := received(c.then("DEL"))
		t.Logf("%s: %d answers", c.add.ID, answers)
		if c.add.ID != "lost" && answers > 30 {
			t.Errorf("DEL of %s reads %d answers", c.add.ID, answers)
		}
	}
	if list := b.Run("nft", "list", "map", "ip", "flatnet.ports", "everywhere"); strings.Count(list, "flatnet/many/eth0") != 3000 || strings.Contains(list, "/lost/") {
		t.Error("ports of another container are lost, or the wrong ones are left")
	}
}

// A GC leaves an attachment alone whose ADD is under way, and removes all others.
func TestGCDuringAnADD(t *testing.T) {
	b := newBox(t)
	b.attach("c1")
	b.attach("c2")
	b.NetNS("flying")
	goOn := b.pause(call("ADD", "flying"))
	b.refused(gc(lab.Conf), 11, "flatnet/flying/eth0")
	if leases := b.leases(); len(leases) != 1 || leases["flying"] == "" {
		t.Errorf("leases are %v", leases)
	}
	// It was stopped for as long as it waits for locks, and so may give up.
	switch r := goOn(); {
	case r.Code == 11:
	case r.Exit != 0 || b.leases()["flying"] != r.Addr():
		t.Errorf("%s, leases %v", r.Stdout, b.leases())
	default:
		if err := b.Ping(r.Addr()); err != nil {
			t.Error(err)
		}
	}
	b.do(gc(lab.Conf))
	b.clean()
}

// A DEL asks the kernel for the flows of its own container: others' are not read,
// however many there are. Its own client's are forgotten.
func TestDELBesideManyFlows(t *testing.T) {
	const flows = 20000
	b := newBox(t)
	b.attach("stays")
	web := b.attach("web", func(c *lab.Call) { c.Conf = publish(lab.Conf, mapping(8053, 53, `,"protocol":"udp"`)) })
	web.ServeUDP(web.addr + ":53")
	if _, err := b.Outside.AskUDP(lab.HostAddr+":8053", 40000); err != nil {
		t.Fatal(err)
	}
	b.Sh("echo 300 >/proc/sys/net/netfilter/nf_conntrack_udp_timeout")
	b.Outside.Run("bash", "-c", fmt.Sprintf("for ((p = 20000; p < %d; p++)); do echo >/dev/udp/%s/$p; done 2>/dev/null", 20000+flows, lab.HostAddr))
	count := strings.TrimSpace(b.Run("cat", "/proc/sys/net/netfilter/nf_conntrack_count"))
	b.timed("DEL beside "+count+" flows", func() {
		if r := b.Call(program, web.then("DEL"), "strace", "-f", "-qq", "-e", "trace=recvmsg", "-o", "/run/trace"); r.Exit != 0 {
			t.Fatal(r.Stdout)
		}
	})
	if answers := b.answers(); answers > 40 {
		t.Errorf("DEL reads %d answers", answers)
	}
	next := b.attach("next", func(c *lab.Call) { c.Conf = publish(lab.Conf, mapping(8053, 53, `,"protocol":"udp"`)) })
	next.ServeUDP(next.addr + ":53")
	if got, err := b.Outside.AskUDP(lab.HostAddr+":8053", 40000); !strings.HasPrefix(got, next.addr+" to ") {
		t.Errorf("%q, %v", got, err)
	}
}
