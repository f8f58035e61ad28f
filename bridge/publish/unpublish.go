package publish

import (
	"errors"
	"maps"
	"slices"

	"flatnet/bridge/firewall"
	"flatnet/bridge/host"
	"flatnet/bridge/mirrored"
	"flatnet/bridge/model"
	"flatnet/bridge/ports"
)

// Unpublish takes away the ports of a container's attachments for which leaves returns true,
// all or none. If another attachment of the container publishes one of them as well, it
// inherits the port. Open TCP connections go on; the kernel's entries for UDP are deleted.
func (p Publisher) Unpublish(keys []model.Key, leaves func(model.Publication) bool) (err error) {
	var all []*change
	var names []string
	for _, key := range keys {
		names = append(names, key.String())
	}
	slices.Sort(names) // so that no two calls wait for each other
	defer func() {
		for _, c := range all {
			c.close()
		}
	}()
	for _, name := range names {
		key, _ := model.ParseKey(name)
		c, err := p.begin(key)
		if err != nil {
			return err
		}
		all = append(all, c)
		if err := c.reduce(leaves); err != nil {
			return err
		}
	}
	if len(all) == 0 {
		return nil
	}
	begun := all // what is to be undone; all of them are closed in the end
	for i, c := range all {
		if err = c.record(); err != nil {
			begun = all[:i+1]
			break
		}
	}
	if err == nil {
		err = withdraw(all)
	}
	if err != nil {
		for _, c := range begun {
			err = errors.Join(err, c.undo())
		}
		return err
	}
	return mirrored.Settle(all[0].Host)
}

// reduce puts the ports that the attachment is to keep into c.a.
func (c *change) reduce(leaves func(model.Publication) bool) (err error) {
	kept := slices.DeleteFunc(slices.Clone(c.old.Ports), leaves)
	if c.a.Ports, err = model.Publications(mappings(kept), c.a.Addresses); err == nil {
		c.addrs, err = c.Addrs()
	}
	return err
}

// withdraw removes the ports that records no longer have, in one transaction.
func withdraw(all []*change) error {
	h, addrs := all[0].Host, all[0].addrs
	changed, networks := ports.Leaving{}, map[string]*model.Shared{}
	var attachments []*model.Attachment
	for _, c := range all {
		changed[c.key], attachments = c.a, append(attachments, c.a)
		if len(c.a.Ports) > 0 {
			networks[c.key.Network] = &c.a.Shared
		}
	}
	others, _ := all[0].records.Attachments("*", all[0].key.ContainerID) // a reload reports what can't be read
	heirs := slices.SortedFunc(maps.Values(others), model.ByRank)
	var gone []model.Publication
	_, err := h.Transact(func(tx *host.Tx) error {
		for _, s := range networks {
			if err := firewall.Put(tx, s, firewall.HasIPv6(h)); err != nil {
				return err
			}
		}
		removed, err := ports.Withdraw(tx, changed, heirs)
		if err != nil {
			return err
		}
		if len(removed) > 0 { // a further attempt finds nothing left
			gone = removed
		}
		return ports.Complete(tx, attachments, addrs) // a port that is left on 127.0.0.1 only is closed to other hosts
	})
	if errors.Is(err, model.ErrUnsupported) { // and so there are none
		err = nil
	}
	ports.Forget(h, gone, nil, nil)
	return err
}
