package tests

import (
	"fmt"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// messages counts what a call asks the kernel, of conntrack and in all, and the answers of
// nf_tables and conntrack. A DEL asks again and again whether its link is gone, at the
// kernel's pace: questions for links don't count.
func (b box) messages(c lab.Call) (conntrack, sent, received int) {
	b.t.Helper()
	r := b.Call(program, c, "strace", "-f", "-qq", "-e", "trace=sendto,recvmsg", "-o", "/run/trace")
	if r.Exit != 0 {
		b.t.Fatal(r.Stdout)
	}
	for line := range strings.Lines(b.trace()) {
		switch {
		case strings.Contains(line, " recvmsg(") && strings.Contains(line, "NFNL_SUBSYS"):
			received++
		case strings.Contains(line, " sendto(") && !strings.Contains(line, "RTM_GETLINK"):
			sent++
			if strings.Contains(line, "NFNL_SUBSYS_CTNETLINK") {
				conntrack++
			}
		}
	}
	return conntrack, sent, received
}

// Connections of UDP ports are asked for once, however many ports there are, and what is
// asked in all does not grow faster than their number.
func TestPortsCostNoMoreThanTheirNumber(t *testing.T) {
	b := newBox(t)
	b.attach("stays", withPort(80))
	sent := map[int]int{}
	for _, n := range []int{10, 500, 2000} {
		var all []string
		for i := range n {
			all = append(all, mapping(10000+i, 80, `,"protocol":"udp"`))
		}
		id := fmt.Sprint("c", n)
		b.NetNS(id)
		add := call("ADD", id)
		add.Conf = publish(lab.Conf, all...)
		del := add
		del.Command = "DEL"
		for _, c := range []lab.Call{add, del} {
			flows, asked, _ := b.messages(c)
			if flows > 1 {
				t.Errorf("%s with %d ports asks conntrack %d times", c.Command, n, flows)
			}
			sent[n] += asked
		}
	}
	t.Logf("messages sent for so many ports: %v", sent)
	if per500 := sent[500] - sent[10]; sent[2000]-sent[10] > 5*per500 {
		t.Errorf("2000 ports cost more than four times 500: %v", sent)
	}
}

// A DEL without ports asks the same beside thousands of others' ports.
func TestDELBesideManyPorts(t *testing.T) {
	b := newBox(t)
	plain := b.attach("plain1")
	b.attach("stays")
	_, sent, received := b.messages(plain.then("DEL"))
	var all []string
	for i := range 15000 {
		all = append(all, mapping(10000+i, 80, ""))
	}
	b.attach("many", func(c *lab.Call) { c.Conf = publish(lab.Conf, all...) })
	later := b.attach("plain2")
	_, beside, answers := b.messages(later.then("DEL"))
	if beside != sent || answers != received {
		t.Errorf("DEL sends %d messages and reads %d, beside 15000 ports %d and %d", sent, received, beside, answers)
	}
}
