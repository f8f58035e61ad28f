package bridge

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"flatnet/internal/sysctl"
	"flatnet/ns"
	"flatnet/rtnl"
)

// A sandbox is a container's network namespace as flatnet works in it: through
// what was opened there, so that a thread has to go there but once.
type sandbox struct {
	*rtnl.Conn
	netns *ns.NS
	conf6 sysctl.Dir // its net/ipv6/conf; empty if the kernel has no IPv6
	pin   *os.File   // of conf6

	arrival arrival // of the ADD that goes on
}

// enter opens the namespace of an attachment, which must not be the host's own.
func (h *Host) enter(file string) (s sandbox, err error) {
	if s.netns, err = h.container(file); err != nil {
		return s, err
	}
	err = s.netns.Do(func() (err error) {
		if s.conf6, s.pin, err = h.sysctl.Pin("net/ipv6/conf"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if s.Conn, err = h.route(); err == nil {
			s.Untrusted()
		}
		return err
	})
	if err != nil {
		err = errors.Join(fmt.Errorf("enter the container's network namespace: %w", err), s.leave())
	}
	return s, err
}

// leave closes what enter opened.
func (s sandbox) leave() error {
	var err error
	if s.pin != nil {
		err = s.pin.Close()
	}
	if s.Conn != nil {
		err = errors.Join(err, s.Conn.Close())
	}
	return errors.Join(err, s.netns.Close())
}

// container opens the namespace at a path.
func (h *Host) container(file string) (*ns.NS, error) {
	own, err := ns.Current()
	if err != nil {
		return nil, err
	}
	defer own.Close()
	n, err := ns.Open(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("network namespace %q does not exist: %w", file, ErrNoContainer)
	case errors.Is(err, ns.ErrNotNetNS):
		return nil, fmt.Errorf("%q: %w", file, ErrNetNS)
	case err != nil:
		return nil, err
	case n.Same(own):
		return nil, errors.Join(fmt.Errorf("%q is the host's own network namespace: %w", file, ErrNetNS), n.Close())
	}
	return n, nil
}
