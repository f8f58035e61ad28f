// Package dad waits for duplicate address detection (RFC 4862, section 5.4).
package dad

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"flatnet/bridge/model"
	"flatnet/ns"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// wait is how long duplicate address detection may take: a second or two as a rule.
// The container's namespace may ask for any number of probes (dad_transmits), or hold
// it up in other ways.
const wait = 10 * time.Second

// Await calls add, which adds IPv6 addresses to a link of a namespace, and returns when
// none of them is tentative any more. One that a neighbour has is a [model.ErrTaken].
func Await(netns *ns.NS, index int, tentative []netip.Addr, add func() error) error {
	var watch *rtnl.Conn
	err := netns.Do(func() (err error) {
		watch, err = rtnl.Dial()
		return err
	})
	if err != nil {
		return err
	}
	defer watch.Close()
	if err := watch.WatchIPv6(); err != nil {
		return fmt.Errorf("listen for addresses: %w", err)
	}
	if err := add(); err != nil {
		return err
	}
	end := time.Now().Add(wait)
	for len(tentative) > 0 {
		changed, err := watch.Changed(end)
		switch {
		case time.Now().After(end):
			return fmt.Errorf("duplicate address detection of %v has not ended within %v", tentative, wait)
		case err != nil:
			return fmt.Errorf("wait for duplicate address detection: %w", err)
		}
		for _, c := range changed {
			i := slices.Index(tentative, c.Prefix.Addr())
			switch {
			case c.Index != index || i < 0:
			case c.Flags&unix.IFA_F_DADFAILED != 0:
				return model.Errorf(model.ErrTaken, "address %s is in use on the bridge (duplicate address detection)", tentative[i])
			case c.Flags&unix.IFA_F_TENTATIVE == 0:
				tentative = slices.Delete(tentative, i, i+1)
			}
		}
	}
	return nil
}
