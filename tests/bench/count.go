package main

import (
	"os"
	"strconv"
	"strings"
)

// counts are what one ADD of another container makes: system calls, processes
// besides the first, and its greatest RSS in KiB.
type counts struct {
	Syscalls, Children, RSS int
}

// count asks strace for system calls and processes, and GNU time for memory: a
// process starts with the greatest RSS of the one that started it.
func (r rival) count(host string) (counts, error) {
	const trace, usage = "/run/io/trace", "/run/io/usage"
	var n counts
	if err := newHost(host); err != nil {
		return n, err
	}
	var all [3]container
	for i := range all {
		var err error
		if all[i], err = newContainer(host, i); err != nil {
			return n, err
		}
	}
	if _, err := r.attach(all[0]); err != nil {
		return n, err
	}
	if _, err := r.attach(all[1], "strace", "-f", "-qq", "-o", trace); err != nil {
		return n, err
	}
	calls, err := os.ReadFile(trace)
	if err != nil {
		return n, err
	}
	n.Syscalls, n.Children = tally(string(calls))
	if r.Root != "" {
		n.Children-- // chroot
	}
	if _, err := r.attach(all[2], "/usr/bin/time", "-o", usage, "-f", "%M"); err != nil {
		return n, err
	}
	kib, err := os.ReadFile(usage)
	if err != nil {
		return n, err
	}
	n.RSS, err = strconv.Atoi(strings.TrimSpace(string(kib)))
	return n, err
}

// tally counts what strace -f wrote.
func tally(trace string) (syscalls, children int) {
	children = -1 // the program itself
	for line := range strings.Lines(trace) {
		_, said, _ := strings.Cut(strings.TrimSpace(line), " ")
		said = strings.TrimSpace(said)
		if strings.Contains(said, "execve") && strings.HasSuffix(said, "= 0") {
			children++
		}
		// Not the end of a call that is counted already, a signal or an exit.
		if !strings.HasPrefix(said, "<... ") && !strings.HasPrefix(said, "---") && !strings.HasPrefix(said, "+++") {
			syscalls++
		}
	}
	return syscalls, children
}
