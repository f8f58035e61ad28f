package bridge

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"flatnet/internal/conntrack"
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
	recorded, ok := h.records.wish(key)
	remove := func() error { return h.removeElements(c, key, recorded) }
	if ok {
		err = h.records.during(remove)
	} else { // and so nothing that a reload could restore
		err = remove()
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c.Close, nil
}

// removeElements removes all that key has, and the record of it.
func (h *Host) removeElements(c *nft.Conn, key Key, recorded wish) error {
	var gone []Publication
	defer func() {
		h.forget(gone, func(p Publication, f conntrack.Flow) bool { return f.Server == p.Target })
	}()
	for _, family := range []nft.Family{nft.IPv4, nft.IPv6} {
		ports, err := portsOf(family).unpublish(c, key, recorded.entries())
		if err != nil {
			return err
		}
		gone = append(gone, ports...)
	}
	if err := h.inherit(c, key, gone); err != nil {
		return err
	}
	if err := guardsOf(key.Network).unguard(c, key, recorded.entries()); err != nil {
		return err
	}
	return h.records.dropWish(key)
}

// inherit gives ports that key had to other attachments of the same container
// that wanted them, too.
func (h *Host) inherit(c *nft.Conn, key Key, gone []Publication) error {
	if len(gone) == 0 {
		return nil
	}
	_, wishes, _ := h.records.all() // of what can't be read, a reload tells
	wishes = slices.DeleteFunc(wishes, func(w wish) bool {
		return w.Key.ContainerID != key.ContainerID || w.Key == key || len(w.Ports) == 0
	})
	if len(wishes) == 0 {
		return nil
	}
	addrs, err := h.addresses()
	if err != nil {
		return err
	}
	return restore(c, nil, wishes, addrs)
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

// unpublish removes key's elements, and the table if they were the last.
func (t portsTable) unpublish(c *nft.Conn, key Key, recorded []entry) (gone []Publication, err error) {
	has, err := c.Has(t.Table)
	if errors.Is(err, nft.ErrUnsupported) || errors.Is(err, unix.EAFNOSUPPORT) || err == nil && !has {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	mine, others, err := own(c, key, t.sets(), recorded)
	if err == nil && len(mine) > 0 {
		var b nft.Batch
		for _, e := range mine {
			b.Delete(nft.Elements{Set: e.set, List: []nft.Element{e.Element}})
			if p, ok := t.publication(e); ok {
				gone = append(gone, p)
			}
		}
		if err = c.Commit(&b); err == nil {
			// Who else was there may have gone by now, and seen ours.
			_, others, err = own(c, key, t.sets(), nil)
		}
	}
	if err == nil && !others {
		err = t.remove(c)
	}
	if errors.Is(err, unix.ENOENT) { // somebody else removed it all
		err = nil
	}
	return gone, err
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
		for _, p := range a.Ports {
			e := p.element(a.Key)
			found, ok, eerr := c.Element(e.set, e.Key)
			mine := ok && found.Comment == e.Comment && bytes.Equal(found.Data, e.Data)
			if eerr == nil && !mine && !(ok && found.Comment != e.Comment && a.Key.sharesContainer(found.Comment)) {
				eerr = changed("%v does not lead to %s", p, p.Target)
			}
			err = errors.Join(err, eerr)
		}
		return err
	})
}
