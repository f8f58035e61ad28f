// Package sysctl is flatnet's only writer of /proc/sys.
package sysctl

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"flatnet/internal/trace"

	"golang.org/x/sys/unix"
)

// A Dir is a directory of sysctls, normally [Proc]. Those of the network belong to
// the calling thread's namespace.
type Dir string

// Proc is the kernel's own directory.
const Proc Dir = "/proc/sys"

// Pin opens a directory of sysctls that each network namespace has for itself,
// such as net/ipv6/conf, in the calling thread's namespace. Through the Dir that it
// returns, every thread reaches that namespace's sysctls until the file is closed.
func (d Dir) Pin(name string) (Dir, *os.File, error) {
	f, err := os.OpenFile(filepath.Join(string(d), name), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, fmt.Errorf("sysctl %s: %w", name, err)
	}
	return Dir(fmt.Sprintf("/proc/self/fd/%d", f.Fd())), f, nil
}

// Get reads a sysctl, named as a path such as net/ipv4/ip_forward. (Dots won't
// do: an interface name may have some.)
func (d Dir) Get(name string) (string, error) {
	fd, err := d.open(name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return read(fd, name)
}

// Ensure makes a sysctl have a value. It writes only what differs, so a
// read-only /proc/sys with the right value is fine.
func (d Dir) Ensure(name, value string) error {
	return d.ensure(func(fd int, b []byte, at int64) (n int, err error) {
		t := trace.Call("write", filepath.Join(string(d), name), value)
		n, err = unix.Pwrite(fd, b, at)
		t.Done(err)
		return n, err
	}, name, value)
}

// CanEnsure returns the error of Ensure, as far as it can be found out without
// writing: by opening the sysctl for that.
func (d Dir) CanEnsure(name, value string) error {
	return d.ensure(func(int, []byte, int64) (int, error) { return 0, nil }, name, value)
}

// ensure opens a sysctl once, if it may write: that is most of what it costs.
func (d Dir) ensure(write func(fd int, b []byte, at int64) (int, error), name, value string) error {
	fd, refusal := d.open(name, unix.O_RDWR)
	if refusal != nil {
		var err error
		if fd, err = d.open(name, unix.O_RDONLY); err != nil {
			return err
		}
	}
	defer unix.Close(fd)
	got, err := read(fd, name)
	if err != nil || got == value {
		return err
	}
	if refusal == nil {
		_, refusal = write(fd, []byte(value), 0)
	}
	if refusal != nil {
		return fmt.Errorf("sysctl %s is %q and must be %q: %w", name, got, value, refusal)
	}
	return nil
}

// open opens a sysctl. It is not an [os.File], which would begin to poll it.
func (d Dir) open(name string, flags int) (int, error) {
	fd, err := unix.Open(filepath.Join(string(d), name), flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("sysctl %s: %w", name, err)
	}
	return fd, nil
}

// longest is more than any value that is asked for.
const longest = 128

func read(fd int, name string) (string, error) {
	b := make([]byte, longest)
	n, err := unix.Read(fd, b)
	if err != nil {
		return "", fmt.Errorf("sysctl %s: %w", name, err)
	}
	return strings.TrimSpace(string(b[:n])), nil
}
