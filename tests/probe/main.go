// Command probe makes system calls that flatnet never makes, each on a line with its
// error, and for comparison one that it makes. None of them changes anything.
package main

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	report("allowed: socket AF_NETLINK", socket(unix.AF_NETLINK))
	report("socket AF_INET", socket(unix.AF_INET))
	report("socket AF_PACKET", socket(unix.AF_PACKET))
	report("socket AF_UNIX", socket(unix.AF_UNIX))
	report("fork", fork())
	var empty [1]byte
	none := uintptr(unsafe.Pointer(&empty))
	for _, c := range []struct {
		name   string
		number uintptr
		args   [6]uintptr
	}{
		{"execveat", unix.SYS_EXECVEAT, [6]uintptr{^uintptr(0), none}},
		{"ptrace", unix.SYS_PTRACE, [6]uintptr{unix.PTRACE_DETACH, 1}},
		{"unshare", unix.SYS_UNSHARE, [6]uintptr{unix.CLONE_FS}},
		{"mount", unix.SYS_MOUNT, [6]uintptr{none, none, none}},
		{"umount2", unix.SYS_UMOUNT2, [6]uintptr{none}},
		{"chroot", unix.SYS_CHROOT, [6]uintptr{none}},
		{"kill", unix.SYS_KILL, [6]uintptr{1, 0}},
		{"bpf", unix.SYS_BPF, [6]uintptr{^uintptr(0)}},
		{"keyctl", unix.SYS_KEYCTL, [6]uintptr{^uintptr(0)}},
		{"io_uring_setup", unix.SYS_IO_URING_SETUP, [6]uintptr{}},
		{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, [6]uintptr{}},
		{"finit_module", unix.SYS_FINIT_MODULE, [6]uintptr{^uintptr(0)}},
		{"process_vm_readv", unix.SYS_PROCESS_VM_READV, [6]uintptr{1}},
		{"pidfd_open", unix.SYS_PIDFD_OPEN, [6]uintptr{1}},
		{"setuid", unix.SYS_SETUID, [6]uintptr{0}},
		{"mknodat", unix.SYS_MKNODAT, [6]uintptr{^uintptr(0), none}},
		{"symlinkat", unix.SYS_SYMLINKAT, [6]uintptr{none, ^uintptr(0), none}},
	} {
		_, _, errno := syscall.RawSyscall6(c.number, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
		report(c.name, errno)
	}
}

func report(name string, errno syscall.Errno) {
	if errno == 0 {
		fmt.Println(name + ": done")
		return
	}
	fmt.Printf("%s: %v\n", name, errno)
}

func socket(family int) syscall.Errno {
	fd, err := unix.Socket(family, unix.SOCK_RAW, 0)
	if err == nil {
		unix.Close(fd)
		return 0
	}
	if family == unix.AF_UNIX || family == unix.AF_INET {
		fd, err = unix.Socket(family, unix.SOCK_DGRAM, 0)
		if err == nil {
			unix.Close(fd)
			return 0
		}
	}
	errno, _ := err.(syscall.Errno)
	return errno
}

// fork makes a process that ends at once.
func fork() syscall.Errno {
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno == 0 && pid == 0 {
		for {
			syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
	return errno
}
