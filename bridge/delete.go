package bridge

import (
	"errors"
	"fmt"

	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// Delete removes an attachment: its link, its lease and, with the network's
// last attachment, the network's rules. What is gone already is no error.
func (h *Host) Delete(key Key, alloc Allocator) error {
	return h.records.inTurn(key, func() error { return h.remove(key, alloc, false) })
}

// DeleteWithBridge is Delete where nobody else cares for bridges: the network's
// last attachment takes along the one that was made for it, unless that has a
// port of somebody else's.
func (h *Host) DeleteWithBridge(key Key, alloc Allocator) error {
	return h.records.inTurn(key, func() error { return h.remove(key, alloc, true) })
}

// remove is Delete for a caller that has key's turn.
func (h *Host) remove(key Key, alloc Allocator, withBridge bool) error {
	c, err := h.route()
	if err != nil {
		return err
	}
	defer c.Close()
	wait, err := h.unpublish(key)
	if err == nil {
		defer wait()
	}
	// The lease last: an address must not be leased anew while a port leads to
	// it or a link has it.
	if err := errors.Join(err, removeLinks(c, key, hostEnds)); err != nil {
		return err
	}
	left, err := alloc.Release([]Key{key})
	if err != nil {
		return err
	}
	return h.leave(c, key.Network, left, withBridge)
}

// removeLinks deletes the host ends that find finds of key, and what belongs to them.
func removeLinks(c *rtnl.Conn, key Key, find func(*rtnl.Conn, Key) ([]rtnl.Link, error)) error {
	links, err := find(c, key)
	err = errors.Join(err, removeIFB(c, key))
	for _, l := range links {
		err = errors.Join(err, deleteLink(c, l))
	}
	return err
}

func deleteLink(c *rtnl.Conn, l rtnl.Link) error {
	if err := c.DeleteLink(l.Index); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete link %s: %w", l.Name, err)
	}
	return nil
}
