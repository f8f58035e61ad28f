// Package ns opens and compares network namespaces and runs functions inside
// them. It is the only place of flatnet that locks goroutines to threads and
// moves threads between namespaces.
package ns

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"flatnet/internal/trace"

	"golang.org/x/sys/unix"
)

// ErrNotNetNS reports a file that is no network namespace.
var ErrNotNetNS = errors.New("not a network namespace")

// An NS is an open network namespace. It lives at least until it is closed.
type NS struct {
	fd   int // no [os.File], which would begin to poll it
	path string
	id   [2]uint64 // device and inode of the nsfs file (ioctl_ns(2))
}

// Open opens the namespace at path: a bind mount such as /run/netns/x, or
// /proc/PID/ns/net. Any other file is ErrNotNetNS, and a path without one is
// [os.ErrNotExist].
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

func identify(fd int) (id [2]uint64, err error) {
	var fs unix.Statfs_t
	var file unix.Stat_t
	if err := errors.Join(unix.Fstatfs(fd, &fs), unix.Fstat(fd, &file)); err != nil {
		return id, err
	}
	if fs.Type != unix.NSFS_MAGIC { // NS_GET_NSTYPE could be a request of another driver
		return id, ErrNotNetNS
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err == nil && kind != unix.CLONE_NEWNET {
		err = ErrNotNetNS
	}
	return [2]uint64{file.Dev, file.Ino}, err
}

// FD returns the namespace's file descriptor, valid until Close.
func (n *NS) FD() int { return n.fd }

// Close closes the file descriptor. No other method may run meanwhile.
func (n *NS) Close() error {
	fd := n.fd
	n.fd = -1
	return os.NewSyscallError("close", unix.Close(fd))
}

// Same reports whether both are one namespace.
func (n *NS) Same(other *NS) bool { return n.id == other.id }

// Do runs fn on a thread that is in the namespace, and returns fn's error.
// Sockets that fn opens stay in the namespace. The caller's thread is never
// moved, and a thread that can't be brought back runs no other goroutine: it
// ends with the one that went there.
func (n *NS) Do(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- n.visit(fn)
	}()
	return <-done
}

// visit takes a locked thread to the namespace, and unlocks it if it is back.
func (n *NS) visit(fn func() error) error {
	home, err := Current()
	if err != nil {
		return err
	}
	t := trace.Call("setns", n.path)
	err = unix.Setns(n.fd, unix.CLONE_NEWNET)
	if t.Done(err); err != nil {
		err = fmt.Errorf("setns %s: %w", n.path, err)
	} else {
		err = fn()
	}
	if unix.Setns(home.fd, unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return errors.Join(err, home.Close())
}
