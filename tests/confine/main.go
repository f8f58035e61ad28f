// Command confine runs a program with less than it is used to.
//
//	confine [-caps] [-noexec] PROGRAM ARG...
//
// -caps leaves it CAP_NET_ADMIN and CAP_SYS_ADMIN of all capabilities. -noexec
// has the kernel kill it (SIGSYS) as soon as it starts a process or another
// program. In any case it gets no new privileges.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	caps := flag.Bool("caps", false, "leave CAP_NET_ADMIN and CAP_SYS_ADMIN only")
	noexec := flag.Bool("noexec", false, "no further process or program")
	flag.Parse()
	runtime.LockOSThread() // all of this is the thread's own until it executes the program
	if err := confine(flag.Args(), *caps, *noexec); err != nil {
		fmt.Fprintln(os.Stderr, "confine:", err)
		os.Exit(125)
	}
}

func confine(args []string, caps, noexec bool) error {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if caps {
		if err := dropCapabilities(); err != nil {
			return err
		}
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	if err := unix.Dup3(fd, programFD, unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("dup3: %w", err)
	}
	argv, err := syscall.SlicePtrFromStrings(args)
	if err != nil {
		return err
	}
	envv, err := syscall.SlicePtrFromStrings(os.Environ())
	if err != nil {
		return err
	}
	empty, err := unix.BytePtrFromString("")
	if err != nil {
		return err
	}
	if noexec {
		if err := forbidExec(); err != nil {
			return err
		}
	}
	_, _, errno := unix.Syscall6(unix.SYS_EXECVEAT, programFD, uintptr(unsafe.Pointer(empty)),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])), unix.AT_EMPTY_PATH, 0)
	return fmt.Errorf("execveat %s: %w", path, errno)
}

// dropCapabilities removes all others from the bounding set, and so from what
// a program that root executes has.
func dropCapabilities() error {
	for c := uintptr(0); ; c++ {
		if c == unix.CAP_NET_ADMIN || c == unix.CAP_SYS_ADMIN {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if err == unix.EINVAL { // past the kernel's last one
			return nil
		}
		if err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
}
