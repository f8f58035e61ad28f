package bridge

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"time"

	"flatnet/internal/sysctl"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// settleIPv6 makes the interface's IPv6 addresses those that it is given: none
// is tentative (accept_dad), none comes of a router advertisement, which any
// neighbour could send, and nothing forbids them (disable_ipv6, which runtimes
// and images set). See Documentation/networking/ip-sysctl.rst.
func settleIPv6(conf6 sysctl.Dir, a Attachment) error {
	ensure := func(name, value string) error {
		if conf6 == "" {
			return fs.ErrNotExist
		}
		return conf6.Ensure(path.Join(a.Key.IfName, name), value)
	}
	dad := "0"
	if a.DAD {
		dad = "1"
	}
	err := ifPossible(ensure("accept_dad", dad))
	if err == nil && !a.AcceptRA {
		err = ifPossible(ensure("accept_ra", "0"))
	}
	if err != nil || len(a.ipv6()) == 0 {
		return err
	}
	if err = ensure("disable_ipv6", "0"); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: CONFIG_IPV6", ErrUnsupported)
	}
	return err
}

// ifPossible takes an error about a sysctl that an attachment can do without:
// there is none (no IPv6, or an MTU too small for it), or /proc/sys is
// read-only, as inside of other containers.
func ifPossible(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EROFS) {
		return nil
	}
	return err
}

func (a Attachment) ipv6() (addrs []netip.Addr) {
	for _, addr := range a.Addresses {
		if addr.Prefix.Addr().Is6() {
			addrs = append(addrs, addr.Prefix.Addr())
		}
	}
	return addrs
}

// watchDAD begins to listen for the outcome of duplicate address detection; nil
// if there will be none.
func (h *Host) watchDAD(inside sandbox, a Attachment) (watch *rtnl.Conn, err error) {
	if !a.DAD || len(a.ipv6()) == 0 {
		return nil, nil
	}
	err = inside.netns.Do(func() error {
		watch, err = h.route()
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := watch.WatchIPv6(); err != nil {
		return nil, errors.Join(fmt.Errorf("listen for addresses: %w", err), watch.Close())
	}
	return watch, nil
}

// dadWait is how long duplicate address detection may take. The container's
// namespace may ask for any number of probes (dad_transmits), or hold it up in
// other ways.
const dadWait = 10 * time.Second

// awaitDAD returns when duplicate address detection (RFC 4862, section 5.4) has
// passed all of an attachment's addresses, which takes a second or two.
func awaitDAD(watch *rtnl.Conn, index int, a Attachment) error {
	if watch == nil {
		return nil
	}
	defer watch.Close()
	pending := map[netip.Addr]bool{}
	for _, addr := range a.ipv6() {
		pending[addr] = true
	}
	end := time.Now().Add(dadWait)
	for len(pending) > 0 {
		changed, err := watch.Changed(end)
		switch {
		case time.Now().After(end):
			return fmt.Errorf("duplicate address detection of %v has not ended within %v", a.ipv6(), dadWait)
		case err != nil:
			return fmt.Errorf("wait for duplicate address detection: %w", err)
		}
		for _, c := range changed {
			addr := c.Prefix.Addr()
			switch {
			case c.Index != index || !pending[addr]:
			case c.Flags&unix.IFA_F_DADFAILED != 0:
				return fmt.Errorf("address %s is in use on the bridge (duplicate address detection): %w", addr, ErrTaken)
			case c.Flags&unix.IFA_F_TENTATIVE == 0:
				delete(pending, addr)
			}
		}
	}
	return nil
}
