package bridge

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"flatnet/internal/nft"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// publish makes the attachment's ports reachable, all or none. A port that another
// attachment has is an ErrTaken. If there is no error, published must be called
// when the link exists: until then no other process takes the ports for leftovers.
func (h *Host) publish(c *rtnl.Conn, a Attachment) (published func(), err error) {
	published = func() {}
	if len(a.Ports) == 0 {
		return published, nil
	}
	addrs, err := c.Addresses(0)
	if err != nil {
		return nil, fmt.Errorf("list the host's addresses: %w", err)
	}
	var cl portClaim
	err = h.withNFT(true, func(n *nft.Conn) error {
		return h.records.during(func() error {
			h.records.saveWish(a.wish())
			replaceable := func(string) (bool, error) { return false, nil }
			if f := h.records.hold(a.Key); f != nil {
				published = func() { f.Close() }
				replaceable = remember(func(owner string) (bool, error) { return h.replaceable(c, owner, a) })
			}
			cl, err = publishAll(n, a, addrs, replaceable)
			return err
		})
	})
	if err != nil {
		published()
		return nil, err
	}
	h.forget(flowsTo(cl.replaced()))
	h.forget(flowsPast(a.Ports, addrs))
	return published, nil
}

// openLoopback makes published ports reachable by 127.0.0.1, which is harmless
// only once the network's rules stand.
func (h *Host) openLoopback(a Attachment) error {
	if !slices.ContainsFunc(a.Ports, Publication.isLoopback) {
		return nil
	}
	return h.sysctl.Ensure(routeLocalnet(a.VLANs.gatewayName(a.Bridge)), "1")
}

// isLoopback reports whether 127.0.0.1 leads there, too.
func (p Publication) isLoopback() bool {
	a := p.Host.Addr()
	return a.Is4() && (a.IsUnspecified() || a.IsLoopback())
}

// replaceable reports whether an owner's elements may be overwritten: it is gone,
// or it is the same container's in an internal network, where they are of less use.
func (h *Host) replaceable(c *rtnl.Conn, owner string, a Attachment) (bool, error) {
	if a.Key.sharesContainer(owner) && !a.internal() {
		key, _ := parseKey(owner)
		if w, ok := h.records.wish(key); ok && w.Internal {
			return true, nil
		}
	}
	return h.gone(c, owner)
}

// remember calls a function once for each owner, however many ports that has.
func remember(f func(owner string) (bool, error)) func(string) (bool, error) {
	known := map[string]bool{}
	return func(owner string) (bool, error) {
		if answer, ok := known[owner]; ok {
			return answer, nil
		}
		answer, err := f(owner)
		if err == nil {
			known[owner] = answer
		}
		return answer, err
	}
}

// gone reports whether the attachment that an element names went without a DEL: it
// has no link any more, and no ADD of it is about to make one. In this order,
// for an ADD lets go of its record when it has made the link.
func (h *Host) gone(c *rtnl.Conn, owner string) (bool, error) {
	key, ok := parseKey(owner)
	if !ok || h.records.held(key) {
		return false, nil
	}
	links, err := hostEnds(c, key)
	return err == nil && len(links) == 0, err
}

// publishAll returns what it claimed. Without CONFIG_NFT_FIB_*, which only shows
// when a table that needs it is made, the table is made in another way.
func publishAll(c *nft.Conn, a Attachment, addrs []rtnl.Addr, replaceable func(owner string) (bool, error)) (cl portClaim, err error) {
	for _, fib := range []bool{true, false} {
		err = c.Transact(func(b *nft.Batch) (err error) {
			for _, family := range a.portFamilies() {
				if err := portsOf(family).ensure(c, b, addrs, fib); err != nil {
					return err
				}
			}
			if cl, err = findClaim(c, a, addrs, replaceable); err == nil {
				cl.put(b)
			}
			return err
		})
		if !errors.Is(err, nft.ErrUnsupported) {
			break
		}
	}
	return cl, err
}

// A portClaim is what an attachment's ports need in the maps.
type portClaim struct {
	have   view
	wanted []entry
	stale  []entry // in their way, and replaceable
}

func (cl portClaim) put(b *nft.Batch) { put(b, cl.have, cl.wanted, cl.stale) }

// replaced are the ports that the claim takes from others.
func (cl portClaim) replaced() (ports []Publication) {
	for _, e := range cl.stale {
		if p, ok := portsOf(e.set.Table.Family).publication(e); ok {
			ports = append(ports, p)
		}
	}
	return ports
}

// findClaim looks for other owners of the ports: on the same address, or on all
// addresses for one of them, or on one of them for all. Another attachment of the
// same container is none, for runtimes ask for a container's ports in each of its
// networks; the first one that is not internal has them.
func findClaim(c *nft.Conn, a Attachment, addrs []rtnl.Addr, replaceable func(owner string) (bool, error)) (cl portClaim, err error) {
	everything := entries(a.Key, a.Ports)
	others := wider(a)
	if cl.have, err = see(c, append(everything[:len(everything):len(everything)], others...)); err != nil {
		return cl, err
	}
	for _, family := range a.portFamilies() {
		found, err := portsOf(family).narrower(c, a.Ports, addrs)
		if err != nil {
			return cl, err
		}
		for _, e := range found {
			cl.have[e.place()] = e.Element
		}
		others = append(others, found...)
	}
	taken := map[place]bool{} // that other attachments of the container have
	for _, e := range append(everything[:len(everything):len(everything)], others...) {
		holder, found := cl.have[e.place()]
		if !found || e.Data == nil || holder.Comment == a.Key.String() {
			continue
		}
		switch old, err := replaceable(holder.Comment); {
		case err != nil:
			return cl, err
		case old:
			cl.stale = append(cl.stale, entry{e.set, holder})
		case !a.Key.sharesContainer(holder.Comment):
			p, _ := portsOf(e.set.Table.Family).publication(e)
			return cl, fmt.Errorf("%v is published by %s: %w", p, holder.Comment, ErrTaken)
		default:
			taken[e.place()] = true
		}
	}
	cl.wanted = slices.DeleteFunc(everything, func(e entry) bool { return e.Data != nil && taken[e.place()] })
	return cl, nil
}

// wider are the places where another owner's port of all addresses would be in the
// way of one of the attachment's ports of a single address.
func wider(a Attachment) (places []entry) {
	for _, p := range a.Ports {
		if host := p.Host.Addr(); host.IsValid() && !host.IsUnspecified() {
			places = append(places, p.on(unspecified(host)).element(a.Key))
		}
	}
	return places
}

// askedUpTo is the number of places in one set up to which they are asked for one
// by one. There may be many times the number of elements that the set has.
const askedUpTo = 4096

// narrower lists the ports of single addresses of the host that are in the way of
// ports of all addresses. Its cost does not grow with the product of both numbers.
func (t portsTable) narrower(c *nft.Conn, ports []Publication, addrs []rtnl.Addr) (found []entry, err error) {
	own := map[netip.Addr]bool{} // of the host; several of its interfaces may have one
	for _, addr := range addrs {
		if familyOf(addr.Prefix.Addr()) == t.Family {
			own[addr.Prefix.Addr()] = true
		}
	}
	everywhere := map[hostPort]Publication{}
	for _, p := range ports {
		if p.Host.IsValid() && p.Host.Addr().IsUnspecified() && t.takes(p) {
			everywhere[p.hostPort()] = p
		}
	}
	if len(everywhere)*len(own) > askedUpTo {
		found, err = t.narrowerIn(c, everywhere, own)
		if !errors.Is(err, unix.EAGAIN) { // else the set changes all the time
			return found, err
		}
	}
	return t.narrowerAt(c, everywhere, own)
}

// narrowerIn is narrower by listing the set.
func (t portsTable) narrowerIn(c *nft.Conn, everywhere map[hostPort]Publication, own map[netip.Addr]bool) (found []entry, err error) {
	all, err := c.Elements(t.somewhere())
	if errors.Is(err, unix.ENOENT) { // is about to be made
		return nil, nil
	}
	for _, e := range all {
		at := entry{t.somewhere(), e}
		p, ok := t.publication(at)
		if _, wanted := everywhere[p.hostPort()]; ok && wanted && own[p.Host.Addr()] {
			found = append(found, at)
		}
	}
	return found, err
}

// narrowerAt is narrower by asking for each port of each address.
func (t portsTable) narrowerAt(c *nft.Conn, everywhere map[hostPort]Publication, own map[netip.Addr]bool) (found []entry, err error) {
	for addrs := range slices.Chunk(slices.Collect(maps.Keys(own)), askedUpTo/max(len(everywhere), 1)+1) {
		var places []entry
		for _, addr := range addrs {
			for _, p := range everywhere {
				places = append(places, p.on(addr).element(Key{}))
			}
		}
		have, err := see(c, places)
		if err != nil {
			return nil, err
		}
		for _, e := range places {
			if there, ok := have[e.place()]; ok {
				found = append(found, entry{e.set, there})
			}
		}
	}
	return found, nil
}

// unspecified is the unspecified address of the same family.
func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
