package tests

import (
	"strings"
	"syscall"
	"testing"

	"flatnet/tests/lab"
)

// faulty are the system calls by which an ADD acts, each with an error that
// it may well give.
var faulty = map[string]syscall.Errno{
	"socket": syscall.EMFILE, "bind": syscall.ENOMEM, "setns": syscall.EPERM,
	"sendto": syscall.ENOBUFS, "recvmsg": syscall.ENOBUFS, "openat": syscall.EMFILE, "read": syscall.EIO, "write": syscall.ENOSPC,
	"mkdirat": syscall.ENOSPC, "flock": syscall.EINVAL, "fdatasync": syscall.EIO, "renameat": syscall.EIO, "fstat": syscall.EIO,
}

// maxCalls bounds how often one ADD makes the same system call.
const maxCalls = 200

// Each system call fails in turn until an ADD gets through without meeting the
// fault. No failed ADD leaves anything, and the next one works.
func TestFailedADDLeavesNothing(t *testing.T) {
	t.Parallel()
	inject := injector(t)
	for call, errno := range faulty {
		for name, prepare := range map[string]func(b box){
			"first":   func(b box) {},
			"further": func(b box) { b.attach("neighbour") },
		} {
			t.Run(call+" of a "+name+" ADD", func(t *testing.T) {
				b := newBox(t)
				prepare(b)
				b.NetNS("c1")
				b.failEach(inject, call, errno, name == "first")
			})
		}
	}
}

// failEach lets the n-th call of a system call fail, for n from 1 on.
func (b box) failEach(inject, name string, errno syscall.Errno, first bool) {
	b.t.Helper()
	before, failed := b.state(), 0
	for n := 1; n <= maxCalls; n++ {
		f := fault{point: point{call: name, n: n}, errno: errno}
		r := b.Call(program, call("ADD", "c1"), f.wrapper(inject)...)
		met := f.met(b)
		switch {
		case r.Exit != 0 && !met:
			b.t.Fatalf("failed without %s: %s", f, r.Stdout)
		case r.Exit != 0:
			failed++
		default: // the fault was not met, or made no difference
			b.do(call("DEL", "c1"))
		}
		if first {
			b.Try("ip", "link", "del", bridgeName)
			b.Sh("rm -rf /var/lib/flatnet/* /run/flatnet")
		}
		if b.same(before); b.t.Failed() {
			b.t.Fatalf("%s left this: %s", f, r.Stdout)
		}
		if !met {
			if first && failed == 0 {
				b.t.Errorf("no %s call made an ADD fail: nothing is shown", name)
			}
			return
		}
	}
	b.t.Errorf("more than %d %s calls in one ADD", maxCalls, name)
}

func TestStartsNoProcess(t *testing.T) {
	b := newBox(t)
	c1 := b.attach("c1")
	b.NetNS("c2")
	for _, c := range []lab.Call{call("ADD", "c2"), c1.then("CHECK"), c1.then("DEL")} {
		r := b.Call(program, c, "strace", "-f", "-qq", "-o", "/run/trace", "-e", "trace=execve,execveat,fork,vfork")
		if trace := b.trace(); r.Exit != 0 || strings.Count(trace, "exec") != 1 || strings.Contains(trace, "fork") {
			t.Errorf("%s: %s\n%s", c.Command, r.Stdout, trace)
		}
	}
}
