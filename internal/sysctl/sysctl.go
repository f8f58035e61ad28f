// Package sysctl is flatnet's only writer of /proc/sys.
package sysctl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

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
	b := make([]byte, 4096) // a page is the most that a sysctl gives at once
	n, err := d.call(unix.Read, name, unix.O_RDONLY, b)
	if err != nil {
		return "", fmt.Errorf("sysctl %s: %w", name, err)
	}
	return strings.TrimSpace(string(b[:n])), nil
}

// Ensure makes a sysctl have a value. It writes only what differs, so a
// read-only /proc/sys with the right value is fine.
func (d Dir) Ensure(name, value string) error { return d.ensure(unix.Write, name, value) }

// CanEnsure returns the error of Ensure, as far as it can be found out without
// writing: by opening the sysctl for that.
func (d Dir) CanEnsure(name, value string) error {
	return d.ensure(func(int, []byte) (int, error) { return 0, nil }, name, value)
}

func (d Dir) ensure(write systemCall, name, value string) error {
	got, err := d.Get(name)
	if err != nil || got == value {
		return err
	}
	if _, err := d.call(write, name, unix.O_WRONLY, []byte(value)); err != nil {
		return fmt.Errorf("sysctl %s is %q and must be %q: %w", name, got, value, err)
	}
	return nil
}

// A systemCall is read(2) or write(2).
type systemCall func(fd int, b []byte) (n int, err error)

// call opens a sysctl for one system call. It is not an [os.File], which would
// begin to poll it.
func (d Dir) call(do systemCall, name string, flags int, b []byte) (int, error) {
	fd, err := unix.Open(filepath.Join(string(d), name), flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	n, err := do(fd, b)
	return n, errors.Join(err, unix.Close(fd))
}
