package bridge

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/rtnl"
)

// GC removes every attachment of a network but the valid ones, and with the last
// one what they shared, also if it is gone already. It goes on after an error and
// reports all of them.
func (h *Host) GC(network string, valid []model.Key, alloc model.Allocator) error {
	c, err := h.open()
	if err != nil {
		return err
	}
	defer c.Close()
	keys, err := c.known(network, alloc)
	keep := map[model.Key]bool{}
	for _, key := range valid {
		keep[key] = true
	}
	var stale []model.Key
	for _, key := range keys {
		if !keep[key] {
			keep[key] = true // named only once
			stale = append(stale, key)
		}
	}
	err = errors.Join(err, h.removeAll(c, stale, alloc))
	leases, lerr := alloc.Keys()
	if lerr == nil {
		lerr = c.leave(network, leases, false)
	}
	return errors.Join(err, lerr)
}

// known lists a network's attachments by their leases, links and records. A key may
// be listed several times.
func (c *call) known(network string, alloc model.Allocator) ([]model.Key, error) {
	keys, err := alloc.Keys()
	links, lerr := c.Links()
	for _, o := range host.Owners(links) {
		if o.Key.Network == network {
			keys = append(keys, o.Key)
		}
	}
	recorded, rerr := c.records.Attachments(network, "*")
	for _, a := range recorded {
		keys = append(keys, a.Key)
	}
	return keys, errors.Join(err, lerr, rerr)
}

// atOnce is how many attachments a GC removes before it gives back their leases and
// lets other calls for them go on.
const atOnce = 64

// removeAll removes attachments in batches that read and write the leases once. One
// that has another call under way is waited for at the end.
func (h *Host) removeAll(c *call, keys []model.Key, alloc model.Allocator) error {
	var errs []error
	hosts := make([]*call, min(deleters, len(keys)))
	for i := range hosts {
		own, err := h.open()
		if err != nil {
			return err
		}
		defer own.Close()
		hosts[i] = own
	}
	var later []model.Key
	for batch := range slices.Chunk(keys, atOnce) {
		free, held, turns := c.records.Turns(batch)
		errs = append(errs, c.removeBatch(hosts, free, alloc))
		turns.Close()
		later = append(later, held...)
	}
	for _, key := range later {
		turn, err := c.records.Turn(key)
		if err == nil {
			err = c.removeBatch(hosts, []model.Key{key}, alloc)
			turn.Close()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// deleters is how many links a GC deletes at a time: the kernel waits some
// milliseconds after each deletion, and without a lock (rcu_barrier in
// netdev_run_todo of net/core/dev.c).
const deleters = 4

// removeBatch removes attachments whose turns the caller has, so that their links
// don't change after they are listed. Each of hosts deletes links.
func (c *call) removeBatch(hosts []*call, keys []model.Key, alloc model.Allocator) error {
	links, err := c.Links()
	if err != nil || len(keys) == 0 {
		return err
	}
	marked := map[string][]rtnl.Link{}
	for _, l := range links {
		marked[string(l.MAC)] = append(marked[string(l.MAC)], l)
	}
	ends := make([][]rtnl.Link, len(keys))
	failed := make([]error, len(keys))
	leaving := map[model.Key]*model.Attachment{}
	for i, key := range keys {
		mark := key.Mark()
		ends[i] = host.EndsAmong(marked[string(mark[:])], key)
		leaving[key] = c.records.Attachment(key)
		failed[i] = c.cutOff(key, leaving[key], ends[i])
	}
	if err := c.removeElements(leaving); err != nil {
		return err
	}
	var workers sync.WaitGroup
	next := make(chan int)
	for _, own := range hosts {
		workers.Go(func() {
			for i := range next {
				failed[i] = errors.Join(failed[i], own.removeEnds(keys[i], ends[i]))
			}
		})
	}
	for i := range keys {
		next <- i
	}
	close(next)
	workers.Wait()
	var gone []model.Key
	for i, key := range keys {
		if failed[i] == nil {
			gone = append(gone, key)
		} else {
			failed[i] = fmt.Errorf("remove %s: %w", key, failed[i])
		}
	}
	if len(gone) > 0 {
		if _, rerr := alloc.Release(gone); rerr != nil {
			err = fmt.Errorf("give back the leases of %v: %w", gone, rerr)
		}
	}
	return errors.Join(append(failed, err)...)
}
