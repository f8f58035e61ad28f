package ports

import (
	"encoding/binary"
	"net/netip"

	"flatnet/bridge/model"
	"flatnet/internal/nft"
)

// takes reports whether a port belongs into the table.
func (t *table) takes(p model.Publication) bool { return nft.FamilyOf(p.Target.Addr()) == t.Family }

// element returns the map's element that leads to a port.
func (t *table) element(p model.Publication, owner string) nft.Element {
	e := nft.Element{Set: t.somewhere, Comment: owner}
	if p.Everywhere() {
		e.Set = t.everywhere
		e.Key = nft.Concat([]byte{p.Protocol}, nft.BigEndian(p.Host.Port()))
	} else {
		e.Key = portAt(p.Protocol, p.Host)
	}
	e.Data = nft.Concat(p.Target.Addr().AsSlice(), nft.BigEndian(p.Target.Port()))
	return e
}

// portAt is the key of a port of one address.
func portAt(protocol byte, at netip.AddrPort) string {
	return nft.Concat([]byte{protocol}, at.Addr().AsSlice(), nft.BigEndian(at.Port()))
}

// publication is the inverse of element: false for an element of a set.
func (t *table) publication(e nft.Element) (p model.Publication, ok bool) {
	if len(e.Key) < 8 || len(e.Data) < 8 {
		return p, false
	}
	return model.Publication{Protocol: e.Key[0], Host: t.endpoint(e.Key[4:]), Target: t.endpoint(e.Data)}, true
}

// endpoint reads the end of a key or the data: a port, after an address or none.
func (t *table) endpoint(s string) netip.AddrPort {
	port := len(s) - 4
	addr, ok := netip.AddrFromSlice([]byte(s[:port]))
	if !ok {
		addr = model.Unspecified(t.near.Addr())
	}
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16([]byte(s[port:])))
}

// publications returns the ports that elements of the maps lead to.
func (t *table) publications(all []nft.Element) (ports []model.Publication) {
	for _, e := range all {
		if p, ok := t.publication(e); ok {
			ports = append(ports, p)
		}
	}
	return ports
}

// elements returns all that the ports of attachments have in the table.
func (t *table) elements(attachments ...*model.Attachment) (all []nft.Element) {
	added := map[nft.Element]bool{} // to local and selves
	add := func(e nft.Element) {
		if !added[e] {
			added[e] = true
			all = append(all, e)
		}
	}
	for _, a := range attachments {
		owner := a.Key.String()
		for _, p := range a.Ports {
			if !t.takes(p) {
				continue
			}
			if p.Host.IsValid() {
				all = append(all, t.element(p, owner))
			}
			if p.Local {
				add(nft.Element{Set: t.local, Key: portAt(p.Protocol, p.Target), Comment: owner})
			}
			addr := p.Target.Addr().AsSlice()
			add(nft.Element{Set: t.selves, Key: nft.Concat(addr, addr), Comment: owner})
		}
	}
	return all
}
