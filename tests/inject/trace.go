//go:build amd64

package main

import (
	"bufio"
	"fmt"
	"os"
	"syscall"
	"time"
)

// sysgood marks the stops of system calls (ptrace(2), PTRACE_O_TRACESYSGOOD).
const sysgood = 0x80

const options = syscall.PTRACE_O_TRACESYSGOOD | syscall.PTRACE_O_TRACECLONE | 0x100000 // PTRACE_O_EXITKILL

// maxHold bounds how long a program is held up.
const maxHold = time.Minute

// A tracer steers all threads of one program. Children that the program starts
// are left alone.
type tracer struct {
	pid     int
	log     *bufio.Writer
	fault   fault
	seen    map[string]int // calls so far, by name
	threads map[int]*thread
}

// A thread of the program.
type thread struct {
	inCall bool // between the two stops of a call
	failed bool // the call is the one with the fault
}

// follow lets the program run to its end, call by call.
func (t *tracer) follow() (int, error) {
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(t.pid, &ws, 0, nil); err != nil {
		return 0, fmt.Errorf("wait for exec: %w", err)
	}
	if err := syscall.PtraceSetOptions(t.pid, options); err != nil {
		return 0, fmt.Errorf("PTRACE_SETOPTIONS: %w", err)
	}
	t.threads[t.pid] = &thread{}
	tid, signal := t.pid, 0
	for {
		// A thread that was killed meanwhile can't be resumed, and is reaped below.
		if err := syscall.PtraceSyscall(tid, signal); err != nil && err != syscall.ESRCH {
			return 0, fmt.Errorf("PTRACE_SYSCALL: %w", err)
		}
		for {
			var err error
			if tid, err = syscall.Wait4(-1, &ws, syscall.WALL, nil); err == syscall.EINTR {
				continue
			} else if err != nil {
				return 0, fmt.Errorf("wait: %w", err)
			}
			if ws.Stopped() {
				break
			}
			if tid == t.pid {
				return exitStatus(ws), nil
			}
			delete(t.threads, tid)
		}
		var err error
		if signal, err = t.stopped(tid, ws); err != nil && err != syscall.ESRCH {
			return 0, err
		}
	}
}

func exitStatus(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// stopped handles a stop and returns the signal to resume the thread with.
func (t *tracer) stopped(tid int, ws syscall.WaitStatus) (int, error) {
	th, known := t.threads[tid]
	switch sig := ws.StopSignal(); {
	case !known: // a new thread's first stop
		t.threads[tid] = &thread{}
		return 0, nil
	case sig == syscall.SIGTRAP|sysgood:
		th.inCall = !th.inCall
		if th.inCall {
			return 0, t.enter(tid, th)
		}
		return 0, t.leave(tid, th)
	case sig == syscall.SIGTRAP: // PTRACE_EVENT_CLONE
		return 0, nil
	default:
		return int(sig), nil
	}
}

// enter logs a call that is about to be made, and prepares the fault.
func (t *tracer) enter(tid int, th *thread) error {
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	name := callName(regs.Orig_rax)
	t.seen[name]++
	fmt.Fprintf(t.log, "%s %d", name, int32(regs.Rdi))
	hit := t.fault.at(name, t.seen[name])
	if hit {
		t.log.WriteString(" (INJECTED)")
	}
	t.log.WriteByte('\n')
	switch {
	case hit && t.fault.kill:
		return syscall.Kill(t.pid, syscall.SIGKILL)
	case hit && t.fault.until != "":
		if err := t.log.Flush(); err != nil { // for whoever waits for it
			return err
		}
		for end := time.Now().Add(maxHold); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if _, err := os.Stat(t.fault.until); err == nil {
				break
			}
		}
	case hit:
		th.failed = true
		regs.Orig_rax = ^uint64(0) // no call at all
		return syscall.PtraceSetRegs(tid, &regs)
	}
	return nil
}

// leave puts the error of the fault in the place of the call's result.
func (t *tracer) leave(tid int, th *thread) error {
	if !th.failed {
		return nil
	}
	th.failed = false
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	regs.Rax = -uint64(t.fault.errno)
	return syscall.PtraceSetRegs(tid, &regs)
}
