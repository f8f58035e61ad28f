// Package ns opens and compares network namespaces and runs functions inside
// them. It is the only place of flatnet that pins goroutines to threads and
// moves threads about.
package ns

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// ErrNotNetNS is a file that is no network namespace.
var ErrNotNetNS = errors.New("not a network namespace")

// An NS is an open network namespace. It lives at least until it is closed.
type NS struct {
	fd   int // no [os.File], which would begin to poll it
	path string
	id   identity
}

// identity tells namespaces apart: device and inode of the nsfs file (ioctl_ns(2)).
type identity struct{ dev, ino uint64 }

// Open opens the namespace at path: a bind mount such as /run/netns/x, or
// /proc/PID/ns/net. A path of anything else is ErrNotNetNS, and one of nothing
// is [os.ErrNotExist].
func Open(path string) (*NS, error) {
	// O_NONBLOCK: a FIFO at that path must not keep us waiting.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	id, err := identify(fd)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), unix.Close(fd))
	}
	return &NS{fd, path, id}, nil
}

// Current opens the calling thread's namespace.
func Current() (*NS, error) { return Open("/proc/thread-self/ns/net") }

func identify(fd int) (identity, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return identity{}, fmt.Errorf("fstatfs: %w", err)
	}
	if fs.Type != unix.NSFS_MAGIC {
		return identity{}, ErrNotNetNS
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil {
		return identity{}, fmt.Errorf("NS_GET_NSTYPE: %w", err)
	}
	if kind != unix.CLONE_NEWNET {
		return identity{}, ErrNotNetNS
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return identity{}, fmt.Errorf("fstat: %w", err)
	}
	return identity{st.Dev, st.Ino}, nil
}

// FD is the namespace's file descriptor, valid until Close.
func (n *NS) FD() int { return n.fd }

// Path is what the namespace was opened by.
func (n *NS) Path() string { return n.path }

// Close gives the file descriptor back. Nobody may use the namespace meanwhile.
func (n *NS) Close() error {
	fd := n.fd
	n.fd = -1
	return os.NewSyscallError("close", unix.Close(fd))
}

// Same says whether both are one namespace.
func (n *NS) Same(other *NS) bool { return n.id == other.id }

// Do runs fn on a thread that is in the namespace, and returns fn's error.
// Sockets that fn opens stay in the namespace. The caller's thread is never
// moved, and a thread that can't be brought back runs no other goroutine: it
// ends with the one that went there.
func (n *NS) Do(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := Current()
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		err = n.enter(fn)
		if back := unix.Setns(home.FD(), unix.CLONE_NEWNET); back == nil {
			runtime.UnlockOSThread()
		}
		done <- errors.Join(err, home.Close())
	}()
	return <-done
}

func (n *NS) enter(fn func() error) error {
	if err := unix.Setns(n.FD(), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("setns %s: %w", n.Path(), err)
	}
	return fn()
}
