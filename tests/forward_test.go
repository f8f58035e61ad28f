package tests

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// learn lets the host learn its IPv6 default route from a router on the uplink
// instead, or anew: it returns when the route is good for more than 1000 seconds.
func (b box) learn(uplink string) {
	b.t.Helper()
	for range 100 { // the kernel may drop one while the link settles
		b.Outside.Advertise("eth0", netip.MustParsePrefix("2001:db8:0:1::/64"), 1800)
		if b.learnedFor(uplink) > 1000 {
			return
		}
	}
	b.t.Errorf("no route is learned:\n%s", b.Run("ip", "-6", "route"))
}

// learnedFor is for how many seconds a learned default route is still good; 0:
// there is none.
func (b box) learnedFor(uplink string) int {
	b.t.Helper()
	words := strings.Fields(b.Run("ip", "-6", "route", "show", "default", "proto", "ra", "dev", uplink))
	for i, word := range words {
		if word == "expires" {
			seconds, _ := strconv.Atoi(strings.TrimSuffix(words[i+1], "sec"))
			return seconds
		}
	}
	return 0
}

// hostOnly makes the world's host one that learns its IPv6 route from a router.
func hostOnly(b box) {
	b.t.Helper()
	b.Sh("ip -6 route del default; cd /proc/sys/net/ipv6/conf; echo 0 >all/forwarding; echo 1 >up0/accept_ra")
	b.learn("up0")
}

// A host that became a router ignores router advertisements, and forgets its
// default route, unless it is told otherwise.
func TestForwardingKeepsTheLearnedRoute(t *testing.T) {
	b := newBox(t)
	hostOnly(b)
	b.Outside.Sh("ip -6 route add 2001:db8:0:1::/64 dev eth0")
	c := b.attach("c1", bothFamilies)
	if !strings.Contains(c.result.Stderr, "accept_ra of up0") {
		t.Errorf("it is not said: %q", c.result.Stderr)
	}
	if b.learnedFor("up0") == 0 {
		t.Fatalf("the route is lost:\n%s", b.Run("ip", "-6", "route"))
	}
	if err := c.Ping("2001:db8::2"); err != nil {
		t.Error(err)
	}
	// A later advertisement is heard, too.
	b.Outside.Advertise("eth0", netip.MustParsePrefix("2001:db8:0:1::/64"), 600)
	b.learn("up0")
	if c2 := b.attach("c2", bothFamilies); c2.result.Stderr != "" {
		t.Errorf("it is said again: %q", c2.result.Stderr)
	}
	if v := b.Sh("cat /run/flatnet/*/.accept_ra"); !strings.Contains(v, `"up0"`) {
		t.Errorf("the record is %q", v)
	}
}

// The raised accept_ra is part of what reload knows, and taken back when the host
// is no router any more.
func TestForwardingIsMendedAndUndone(t *testing.T) {
	b := newBox(t)
	hostOnly(b)
	const file = "/proc/sys/net/ipv6/conf/up0/accept_ra"
	c := b.attach("c1", bothFamilies, func(c *lab.Call) { c.Conf = newer(c.Conf) })
	b.Sh("echo 1 >" + file)
	b.refused(c.then("CHECK"), 104, "net/ipv6/conf/up0/accept_ra")
	b.refused(lab.Call{Command: "STATUS", Conf: c.add.Conf}, 51, "net/ipv6/conf/up0/accept_ra")
	if said := b.Run(program, "reload"); !strings.Contains(said, "mended: sysctl net/ipv6/conf/up0/accept_ra") || b.Sh("cat "+file) != "2\n" {
		t.Errorf("reload says %q, accept_ra is %s", said, b.Sh("cat "+file))
	}
	b.do(c.then("CHECK"))
	b.do(c.then("DEL"))
	if said := b.Run(program, "reload"); said != "nothing was missing\n" {
		t.Errorf("while the host forwards, reload says %q", said)
	}
	b.Sh("echo 0 >/proc/sys/net/ipv6/conf/all/forwarding")
	if said := b.Run(program, "reload"); !strings.Contains(said, "undone: sysctl net/ipv6/conf/up0/accept_ra") || b.Sh("cat "+file) != "1\n" {
		t.Errorf("reload says %q, accept_ra is %s", said, b.Sh("cat "+file))
	}
	if said := b.Run(program, "reload"); said != "nothing was missing\n" {
		t.Errorf("a second reload says %q", said)
	}
}

// What the administrator or a daemon in user space has decided stays: 0 means
// that the kernel is to hear no advertisement.
func TestForwardingLeavesOtherInterfaces(t *testing.T) {
	b := newBox(t)
	hostOnly(b)
	b.Sh("echo 0 >/proc/sys/net/ipv6/conf/up0/accept_ra; ip link add other0 type veth peer name other1; ip link set other0 up")
	if c := b.attach("c1", bothFamilies); c.result.Stderr != "" {
		t.Errorf("said: %q", c.result.Stderr)
	}
	if v := b.Sh("cat /proc/sys/net/ipv6/conf/up0/accept_ra /proc/sys/net/ipv6/conf/other0/accept_ra"); v != "0\n1\n" {
		t.Errorf("accept_ra is %q", v)
	}
}

// A bridge that somebody else made may be where the host's router is.
func TestForwardingWithTheUplinkInTheBridge(t *testing.T) {
	b := newBox(t)
	b.Sh(`ip -6 route del default; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding
		ip link add br0 type bridge; ip link set br0 up; echo 1 >/proc/sys/net/ipv6/conf/br0/accept_ra; ip link set up0 master br0`)
	b.learn("br0")
	b.attach("c1", bothFamilies, func(c *lab.Call) { c.Conf = withKeys(c.Conf, `"bridge":"br0"`) })
	if b.learnedFor("br0") == 0 {
		t.Fatalf("the route is lost:\n%s", b.Run("ip", "-6", "route"))
	}
	b.learn("br0")
}

// Forwarding may be off for new interfaces only.
func TestForwardingOfTheBridge(t *testing.T) {
	b := newBox(t)
	b.Sh("cd /proc/sys/net/ipv4; echo 1 >ip_forward; echo 0 >conf/default/forwarding")
	c := b.attach("c1")
	if err := c.Ping(lab.OutsideAddr); err != nil {
		t.Error(err)
	}
	b.Sh("echo 0 >/proc/sys/net/ipv4/conf/flatnet-br0/forwarding")
	b.refused(c.then("CHECK"), 104, "net/ipv4/conf/flatnet-br0/forwarding")
	b.refused(lab.Call{Command: "STATUS", Conf: newer(lab.Conf)}, 51, "net/ipv4/conf/flatnet-br0/forwarding")
	b.reload()
	if err := c.Ping(lab.OutsideAddr); err != nil {
		t.Errorf("after a reload: %v", err)
	}
}

// The uplink is not flatnet's, so it is named.
func TestForwardingOfTheUplink(t *testing.T) {
	b := newBox(t)
	b.Sh("cd /proc/sys/net/ipv4; echo 1 >ip_forward; echo 0 >conf/up0/forwarding")
	status := lab.Call{Command: "STATUS", Conf: newer(lab.Conf)}
	b.refused(status, 51, "net/ipv4/conf/up0/forwarding")
	if c := b.attach("c1"); !strings.Contains(c.result.Stderr, "net/ipv4/conf/up0/forwarding") {
		t.Errorf("ADD says %q", c.result.Stderr)
	}
	b.Sh("echo 1 >/proc/sys/net/ipv4/conf/up0/forwarding")
	b.do(status)
}
