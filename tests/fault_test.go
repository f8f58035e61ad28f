package tests

import (
	"fmt"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// faulty are the system calls by which an ADD acts, each with an error that
// it may well give.
var faulty = map[string]string{
	"socket": "EMFILE", "bind": "ENOMEM", "setns": "EPERM",
	"sendto": "ENOBUFS", "recvmsg": "ENOBUFS", "openat": "EMFILE", "read": "EIO", "write": "ENOSPC",
	"mkdirat": "ENOSPC", "flock": "EINVAL", "fdatasync": "EIO", "renameat": "EIO", "fstat": "EIO",
}

// maxCalls bounds how often one ADD makes the same system call.
const maxCalls = 200

// Each system call fails in turn until an ADD gets through without meeting the
// fault. No failed ADD leaves anything, and the next one works.
func TestFailedADDLeavesNothing(t *testing.T) {
	t.Parallel()
	for syscall, errno := range faulty {
		for name, prepare := range map[string]func(b box){
			"first":   func(b box) {},
			"further": func(b box) { b.attach("neighbour") },
		} {
			t.Run(syscall+" of a "+name+" ADD", func(t *testing.T) {
				b := newBox(t)
				prepare(b)
				b.NetNS("c1")
				b.failEach(syscall, errno, name == "first")
			})
		}
	}
}

// failEach lets the n-th call of a system call fail, for n from 1 on.
func (b box) failEach(syscall, errno string, first bool) {
	b.t.Helper()
	before, failed := b.state(), 0
	for n := 1; n <= maxCalls; n++ {
		fault := fmt.Sprintf("inject=%s:error=%s:when=%d", syscall, errno, n)
		r := b.Call(program, call("ADD", "c1"), "strace", "-f", "-qq", "-E", "GOMAXPROCS=1", "-o", "/run/trace", "-e", "trace="+syscall, "-e", fault)
		met := strings.Count(b.Read("/run/trace"), "(INJECTED)")
		if r.Exit != 0 {
			failed++
		}
		switch {
		case met == 0 && r.Exit != 0:
			b.t.Fatalf("%s: failed without the fault: %s", fault, r.Stdout)
		case met > 1 || r.Exit == 0:
			// strace counts each thread's calls, so that the undo may have failed
			// as well; or the fault made no difference.
			b.do(call("DEL", "c1"))
		}
		if first {
			b.Try("ip", "link", "del", bridgeName)
			b.Sh("rm -rf /var/lib/flatnet/* /run/flatnet")
		}
		if b.same(before); b.t.Failed() {
			b.t.Fatalf("%s left this: %s", fault, r.Stdout)
		}
		if met == 0 {
			if first && failed == 0 {
				b.t.Errorf("no %s call made an ADD fail: nothing is shown", syscall)
			}
			return
		}
	}
	b.t.Errorf("more than %d %s calls in one ADD", maxCalls, syscall)
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
