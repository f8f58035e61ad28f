package bridge

import (
	"errors"
	"fmt"
	"slices"

	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// Delete removes an attachment: its link, its lease and, with the network's
// last attachment, the network's rules. What is gone already is no error.
func (h *Host) Delete(key Key, alloc Allocator) error { return h.remove(key, alloc, false) }

// DeleteWithBridge is Delete where nobody else cares for bridges: the network's
// last attachment takes along the one that was made for it, unless that has a
// port of somebody else's.
func (h *Host) DeleteWithBridge(key Key, alloc Allocator) error { return h.remove(key, alloc, true) }

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
	if err := errors.Join(err, removeLinks(c, key)); err != nil {
		return err
	}
	return alloc.Release([]Key{key}, func() error {
		links, err := c.Links()
		if err != nil {
			return fmt.Errorf("list links: %w", err)
		}
		err = h.removeRules(key.Network, links)
		if withBridge {
			err = errors.Join(err, removeBridge(c, key.Network))
		}
		return err
	})
}

// removeBridge removes what makeBridge made for a network, once it has no ports.
func removeBridge(c *rtnl.Conn, network string) error {
	links, err := c.Links()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		if isMadeFor(l, network) && !hasPorts(links, l) {
			err = errors.Join(err, deleteLink(c, l))
		}
	}
	return err
}

func hasPorts(links []rtnl.Link, br rtnl.Link) bool {
	return slices.ContainsFunc(links, func(l rtnl.Link) bool { return l.Master == br.Index })
}

func removeLinks(c *rtnl.Conn, key Key) error {
	links, err := hostEnds(c, key)
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
