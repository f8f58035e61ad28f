package bridge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"flatnet/internal/flock"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// What a network's attachments share goes with the last of them. Which one that
// is, only the host's links tell: a lease may have lost its container, and an
// attachment may have none. An ADD that has no link yet holds two bytes of the
// file .lock of [records], one for its network and one for its bridge, which
// whoever removes something must have for itself. The kernel drops the locks with
// the process.

// placeOf is the byte of a network, or of a bridge: beyond those of attachments.
func placeOf(network, bridge string) int64 {
	h := Key{Network: network, IfName: bridge}.hash()
	return int64(binary.BigEndian.Uint64(h[:])>>2 | 1<<62)
}

// An arrival is an ADD that has no link yet.
type arrival struct{ lock *os.File }

// end must be called when the link has its alias, or never will, and before
// anything is removed. It may be called again.
func (a arrival) end() {
	if a.lock != nil {
		a.lock.Close() // nothing was written to it
	}
}

// arrive begins an ADD. A removal of the network or the bridge at this moment is
// waited for.
func (h *Host) arrive(n Network) (arrival, error) {
	f, err := h.records.open()
	for _, place := range []int64{placeOf(n.Name, ""), placeOf("", n.Bridge)} {
		if err == nil && f != nil {
			err = flock.LockByte(f, place, unix.LOCK_SH, lockWait)
		}
	}
	if errors.Is(err, flock.ErrHeld) {
		f.Close() // nothing was written to it
		return arrival{}, fmt.Errorf("a DEL removes network %s: %w: %w", n.Name, err, ErrBusy)
	}
	if err != nil {
		h.records.say(fmt.Errorf("no lock, so a DEL at this moment could take the network's rules: %w", err))
	}
	return arrival{f}, nil
}

// retry is how long a removal waits for ADDs before it asks again whether
// anything is left to remove.
const retry = 20 * time.Millisecond

// unlessUsed runs remove while no ADD that concerns the place is under way, unless
// used. An ADD that is under way is waited for until its link makes it used, or it
// ends; after the wait, that is an [ErrBusy].
func (h *Host) unlessUsed(place int64, wait time.Duration, used func() (bool, error), remove func() error) error {
	for start := time.Now(); ; {
		unlock, err := h.alone(place)
		if err != nil && !errors.Is(err, flock.ErrHeld) {
			h.records.say(fmt.Errorf("no lock, so an ADD at this moment could go wrong: %w", err))
			err = nil
		}
		is, uerr := used()
		switch {
		case is || uerr != nil:
			unlock()
			return uerr
		case err == nil:
			defer unlock()
			return remove()
		case time.Since(start) > wait:
			return fmt.Errorf("ADDs were under way for %v; try again: %w", wait, ErrBusy)
		}
	}
}

// alone locks a place for a removal; unlock is never nil.
func (h *Host) alone(place int64) (unlock func(), err error) {
	f, err := h.records.open()
	if err != nil || f == nil {
		return func() {}, err
	}
	if err := flock.LockByte(f, place, unix.LOCK_EX, retry); err != nil {
		f.Close() // nothing was written to it
		return func() {}, err
	}
	return func() { f.Close() }, nil
}

// leave removes what the network's attachments share, if none is left. leases are
// the keys that have one: of these, the ones whose links can be found without
// listing all of the host's answer as a rule.
func (h *Host) leave(c *rtnl.Conn, network string, leases []Key, withBridge bool) error {
	for _, key := range leases[:min(len(leases), 3)] {
		if links, err := namedEnds(c, key); err == nil && len(links) > 0 {
			return nil
		}
	}
	var links []rtnl.Link
	used := func() (_ bool, err error) {
		if links, err = c.Links(); err != nil {
			return false, fmt.Errorf("list links: %w", err)
		}
		return attached(links, network, leases), nil
	}
	return h.unlessUsed(placeOf(network, ""), lockWait, used, func() error {
		err := h.removeRules(network, links)
		if withBridge {
			err = errors.Join(err, h.removeBridges(c, network, links, lockWait))
		}
		return err
	})
}

// leaveIdle is leave where no attachment has just gone.
func (h *Host) leaveIdle(network string, alloc Allocator) error {
	c, err := h.route()
	if err != nil {
		return err
	}
	defer c.Close()
	leases, err := alloc.Keys()
	if err != nil {
		return err
	}
	return h.leave(c, network, leases, false)
}

// attached reports whether any link is an attachment's of the network. One whose
// alias is not readable counts if its mark is that of a lease: an ADD that was
// killed, whose own DEL will come, or an alias that somebody took.
func attached(links []rtnl.Link, network string, leases []Key) bool {
	marks := map[HardwareAddr]bool{}
	for _, key := range leases {
		marks[key.Mark()] = true
	}
	return slices.ContainsFunc(ownersOf(links), func(o Owner) bool {
		return o.Key.Network == network || o.Key == Key{} && marks[o.Mark]
	})
}

// removeBridges removes what makeBridge made for a network, once it has no ports.
func (h *Host) removeBridges(c *rtnl.Conn, network string, links []rtnl.Link, wait time.Duration) (err error) {
	for _, br := range links {
		if !isMadeFor(br, network) {
			continue
		}
		used := func() (bool, error) {
			links, err := c.Links()
			if err != nil {
				return false, fmt.Errorf("list links: %w", err)
			}
			mine := slices.ContainsFunc(links, func(l rtnl.Link) bool { return l.Index == br.Index && isMadeFor(l, network) })
			return !mine || hasPorts(links, br), nil
		}
		err = errors.Join(err, h.unlessUsed(placeOf("", br.Name), wait, used, func() error { return deleteLink(c, br) }))
	}
	return err
}

func hasPorts(links []rtnl.Link, br rtnl.Link) bool {
	return slices.ContainsFunc(links, func(l rtnl.Link) bool { return l.Master == br.Index })
}
