//go:build amd64

// Command inject runs a program and lets a fault happen at one of its system
// calls: the program is killed there, the call fails and does nothing, or the
// program is held up before it.
//
//	inject -o LOG [-at CALL:N[+] (-kill | -errno E | -until FILE)] PROGRAM ARG...
//
// With a + it happens at all later calls of that name as well. The log has a line for each call in the order in which the program's threads
// came to them, "NAME ARG1", and "(INJECTED)" behind the one with the fault.
// Unlike strace's inject, N counts over all threads. It knows the registers and
// system calls of amd64 only. The exit status is the
// program's, and 137 if it was killed.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	log := flag.String("o", "/dev/null", "file for the log")
	at := flag.String("at", "", "where the fault is, as CALL:N, or CALL:N+ for that call and all later ones")
	kill := flag.Bool("kill", false, "kill the program there")
	errno := flag.Int("errno", 0, "the error of the call there")
	until := flag.String("until", "", "hold the program up there until this file is there")
	flag.Parse()
	f := fault{kill: *kill, errno: syscall.Errno(*errno), until: *until}
	f.parsePoint(*at)
	status, err := run(flag.Args(), *log, f)
	if err != nil {
		fmt.Fprintln(os.Stderr, "inject:", err)
		os.Exit(125)
	}
	os.Exit(status)
}

func (f *fault) parsePoint(s string) {
	name, count, _ := strings.Cut(s, ":")
	count, f.onward = strings.CutSuffix(count, "+")
	f.call = name
	f.n, _ = strconv.Atoi(count)
}

// A fault happens at the n-th call of one name; n counts from 1.
type fault struct {
	call   string
	n      int
	onward bool // and at all later calls of that name
	kill   bool
	errno  syscall.Errno
	until  string
}

// at reports whether the fault happens at the n-th call of that name.
func (f fault) at(name string, n int) bool {
	return name == f.call && (n == f.n || f.onward && n > f.n)
}

func run(args []string, logName string, f fault) (status int, err error) {
	out, err := os.Create(logName)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	w := bufio.NewWriter(out)
	runtime.LockOSThread() // only the thread that started a tracee may steer it
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	t := tracer{pid: cmd.Process.Pid, log: w, fault: f, seen: map[string]int{}, threads: map[int]*thread{}}
	status, err = t.follow()
	if ferr := w.Flush(); err == nil {
		err = ferr
	}
	return status, err
}
