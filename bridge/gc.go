package bridge

import (
	"errors"
	"fmt"
	"slices"
)

// GC removes every attachment of a network but the valid ones, and with the last
// one what they shared, also if it is gone already. It goes on after an error and
// reports all of them.
func (h *Host) GC(network string, valid []Key, alloc Allocator) error {
	owners, err := h.Owners()
	leased, lerr := alloc.Keys()
	keys := leased
	for _, o := range owners {
		if o.Key.Network == network && !slices.Contains(leased, o.Key) {
			keys = append(keys, o.Key)
		}
	}
	_, wishes, werr := h.records.all()
	for _, w := range wishes {
		if w.Key.Network == network && !slices.Contains(keys, w.Key) {
			keys = append(keys, w.Key)
		}
	}
	err = errors.Join(err, lerr, werr)
	for _, key := range keys {
		if slices.Contains(valid, key) {
			continue
		}
		if derr := h.Delete(key, alloc); derr != nil {
			err = errors.Join(err, fmt.Errorf("remove %s: %w", key, derr))
		}
	}
	return errors.Join(err, h.leaveIdle(network, alloc))
}
