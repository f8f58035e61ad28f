package bridge

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"flatnet/internal/nft"
	"flatnet/rtnl"
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

// atOnce is how many attachments a GC removes before it gives back their leases and
// lets other calls for them go on.
const atOnce = 64

// deleters is how many links a GC deletes at a time: the kernel waits some
// milliseconds after each deletion, and without a lock (rcu_barrier in
// netdev_run_todo of net/core/dev.c).
const deleters = 4

// removeAll removes attachments by few sockets, in batches that read and write the
// leases once. One that has another call under way is waited for at the end.
func (h *Host) removeAll(keys []Key, alloc Allocator) error {
	var cs []*rtnl.Conn
	for range min(deleters, len(keys)) {
		c, err := h.route()
		if err != nil {
			return err
		}
		defer c.Close()
		cs = append(cs, c)
	}
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
	var later []Key
	for batch := range slices.Chunk(keys, atOnce) {
		free, held, end := h.records.turns(batch)
		errs = append(errs, h.removeBatch(cs, n, free, alloc))
		end()
		later = append(later, held...)
	}
	for _, key := range later {
		err := h.records.inTurn(key, func() error { return h.removeBatch(cs, n, []Key{key}, alloc) })
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// removeBatch removes attachments whose turns the caller has, so that their links
// don't change after they are listed. n is nil where there are no rules.
func (h *Host) removeBatch(cs []*rtnl.Conn, n *nft.Conn, keys []Key, alloc Allocator) error {
	failed := make([]error, len(keys))
	var ports []Publication
	for i, key := range keys {
		if n != nil {
			var had []Publication
			had, failed[i] = h.unpublishBy(n, key)
			ports = append(ports, had...)
		}
	}
	h.forget(flowsTo(ports))
	deleteEnds(cs, keys, failed)
	var gone []Key
	for i, key := range keys {
		if failed[i] == nil {
			gone = append(gone, key)
		} else {
			failed[i] = fmt.Errorf("remove %s: %w", key, failed[i])
		}
	}
	err := errors.Join(failed...)
	if len(gone) > 0 {
		if _, rerr := alloc.Release(gone); rerr != nil {
			err = errors.Join(err, fmt.Errorf("give back the leases of %v: %w", gone, rerr))
		}
	}
	return err
}

// deleteEnds deletes the host ends of keys that have not failed so far, by one
// listing of the links and several sockets. What fails it notes in failed.
func deleteEnds(cs []*rtnl.Conn, keys []Key, failed []error) {
	links, err := cs[0].Links()
	marked := map[string][]rtnl.Link{}
	for _, l := range links {
		marked[string(l.MAC)] = append(marked[string(l.MAC)], l)
	}
	find := func(_ *rtnl.Conn, key Key) ([]rtnl.Link, error) {
		mark := key.Mark()
		return endsAmong(marked[string(mark[:])], key), err
	}
	var all sync.WaitGroup
	next := make(chan int)
	for _, c := range cs {
		all.Go(func() {
			for i := range next {
				failed[i] = removeLinks(c, keys[i], find)
			}
		})
	}
	for i := range keys {
		if failed[i] == nil {
			next <- i
		}
	}
	close(next)
	all.Wait()
}
