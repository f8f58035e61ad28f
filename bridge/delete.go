package bridge

import (
	"errors"
	"slices"
	"time"

	"flatnet/bridge/antispoof"
	"flatnet/bridge/firewall"
	"flatnet/bridge/foreign"
	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/bridge/ports"
	"flatnet/bridge/records"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// Delete removes an attachment: its link, its lease and, with the network's
// last attachment, what the network's attachments share. What is gone already is no
// error. withBridge is for a caller without another owner of bridges: the last
// attachment takes along the bridge that was made for the network, unless that has a
// port of somebody else's.
func (h *Host) Delete(key model.Key, alloc model.Allocator, withBridge bool) error {
	c, done, err := h.inTurn(key)
	if err != nil {
		return err
	}
	defer done()
	// The lease last: an address must not be leased anew while a port leads to
	// it or a link has it.
	if err := c.removeKernel(key); err != nil {
		return err
	}
	left, err := alloc.Release([]model.Key{key})
	if err != nil {
		return err
	}
	return c.leave(key.Network, left, withBridge)
}

// removeKernel removes all that the kernel has of an attachment.
func (c *call) removeKernel(key model.Key) error {
	recorded := c.records.Attachment(key)
	ends, err := c.Ends(key)
	if err == nil {
		err = c.cutOff(key, recorded, ends)
	}
	if err == nil {
		err = c.removeElements(map[model.Key]*model.Attachment{key: recorded})
	}
	if err != nil {
		return err
	}
	return c.removeEnds(key, ends)
}

// cutOff takes down the host ends of an attachment that may be guarded: its container
// may be alive, and could send what it likes from when its guard goes until the link
// does. Without a record, the guard is likely if the network has any.
func (c *call) cutOff(key model.Key, recorded *model.Attachment, ends []rtnl.Link) error {
	if len(ends) == 0 || recorded != nil && !recorded.SpoofCheck {
		return nil
	}
	if recorded == nil {
		rules, err := c.Rules()
		if err != nil {
			return nil // and so there are no rules
		}
		if has, err := antispoof.Has(rules, key.Network); err != nil || !has {
			return nil // the removal reports it
		}
	}
	for _, l := range ends {
		if err := c.SetLink(l, rtnl.LinkChange{Down: true}); err != nil && !errors.Is(err, unix.ENODEV) {
			return err
		}
	}
	return nil
}

// retry is how long a removal waits for ADDs before it asks again whether
// anything is left to remove.
const retry = 20 * time.Millisecond

// unlessUsed runs remove while no ADD that concerns the place is under way, unless
// used. An ADD that is under way is waited for until its link makes it used, or it
// ends; after [records.Wait], that is a [model.ErrBusy].
func (c *call) unlessUsed(place int64, used func() (bool, error), remove func() error) error {
	for start := time.Now(); ; {
		lock, held := c.records.Alone(place, retry)
		is, err := used()
		if is || err != nil || held == nil {
			defer lock.Close()
			if is || err != nil {
				return err
			}
			return remove()
		}
		if time.Since(start) > records.Wait {
			return model.Errorf(model.ErrBusy, "ADDs were under way for %v; try again", records.Wait)
		}
	}
}

// leave removes what the network's attachments share, if none is left. leases are
// the keys that have one: of these, the ones whose links can be found without
// listing all of the host's answer as a rule.
func (c *call) leave(network string, leases []model.Key, withBridge bool) error {
	for _, key := range leases[:min(len(leases), 3)] {
		if ends, err := c.NamedEnds(key); err == nil && len(ends) > 0 {
			return nil
		}
	}
	var links []rtnl.Link
	used := func() (_ bool, err error) {
		links, err = c.Links()
		return attached(links, network, leases), err
	}
	return c.unlessUsed(model.Place(network, ""), used, func() error {
		err := c.removeNetwork(network, links)
		if withBridge {
			err = errors.Join(err, c.removeBridges(network, links))
		}
		return err
	})
}

// attached reports whether any link is an attachment's of the network. One whose
// alias is not readable counts if its mark is that of a lease: an ADD that was
// killed, whose own DEL will come, or an alias that somebody took.
func attached(links []rtnl.Link, network string, leases []model.Key) bool {
	marks := map[model.HardwareAddr]bool{}
	for _, key := range leases {
		marks[key.Mark()] = true
	}
	return slices.ContainsFunc(host.Owners(links), func(o model.Owner) bool {
		return o.Key.Network == network || o.Key == model.Key{} && marks[o.Mark]
	})
}

// removeNetwork deletes the network's tables, what is left of attachments whose
// namespace vanished without a DEL, and sets route_localnet back, which the rules made
// harmless. links are the host's.
func (c *call) removeNetwork(network string, links []rtnl.Link) error {
	if s := c.records.Network(network); s != nil && s.ForwardAccept {
		foreign.Remove(c.Host, network)
	}
	recorded, _ := c.records.Attachments(network, "*") // a reload reports what can't be read
	dead := map[model.Key]*model.Attachment{}
	for _, a := range recorded {
		dead[a.Key] = a
	}
	err := c.removeElements(dead)
	if err == nil {
		_, err = c.Transact(func(tx *host.Tx) error { return firewall.Remove(tx, network) })
	}
	if errors.Is(err, model.ErrUnsupported) { // and so there are none
		err = nil
	}
	if err != nil {
		return err
	}
	used := map[string]bool{} // by other networks
	all, _ := c.records.Networks()
	for _, s := range all {
		used[s.GatewayName()] = used[s.GatewayName()] || s.Name != network
	}
	for _, l := range links { // records may have been lost
		if isMadeFor(l, network) && !hasPorts(links, l) {
			used[l.Name] = false
		}
	}
	for iface, used := range used {
		if !used {
			err = errors.Join(err, ports.CloseLoopback(c.Host, iface))
		}
	}
	return errors.Join(err, c.records.DropNetwork(network))
}

// removeBridges removes the bridges that were made for a network, once they have no
// ports.
func (c *call) removeBridges(network string, links []rtnl.Link) (err error) {
	for _, br := range links {
		if !isMadeFor(br, network) {
			continue
		}
		used := func() (bool, error) {
			links, err := c.Links()
			mine := slices.ContainsFunc(links, func(l rtnl.Link) bool { return l.Index == br.Index && isMadeFor(l, network) })
			return !mine || hasPorts(links, br), err
		}
		err = errors.Join(err, c.unlessUsed(model.Place("", br.Name), used, func() error { return c.DeleteLink(br) }))
	}
	return err
}

// isMadeFor reports whether a link is a bridge that flatnet made for a network.
func isMadeFor(l rtnl.Link, network string) bool {
	made, ok := model.MadeFor(l.Alias)
	return ok && made == network && l.Kind == "bridge"
}

func hasPorts(links []rtnl.Link, br rtnl.Link) bool {
	return slices.ContainsFunc(links, func(l rtnl.Link) bool { return l.Master == br.Index })
}
