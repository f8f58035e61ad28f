package bridge

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"flatnet/internal/nft"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// unpublish removes all published ports and guards of key. The socket stays open until
// wait: closing it takes as long as other things that can be done meanwhile.
func (h *Host) unpublish(key Key) (wait func() error, err error) {
	c, err := h.nft()
	if errors.Is(err, nft.ErrUnsupported) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, err
	}
	gone, err := h.unpublishBy(c, key)
	h.forget(flowsTo(gone))
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c.Close, nil
}

// unpublishBy is unpublish with a socket that the caller has, who forgets the flows to
// the ports that are gone, also after an error.
func (h *Host) unpublishBy(c *nft.Conn, key Key) (gone []Publication, err error) {
	recorded, known := h.records.wish(key)
	remove := func() (err error) {
		gone, err = h.removeElements(c, key, recorded, known)
		return err
	}
	if known {
		err = h.records.during(remove)
	} else {
		err = remove() // nothing that a reload could restore
	}
	return gone, err
}

// forgetDead takes back the ports of the network's attachments whose namespace
// vanished without a DEL, for a caller who knows that none is alive. Elements without
// a record are left to their own DEL and to a reload.
func (h *Host) forgetDead(network string) (err error) {
	var all []Publication
	for _, w := range h.records.wishesIn(network) {
		if len(w.Ports) > 0 {
			err = errors.Join(err, h.withNFT(true, func(c *nft.Conn) error {
				gone, err := h.removeElements(c, w.Key, w, true)
				all = append(all, gone...)
				return err
			}))
		}
	}
	h.forget(flowsTo(all))
	return err
}

// removeElements removes all that key has, and the record of it. If that is not
// known, there is none. What conntrack has of the ports that are gone is the caller's to
// forget, of many attachments at once: the kernel goes through all that it has each time.
func (h *Host) removeElements(c *nft.Conn, key Key, recorded wish, known bool) (gone []Publication, err error) {
	for _, family := range []nft.Family{nft.IPv4, nft.IPv6} {
		ports, err := h.unpublishIn(c, portsOf(family), key, recorded, known)
		gone = append(gone, ports...)
		if err != nil {
			return gone, err
		}
	}
	if err := h.inherit(c, key, gone); err != nil {
		return gone, err
	}
	if err := h.cutOff(c, key, recorded, known); err != nil {
		return gone, err
	}
	if err := guardsOf(key.Network).unguard(c, key, recorded, known); err != nil {
		return gone, err
	}
	return gone, h.records.dropWish(key)
}

// cutOff takes down the host end of an attachment that may be guarded: its container
// may be alive, and could send what it likes from when its guard goes until the link
// does. Without a record, the guard is likely if the network has any.
func (h *Host) cutOff(n *nft.Conn, key Key, recorded wish, known bool) error {
	if known && recorded.Guard == nil {
		return nil
	}
	if !known {
		if has, err := n.Has(guardsOf(key.Network).Table); err != nil || !has {
			return nil // unguard reports it
		}
	}
	c, err := h.route()
	if err != nil {
		return err
	}
	defer c.Close()
	links, err := hostEnds(c, key)
	for _, l := range links {
		if derr := c.SetLink(rtnl.LinkChange{Index: l.Index, Down: true}); derr != nil && !errors.Is(derr, unix.ENODEV) {
			err = errors.Join(err, fmt.Errorf("take down %s: %w", l.Name, derr))
		}
	}
	return err
}

// inherit gives ports that key had to other attachments of the same container
// that wanted them, too.
func (h *Host) inherit(c *nft.Conn, key Key, gone []Publication) error {
	if len(gone) == 0 {
		return nil
	}
	wishes := slices.DeleteFunc(h.records.wishesOf(key.ContainerID), func(w wish) bool {
		return w.Key == key || len(w.Ports) == 0
	})
	if len(wishes) == 0 {
		return nil
	}
	addrs, err := h.addresses()
	if err != nil {
		return err
	}
	none := func() ([]chain, error) { return nil, nil }
	_, err = restore(c, restoring{none, wishes, addrs, true})
	return err
}

// addresses are the host's.
func (h *Host) addresses() ([]rtnl.Addr, error) {
	c, err := h.route()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	addrs, err := c.Addresses(0)
	if err != nil {
		return nil, fmt.Errorf("list the host's addresses: %w", err)
	}
	return addrs, nil
}

// unpublished is unpublish for those who have nothing to do meanwhile.
func (h *Host) unpublished(key Key) error {
	wait, err := h.unpublish(key)
	if err == nil {
		err = wait()
	}
	return err
}

// unpublishIn removes key's ports from a table, and the table if they were the
// last.
func (h *Host) unpublishIn(c *nft.Conn, t portsTable, key Key, recorded wish, known bool) (gone []Publication, err error) {
	has, err := c.Has(t.Table)
	if errors.Is(err, nft.ErrUnsupported) || errors.Is(err, unix.EAFNOSUPPORT) || err == nil && !has {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !known {
		if has, err = h.hasPorts(c, t, key); err != nil {
			return nil, err
		}
	} else {
		has = slices.ContainsFunc(recorded.Ports, t.takes)
	}
	if !has {
		return nil, nil
	}
	var mine []entry
	err = c.Transact(func(b *nft.Batch) (err error) {
		if known {
			ports := slices.DeleteFunc(slices.Clone(recorded.Ports), func(p Publication) bool { return !t.takes(p) })
			mine, err = recordedOf(c, key, entries(key, ports))
		} else {
			mine, err = listedOf(c, key, t.sets())
		}
		if errors.Is(err, unix.ENOENT) { // somebody else removed the table
			return nil
		}
		for _, els := range bySet(mine) {
			b.Delete(els)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, e := range mine {
		if p, ok := t.publication(e); ok {
			gone = append(gone, p)
		}
	}
	return gone, c.Transact(func(b *nft.Batch) error { return t.remove(c, b) })
}

// takes reports whether a port belongs into this table.
func (t portsTable) takes(p Publication) bool { return familyOf(p.Target.Addr()) == t.Family }

// hasPorts reports whether an attachment without a record may have ports in a
// table: it has none if none of the addresses that its link names is in selves.
// If there is no link to ask, only listing the table can tell.
func (h *Host) hasPorts(c *nft.Conn, t portsTable, key Key) (bool, error) {
	r, err := h.route()
	if err != nil {
		return false, err
	}
	defer r.Close()
	links, err := hostEnds(r, key)
	if err != nil {
		return false, err
	}
	owners := ownersOf(links)
	if len(owners) == 0 {
		return true, nil
	}
	var selves []entry
	for _, o := range owners {
		if o.Key != key {
			return true, nil // its ADD did not get as far as the alias
		}
		for _, a := range o.Addresses {
			if familyOf(a) == t.Family {
				selves = append(selves, Publication{Host: netip.AddrPortFrom(a, 0), Target: netip.AddrPortFrom(a, 0)}.itself(key))
			}
		}
	}
	mine, err := recordedOf(c, key, selves)
	return len(mine) > 0, err
}

// publication is what an element of one of the maps says.
func (t portsTable) publication(e entry) (p Publication, ok bool) {
	size := int(t.words()) * 4
	key, any := e.Key, netip.IPv4Unspecified()
	if t.Family == nft.IPv6 {
		any = netip.IPv6Unspecified()
	}
	host := any
	if e.set.Name == t.somewhere().Name && len(key) == size+8 {
		host, _ = netip.AddrFromSlice(key[4 : 4+size])
		key = append(key[:4:4], key[4+size:]...)
	}
	if len(key) != 8 || len(e.Data) != size+4 {
		return p, false
	}
	target, _ := netip.AddrFromSlice(e.Data[:size])
	return Publication{
		Protocol: key[0],
		Host:     netip.AddrPortFrom(host, binary.BigEndian.Uint16(key[4:])),
		Target:   netip.AddrPortFrom(target, binary.BigEndian.Uint16(e.Data[size:])),
	}, true
}

func (h *Host) checkPorts(a Attachment) error {
	return h.withNFT(len(a.Ports) > 0, func(c *nft.Conn) (err error) {
		for _, family := range a.portFamilies() {
			t := portsOf(family)
			have, rerr := c.Rules(t.Table, "prerouting")
			err = errors.Join(err, rerr)
			err = errors.Join(err, checkChains(c, t.chains(usesFib(have))))
		}
		var wanted []entry
		for _, p := range a.Ports {
			wanted = append(wanted, p.element(a.Key))
		}
		have, serr := see(c, wanted)
		if err = errors.Join(err, serr); serr != nil {
			return err
		}
		var wrong []error
		for i, e := range wanted {
			found, ok := have[e.place()]
			mine := ok && found.Comment == e.Comment && bytes.Equal(found.Data, e.Data)
			if !mine && !(ok && found.Comment != e.Comment && a.Key.sharesContainer(found.Comment)) {
				wrong = append(wrong, changed("%v does not lead to %s", a.Ports[i], a.Ports[i].Target))
			}
		}
		return errors.Join(err, someOf(wrong))
	})
}

// someOf joins errors of one kind, of which a list of thousands helps nobody.
func someOf(errs []error) error {
	const enough = 10
	if more := len(errs) - enough; more > 0 {
		errs = append(errs[:enough:enough], changed("%d more ports don't lead where they should", more))
	}
	return errors.Join(errs...)
}
