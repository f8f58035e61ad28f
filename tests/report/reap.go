package main

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// adoptOrphans makes this process the parent of all orphans among its
// descendants. A process that nobody reaps keeps the PID namespace that it was
// in, and so a test, from ending; and in many containers the first process
// reaps none.
func adoptOrphans() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// reapUntil reaps every process that ends, until that is pid, and returns how
// this one ended.
func reapUntil(pid int) error {
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return fmt.Errorf("wait: %w", err)
		case got == pid && status.Signaled():
			return fmt.Errorf("killed by %v", status.Signal())
		case got == pid && status.ExitStatus() != 0:
			return fmt.Errorf("exit status %d", status.ExitStatus())
		case got == pid:
			return nil
		}
	}
}
