package main

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// programFD is by what the filter knows the one execveat that it lets through.
const programFD = 1000

// Offsets in struct seccomp_data of linux/seccomp.h; of a 64-bit argument the
// lower half.
const (
	offNumber = 0
	offArch   = 4
	offArg0   = 16
)

// forbidExec has the kernel kill the process at execve, fork, vfork, a clone
// that makes no thread, and any execveat but that of programFD.
func forbidExec() error {
	load := func(off uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
	}
	ret := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	// jump goes on after a further yes or no instructions.
	jump := func(op uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, K: k, Jt: yes, Jf: no}
	}
	filter := []unix.SockFilter{
		load(offArch),
		jump(unix.BPF_JEQ, unix.AUDIT_ARCH_X86_64, 0, 8), // to kill
		load(offNumber),
		jump(unix.BPF_JEQ, unix.SYS_EXECVE, 6, 0),
		jump(unix.BPF_JEQ, unix.SYS_FORK, 5, 0),
		jump(unix.BPF_JEQ, unix.SYS_VFORK, 4, 0),
		jump(unix.BPF_JEQ, unix.SYS_CLONE3, 4, 0), // to ENOSYS
		jump(unix.BPF_JEQ, unix.SYS_CLONE, 4, 0),
		jump(unix.BPF_JEQ, unix.SYS_EXECVEAT, 5, 0),
		ret(unix.SECCOMP_RET_ALLOW),
		ret(unix.SECCOMP_RET_KILL_PROCESS),
		ret(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)), // clone3: its flags can't be seen
		load(offArg0), // clone
		jump(unix.BPF_JSET, unix.CLONE_THREAD, 3, 2),
		load(offArg0), // execveat
		jump(unix.BPF_JEQ, programFD, 1, 0),
		ret(unix.SECCOMP_RET_KILL_PROCESS),
		ret(unix.SECCOMP_RET_ALLOW),
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}
