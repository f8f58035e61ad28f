package ports

import (
	"encoding/binary"
	"net/netip"

	"flatnet/bridge/elements"
	"flatnet/bridge/model"
	"flatnet/internal/nft"
)

// takes reports whether a port belongs into the table.
func (t *table) takes(p model.Publication) bool { return nft.FamilyOf(p.Target.Addr()) == t.Family }

// element returns the map's element that leads to a port.
func (t *table) element(p model.Publication, owner string) elements.Element {
	protocol, port := []byte{p.Protocol}, nft.BigEndian(p.Host.Port())
	data := nft.Concat(p.Target.Addr().AsSlice(), nft.BigEndian(p.Target.Port()))
	if p.Everywhere() {
		return element(t.everywhere, owner, data, protocol, port)
	}
	return element(t.somewhere, owner, data, protocol, p.Host.Addr().AsSlice(), port)
}

func element(set nft.Set, owner string, data []byte, key ...[]byte) elements.Element {
	return elements.Element{Set: set, Element: nft.Element{Key: nft.Concat(key...), Data: data, Comment: owner}}
}

// publication is the inverse of element: false for an element of a set.
func (t *table) publication(e elements.Element) (p model.Publication, ok bool) {
	port, target := len(e.Key)-4, len(e.Data)-4 // their ends
	if port < 4 || target < 4 {
		return p, false
	}
	addr := model.Unspecified(t.near.Addr())
	if port > 4 {
		addr, _ = netip.AddrFromSlice(e.Key[4:port])
	}
	to, _ := netip.AddrFromSlice(e.Data[:target])
	return model.Publication{
		Protocol: e.Key[0],
		Host:     netip.AddrPortFrom(addr, binary.BigEndian.Uint16(e.Key[port:])),
		Target:   netip.AddrPortFrom(to, binary.BigEndian.Uint16(e.Data[target:])),
	}, true
}

// publications returns the ports that elements of the maps lead to.
func (t *table) publications(all []elements.Element) (ports []model.Publication) {
	for _, e := range all {
		if p, ok := t.publication(e); ok {
			ports = append(ports, p)
		}
	}
	return ports
}

// elements returns all that the ports of attachments have in the table.
func (t *table) elements(attachments ...*model.Attachment) (all []elements.Element) {
	for _, a := range attachments {
		owner, added := a.Key.String(), map[string]bool{} // keys in local and selves
		add := func(e elements.Element) {
			if !added[string(e.Key)] {
				added[string(e.Key)] = true
				all = append(all, e)
			}
		}
		for _, p := range a.Ports {
			if !t.takes(p) {
				continue
			}
			addr := p.Target.Addr().AsSlice()
			if p.Host.IsValid() {
				all = append(all, t.element(p, owner))
			}
			if p.Local {
				add(element(t.local, owner, nil, []byte{p.Protocol}, addr, nft.BigEndian(p.Target.Port())))
			}
			add(element(t.selves, owner, nil, addr, addr))
		}
	}
	return all
}
