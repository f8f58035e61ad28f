// Package share records what the attachments of a network share, with the routes to its peers,
// and puts back what they shared before an ADD that failed.
package share

import (
	"errors"
	"fmt"

	"flatnet/bridge/firewall"
	"flatnet/bridge/foreign"
	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/bridge/peers"
	"flatnet/bridge/records"
)

// A Change is what an ADD makes of a network's record. The zero value is an ADD that has not
// recorded anything.
type Change struct {
	Record string // see [records.Dir.Share]; empty: nothing is recorded yet

	looked bool
	found  *model.Shared // the record before; nil: there was none
	own    *model.Shared
}

// Put records what the network's attachments share, and makes the routes to peers that are so
// recorded. As long as there may be accept rules in foreign chains, the record says so: without
// it, no DEL looks for them. An ADD calls it again when it has the addresses.
func (c *Change) Put(h *host.Host, dir records.Dir, s *model.Shared) error {
	found := dir.Merge(s)
	if err := peers.Ready(h, dir, s, found); err != nil {
		return err
	}
	if found != nil && found.ForwardAccept && (!s.ForwardAccept || found.DNSPort != s.DNSPort) {
		foreign.Remove(h, s.Name)
	}
	if !c.looked {
		c.found, c.looked = found, true
	}
	c.own, c.Record = s, dir.Share(s, found)
	return peers.Put(h, dir, s, found)
}

// Undo puts back what the network's other attachments were made with, after an ADD that has
// failed and removed its own: the record, the rules and the routes to peers. A configuration by
// which another ADD has succeeded meanwhile stays, as does a network without attachments, of
// which nothing is left. The caller must not have the arrival's lock (see [records.Dir.Arrive]).
func (c *Change) Undo(h *host.Host, dir records.Dir, key model.Key) error {
	if c.looked && (c.found == nil || len(records.Changed(c.found, c.own)) == 0) {
		return nil
	}
	lock, err := dir.Alone(model.Place(key.Network, ""), records.Wait) // without ADDs under way, all that succeeded are recorded
	if err != nil {
		return fmt.Errorf("network %s keeps the configuration of the ADD that failed, until its next one: %w", key.Network, err)
	}
	defer lock.Close()
	if !c.looked { // the rules are made before the record if the link comes before the lease
		c.found = dir.Network(key.Network)
		return c.restoreRules(h)
	}
	if !dir.PutBack(c.found, c.Record, key) {
		return nil
	}
	return errors.Join(c.restoreRules(h), peers.Put(h, dir, c.found, c.own))
}

func (c *Change) restoreRules(h *host.Host) error {
	if c.found == nil {
		return nil
	}
	if !c.found.ForwardAccept && (c.own == nil || c.own.ForwardAccept) {
		foreign.Remove(h, c.found.Name)
	}
	_, err := h.Transact(func(tx *host.Tx) error { return firewall.Put(tx, c.found, firewall.HasIPv6(h)) })
	if errors.Is(err, model.ErrUnsupported) { // and so there are no rules of the failed one, either
		err = nil
	}
	if c.found.ForwardAccept {
		foreign.Accept(h, c.found)
	}
	return err
}
