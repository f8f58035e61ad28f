package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// long says whether the long versions of faults, storms and the like are
// wanted: hours of machine time instead of minutes.
var long = os.Getenv("FLATNET_LONG") != ""

// A point is one system call of a run: the n-th of a name, over all threads.
type point struct {
	call    string
	n       int
	startup bool // before the program does anything: the Go runtime's own
}

// errnos are the errors that every call meets.
var errnos = []syscall.Errno{syscall.ENOMEM, syscall.ENOSPC, syscall.EIO, syscall.EINTR, syscall.EBUSY, syscall.ENOBUFS, syscall.EPERM}

// further are errors that only some calls give.
var further = map[string][]syscall.Errno{
	"bind": {syscall.EADDRINUSE}, "flock": {syscall.ENOLCK}, "openat": {syscall.EMFILE, syscall.EROFS}, "socket": {syscall.EMFILE},
}

// runtimeCalls are made by the Go runtime for itself, and how often varies
// from run to run. Most can't fail in practice; the runtime ends the process
// if they do, which is what killing it there shows as well.
var runtimeCalls = map[string]bool{
	"arch_prctl": true, "clone": true, "epoll_create1": true, "epoll_ctl": true, "epoll_pwait": true, "eventfd2": true,
	"exit_group": true, "futex": true, "getpid": true, "gettid": true, "madvise": true, "mmap": true, "munmap": true,
	"nanosleep": true, "prctl": true, "prlimit64": true, "rt_sigaction": true, "rt_sigprocmask": true, "rt_sigreturn": true,
	"sched_getaffinity": true, "sched_yield": true, "sigaltstack": true, "tgkill": true,
}

// A fault is what happens at a point: an error, a wait, or the end of the
// process.
type fault struct {
	point
	errno  syscall.Errno
	until  string // the file that the program waits for before the call
	onward bool   // at all later calls of that name, too
}

func (f fault) String() string {
	at := fmt.Sprintf("%s #%d", f.call, f.n)
	switch {
	case f.errno != 0:
		return fmt.Sprintf("%s: %v (errno %d)", at, f.errno, int(f.errno))
	case f.until != "":
		return "held up at " + at
	}
	return "SIGKILL at " + at
}

// wrapper is the command that runs a program with the fault. Its log is traceFile.
func (f fault) wrapper(inject string) []string {
	at, how := fmt.Sprint(f.call, ":", f.n), "-kill"
	if f.onward {
		at += "+"
	}
	switch {
	case f.errno != 0:
		how = fmt.Sprint("-errno=", int(f.errno))
	case f.until != "":
		how = "-until=" + f.until
	}
	return []string{inject, "-o", traceFile, "-at", at, how}
}

// met reports whether the last command with a fault came to it.
func (f fault) met(b box) bool { return strings.Contains(b.Read(traceFile), "(INJECTED)") }

const traceFile = "/run/trace"

// points reads inject's log of a run.
func points(trace string) []point {
	var all []point
	seen, startup := map[string]int{}, true
	for line := range strings.Lines(trace) {
		call, _, _ := strings.Cut(line, " ")
		if strings.HasPrefix(line, "read 0") || call == "socket" || call == "mkdirat" {
			startup = false
		}
		seen[call]++
		all = append(all, point{call, seen[call], startup})
	}
	return all
}

// faults are what can happen at the points: SIGKILL, and each error at the
// calls that aren't the runtime's. Before the program does anything, one
// SIGKILL at the first call of each name says it all. The short version has
// SIGKILL only after calls that change something, one error at each point,
// another one at the next, and a fifth of all that.
func faults(all []point) []fault {
	var list []fault
	for i, p := range all {
		if p.startup && p.n > 1 {
			continue
		}
		if long || changes(all, i) {
			list = append(list, fault{point: p})
		}
		if runtimeCalls[p.call] || p.startup {
			continue
		}
		likely := slices.Concat(errnos, further[p.call])
		if !long {
			likely = likely[p.n%len(likely):][:1]
		}
		for _, e := range likely {
			list = append(list, fault{point: p, errno: e})
		}
	}
	if long {
		return list
	}
	var some []fault
	for i := 0; i < len(list); i += 5 {
		some = append(some, list[i])
	}
	return some
}

// changes says whether what a process that dies at point i leaves may differ
// from what it leaves if it dies one call earlier.
func changes(all []point, i int) bool {
	if i == 0 {
		return true
	}
	switch all[i-1].call {
	case "sendto", "sendmsg", "write", "openat", "mkdirat", "renameat", "unlinkat", "flock", "fdatasync":
		return true
	}
	return false
}

// injector builds the tool that lets faults happen. strace can't take its place:
// it counts the calls of each thread apart, and on which thread the Go runtime
// makes a call varies from run to run.
func injector(t *testing.T) string {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("NO FAULTS ARE TRIED: inject knows the system calls of amd64 only")
	}
	return tool(t, "inject")
}

// tool builds a command of this module and returns its path.
func tool(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	output(t, ".", "env", "CGO_ENABLED=0", "go", "build", "-buildvcs=false", "-o", path, "./"+name)
	return path
}
