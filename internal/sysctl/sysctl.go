// Package sysctl is flatnet's only writer of /proc/sys.
package sysctl

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A Dir is where sysctls are found, normally [Proc]. Those of the network are
// the calling thread's namespace's.
type Dir string

// Proc is the kernel's own directory.
const Proc Dir = "/proc/sys"

// Pin opens a directory of sysctls that each network namespace has for itself,
// such as net/ipv6/conf, in the calling thread's. Through the Dir that it
// returns every thread then reaches these, until the file is closed.
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
	b, err := os.ReadFile(filepath.Join(string(d), name))
	if err != nil {
		return "", fmt.Errorf("sysctl %s: %w", name, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// Ensure makes a sysctl have a value. It writes only what differs, so a
// read-only /proc/sys with the right value is fine.
func (d Dir) Ensure(name, value string) error {
	got, err := d.Get(name)
	if err != nil || got == value {
		return err
	}
	f, err := os.OpenFile(filepath.Join(string(d), name), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(value)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}
	if err != nil {
		return fmt.Errorf("sysctl %s is %q and must be %q: %w", name, got, value, err)
	}
	return nil
}
