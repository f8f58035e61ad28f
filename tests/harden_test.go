//go:build long

package tests

import (
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// With CAP_NET_ADMIN and CAP_SYS_ADMIN alone, and killed if it started any
// process or program, flatnet does all its work through both doors.
func TestConfined(t *testing.T) {
	confine := tool(t, "confine")
	b := newBox(t)
	b.NetNS("c1")
	less := []string{confine, "-caps", "-noexec"}
	add := call("ADD", "c1")
	add.Conf = ported
	result := b.Call(program, add, less...)
	if result.Exit != 0 {
		t.Fatalf("ADD: exit %d: %s", result.Exit, result.Stdout)
	}
	check, del := add, add
	check.Command, check.Conf = "CHECK", lab.WithPrev(ported, result)
	del.Command = "DEL"
	for _, c := range []lab.Call{check, {Command: "STATUS", Conf: newer(lab.Conf)}, gc(lab.Conf, "c1"), del, {Command: "VERSION", Conf: lab.Conf}} {
		if r := b.Call(program, c, less...); r.Exit != 0 {
			t.Errorf("%s: exit %d: %s", c.Command, r.Exit, r.Stdout)
		}
	}
	for _, args := range [][]string{{"info"}, {"setup", "/run/netns/c1"}, {"teardown", "/run/netns/c1"}, {"list"}, {"reload"}} {
		if r := command(netavarkCall, args...)(b, less...); r.Exit != 0 {
			t.Errorf("%v: exit %d: %s", args, r.Exit, r.Stdout)
		}
	}
	b.clean()
}

// What the test above relies on: the filter kills who starts a process, which
// is what a delegated IPAM plugin is.
func TestConfinedMayNotDelegate(t *testing.T) {
	confine := tool(t, "confine")
	b := newBox(t)
	b.NetNS("c1")
	add := call("ADD", "c1")
	add.Conf = conf(`"ipam":{"type":"host-local","subnet":"10.87.1.0/24"}`)
	if r := b.Call(program, add, confine, "-caps"); r.Exit != 0 {
		t.Errorf("without the filter: exit %d: %s", r.Exit, r.Stdout)
	}
	b.do(lab.Call{Command: "DEL", ID: "c1", NetNS: add.NetNS, IfName: "eth0", Conf: add.Conf})
	if r := b.Call(program, add, confine, "-noexec"); r.Exit == 0 || r.Exit == 1 {
		t.Errorf("delegated in spite of the filter: exit %d: %s", r.Exit, r.Stdout)
	}
	for _, script := range []string{"/bin/true; exit 0", "exec /bin/true", "(exit 0); exit 0"} {
		if out, err := b.Try(confine, "-noexec", "sh", "-c", script); err == nil {
			t.Errorf("sh -c %q was not killed: %s", script, out)
		}
	}
	caps := b.Run(confine, "-caps", "grep", "-E", "^Cap(Prm|Eff|Bnd)|^NoNewPrivs", "/proc/self/status")
	if strings.Count(caps, "0000000000201000") != 3 || !strings.Contains(caps, "NoNewPrivs:\t1") {
		t.Errorf("capabilities are %s", caps)
	}
}

// Only what ADD needs is asked of the kernel: no file is opened for writing by
// VERSION, and a call that is refused makes no socket.
func TestRefusedCallsTouchNothing(t *testing.T) {
	b := newBox(t)
	for name, c := range map[string]lab.Call{
		"VERSION":            {Command: "VERSION", Conf: lab.Conf},
		"bad ID":             {Command: "ADD", ID: "../x", NetNS: "/run/netns/c1", IfName: "eth0", Conf: lab.Conf},
		"bad configuration":  {Command: "ADD", ID: "c1", NetNS: "/run/netns/c1", IfName: "eth0", Conf: conf(`"mtu":"x"`)},
		"bad JSON":           {Command: "ADD", ID: "c1", NetNS: "/run/netns/c1", IfName: "eth0", Conf: "{"},
		"missing variable":   {Command: "ADD", ID: "c1", IfName: "eth0", Conf: lab.Conf},
		"more than a config": {Command: "ADD", ID: "c1", NetNS: "/run/netns/c1", IfName: "eth0", Conf: lab.Conf + "{}"},
	} {
		b.Call(program, c, "strace", "-f", "-qq", "-o", "/run/trace", "-e", "trace=socket,mkdir,mkdirat,setns,unlinkat,renameat,flock")
		if trace := b.Read("/run/trace"); strings.Contains(trace, "(") {
			t.Errorf("%s: %s", name, trace)
		}
	}
}
