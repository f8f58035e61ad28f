package bridge

import (
	"errors"
	"fmt"

	"flatnet/internal/nft"
)

// GC removes every attachment of a network but the valid ones, and with the last
// one what they shared, also if it is gone already. It goes on after an error and
// reports all of them.
func (h *Host) GC(network string, valid []Key, alloc Allocator) error {
	keys, err := h.known(network, alloc)
	keep := map[Key]bool{}
	for _, key := range valid {
		keep[key] = true
	}
	var stale []Key
	for _, key := range keys {
		if !keep[key] {
			keep[key] = true // named only once
			stale = append(stale, key)
		}
	}
	if len(stale) > 0 {
		err = errors.Join(err, h.removeAll(stale, alloc))
	}
	return errors.Join(err, h.leaveIdle(network, alloc))
}

// known lists a network's attachments by their leases, links and records. A key may
// be listed several times.
func (h *Host) known(network string, alloc Allocator) ([]Key, error) {
	owners, err := h.Owners()
	keys, lerr := alloc.Keys()
	for _, o := range owners {
		if o.Key.Network == network {
			keys = append(keys, o.Key)
		}
	}
	_, wishes, werr := h.records.all()
	for _, w := range wishes {
		if w.Key.Network == network {
			keys = append(keys, w.Key)
		}
	}
	return keys, errors.Join(err, lerr, werr)
}

// removeAll removes attachments by the sockets of one: only the deletion of links
// takes its time for each.
func (h *Host) removeAll(keys []Key, alloc Allocator) error {
	c, err := h.route()
	if err != nil {
		return err
	}
	defer c.Close()
	n, err := h.nft()
	switch {
	case errors.Is(err, nft.ErrUnsupported):
		n = nil // and so there are no rules
	case err != nil:
		return err
	default:
		defer n.Close()
	}
	var errs []error
	for _, key := range keys {
		err := h.records.inTurn(key, func() (err error) {
			if n != nil {
				err = h.unpublishBy(n, key)
			}
			if err = errors.Join(err, removeLinks(c, key, hostEnds)); err != nil {
				return err
			}
			_, err = alloc.Release([]Key{key})
			return err
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", key, err))
		}
	}
	return errors.Join(errs...)
}
