package bridge

import (
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

// A Publication is a port of the host that leads to one of a container, in one
// family.
type Publication struct {
	Protocol uint8          // IPPROTO_*
	Host     netip.AddrPort // with an unspecified address: of all addresses of the host
	Target   netip.AddrPort
}

// publications resolves port mappings: one without a host address is published
// in each family in which the container has an address.
func publications(ports []PortMapping, addrs []Address) ([]Publication, error) {
	if len(addrs) == 0 {
		return nil, nil // not leased yet
	}
	var all []Publication
	for _, p := range ports {
		if p.HostIP == netip.IPv6Loopback() {
			return nil, fmt.Errorf("hostIP ::1 of host port %d: Linux translates nothing that is sent there: %w", p.HostPort, ErrInvalid)
		}
		found := false
		for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
			host := p.HostIP
			if !host.IsValid() {
				host = any
			}
			i := slices.IndexFunc(addrs, func(a Address) bool { return a.Prefix.Addr().Is4() == any.Is4() })
			if i < 0 || host.Is4() != any.Is4() {
				continue
			}
			found = true
			pub := Publication{p.Protocol, netip.AddrPortFrom(host, p.HostPort), netip.AddrPortFrom(addrs[i].Prefix.Addr(), p.ContainerPort)}
			if slices.Contains(all, pub) {
				continue
			}
			if slices.ContainsFunc(all, pub.collides) {
				return nil, fmt.Errorf("%v is to be published twice: %w", pub, ErrInvalid)
			}
			all = append(all, pub)
		}
		if !found {
			return nil, fmt.Errorf("hostIP %s of host port %d: the container has no address of that family: %w", p.HostIP, p.HostPort, ErrInvalid)
		}
	}
	return all, nil
}

// collides says whether a packet could be meant for both.
func (p Publication) collides(o Publication) bool {
	a, b := p.Host.Addr(), o.Host.Addr()
	return p.Protocol == o.Protocol && p.Host.Port() == o.Host.Port() && a.Is4() == b.Is4() &&
		(a == b || a.IsUnspecified() || b.IsUnspecified())
}

func (p Publication) String() string {
	name := map[uint8]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp"}[p.Protocol]
	return fmt.Sprintf("host port %s/%s", p.Host, name)
}

// on is the publication as it is on one address of the host.
func (p Publication) on(host netip.Addr) Publication {
	p.Host = netip.AddrPortFrom(host, p.Host.Port())
	return p
}

// element is where the publication is in the tables.
func (p Publication) element(owner Key) entry {
	t := portsOf(familyOf(p.Host.Addr()))
	e := nft.Element{
		Data:    nft.Concat(p.Target.Addr().AsSlice(), bigEndian(p.Target.Port())),
		Comment: owner.String(),
	}
	if p.Host.Addr().IsUnspecified() {
		e.Key = nft.Concat([]byte{p.Protocol}, bigEndian(p.Host.Port()))
		return entry{t.everywhere().Set, e}
	}
	e.Key = nft.Concat([]byte{p.Protocol}, p.Host.Addr().AsSlice(), bigEndian(p.Host.Port()))
	return entry{t.somewhere().Set, e}
}

// itself is what lets the target reach its own published ports.
func (p Publication) itself(owner Key) entry {
	a := p.Target.Addr().AsSlice()
	return entry{portsOf(familyOf(p.Host.Addr())).selves().Set, nft.Element{Key: nft.Concat(a, a), Comment: owner.String()}}
}

func bigEndian(port uint16) []byte { return binary.BigEndian.AppendUint16(nil, port) }

// publishTries bounds how often tables that others remove at the same moment
// are made anew.
const publishTries = 16

// publish makes the attachment's ports reachable, all or none. One that another
// attachment has is an ErrTaken. If there is no error, published must be called
// when the link is there: until then nobody takes the ports for left over.
func (h *Host) publish(c *rtnl.Conn, a Attachment) (published func(), err error) {
	published = func() {}
	if len(a.Ports) == 0 {
		return published, nil
	}
	addrs, err := c.Addresses(0)
	if err != nil {
		return nil, fmt.Errorf("list the host's addresses: %w", err)
	}
	var replaced []Publication
	err = h.withNFT(true, func(n *nft.Conn) error {
		return h.records.alone(func() (err error) {
			h.records.saveWish(a.wish())
			yields := func(string) (bool, error) { return false, nil }
			if f := h.records.hold(a.Key); f != nil {
				published = func() { f.Close() }
				yields = func(holder string) (bool, error) { return h.yields(c, holder, a) }
			}
			replaced, err = publishAll(n, a, addrs, yields)
			return err
		})
	})
	h.forget(replaced, func(p Publication, f conntrack.Flow) bool { return f.Server == p.Target })
	if err == nil {
		h.forget(a.Ports, func(p Publication, f conntrack.Flow) bool {
			return f.Server != p.Target && p.covers(f.Dst.Addr(), addrs)
		})
		if slices.ContainsFunc(a.Ports, Publication.isLoopback) {
			err = h.sysctl.Ensure(routeLocalnet(a.VLANs.gatewayName(a.Bridge)), "1")
		}
	}
	if err != nil {
		published()
		return nil, err
	}
	return published, nil
}

// yields says whether what an element's owner has may be replaced: it is gone,
// or the same container's in an internal network, where it is of less use.
func (h *Host) yields(c *rtnl.Conn, owner string, a Attachment) (bool, error) {
	if a.Key.sharesContainer(owner) && !a.internal() {
		key, _ := parseKey(owner)
		if w, ok := h.records.wish(key); ok && w.Internal {
			return true, nil
		}
	}
	return h.gone(c, owner)
}

// gone says whether the attachment that an element names went without a DEL: it
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

// isLoopback says whether 127.0.0.1 leads there, too.
func (p Publication) isLoopback() bool {
	a := p.Host.Addr()
	return a.Is4() && (a.IsUnspecified() || a.IsLoopback())
}

// publishAll returns what it has replaced; yields says whether an owner's
// elements may be.
func publishAll(c *nft.Conn, a Attachment, addrs []rtnl.Addr, yields func(owner string) (bool, error)) ([]Publication, error) {
	fib := true
	for range publishTries {
		replaced, err := publishOnce(c, a, addrs, yields, fib)
		switch {
		case fib && errors.Is(err, nft.ErrUnsupported):
			fib = false // the kernel lacks CONFIG_NFT_FIB_*, or else fails once more
		// Others took a port first, or removed or made a table at the same moment.
		case !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENOENT):
			return replaced, err
		}
	}
	return nil, fmt.Errorf("tables of published ports come and go: %w", ErrBusy)
}

func publishOnce(c *nft.Conn, a Attachment, addrs []rtnl.Addr, yields func(owner string) (bool, error), fib bool) (replaced []Publication, err error) {
	var b nft.Batch
	for _, family := range a.portFamilies() {
		if err := portsOf(family).ensure(c, &b, addrs, fib); err != nil {
			return nil, err
		}
	}
	var free []Publication
	var stale []entry
	for _, p := range a.Ports {
		ok, old, err := p.isFree(c, a.Key, addrs, yields)
		if err != nil {
			return nil, err
		}
		if ok {
			free = append(free, p)
		}
		for _, e := range old {
			if !slices.ContainsFunc(stale, e.same) {
				stale = append(stale, e)
			}
		}
	}
	for _, e := range stale {
		if p, ok := portsOf(e.set.Table.Family).publication(e); ok {
			replaced = append(replaced, p)
		}
	}
	if err := claim(c, &b, entries(a.Key, free), stale); err != nil {
		return nil, err
	}
	if err := c.Commit(&b); err != nil {
		return nil, err
	}
	return replaced, nil
}

// entries are all that ports have in the tables.
func entries(key Key, ports []Publication) (all []entry) {
	selves := map[netip.Addr]bool{}
	for _, p := range ports {
		all = append(all, p.element(key))
		if a := p.Target.Addr(); !selves[a] {
			selves[a] = true
			all = append(all, p.itself(key))
		}
	}
	return all
}

func (a Attachment) portFamilies() (families []nft.Family) {
	for _, p := range a.Ports {
		if f := familyOf(p.Host.Addr()); !slices.Contains(families, f) {
			families = append(families, f)
		}
	}
	return families
}

// wish is what a reload is to restore.
func (a Attachment) wish() wish {
	return wish{Key: a.Key, Ports: a.Ports, Bandwidth: a.Bandwidth, Internal: a.internal()}
}

func (a Attachment) internal() bool {
	return slices.ContainsFunc(a.Firewall, func(f Firewall) bool { return f.Internal })
}

// isFree looks for another owner of the port: on the same address, or on all
// addresses for one of them, or on one of them for all. Another attachment of
// the same container is none, for runtimes ask for a container's ports in each
// of its networks; the first one that is not internal has them. What is in the way and yields is stale.
func (p Publication) isFree(c *nft.Conn, own Key, addrs []rtnl.Addr, yields func(owner string) (bool, error)) (free bool, stale []entry, err error) {
	places := []Publication{p}
	switch host := p.Host.Addr(); {
	case !host.IsUnspecified() && host.Is4():
		places = append(places, p.on(netip.IPv4Unspecified()))
	case !host.IsUnspecified():
		places = append(places, p.on(netip.IPv6Unspecified()))
	default:
		for _, a := range addrs {
			if a.Prefix.Addr().Is4() == host.Is4() {
				places = append(places, p.on(a.Prefix.Addr()))
			}
		}
	}
	free = true
	for i, place := range places {
		e := place.element(own)
		holder, found, err := c.Element(e.set, e.Key)
		if err != nil {
			return false, nil, err
		}
		if !found || holder.Comment == e.Comment {
			continue
		}
		old, err := yields(holder.Comment)
		switch {
		case err != nil:
			return false, nil, err
		case old:
			stale = append(stale, entry{e.set, holder})
		case !own.sharesContainer(holder.Comment):
			return false, nil, fmt.Errorf("%v is published by %s: %w", place, holder.Comment, ErrTaken)
		case i == 0:
			free = false
		}
	}
	return free, stale, nil
}

// sharesContainer says whether a comment names an attachment of k's container.
func (k Key) sharesContainer(comment string) bool {
	other, ok := parseKey(comment)
	return ok && other.ContainerID == k.ContainerID
}

// needsHairpin says whether what a container sends to its own published port
// goes back through its bridge port: where br_netfilter is at work, a bridge
// forwards directly what is translated to an address behind itself.
func (h *Host) needsHairpin(a Attachment) bool {
	for _, family := range a.portFamilies() {
		name := "net/bridge/bridge-nf-call-iptables"
		if family == nft.IPv6 {
			name = "net/bridge/bridge-nf-call-ip6tables"
		}
		if v, err := h.sysctl.Get(name); err == nil && v != "0" {
			return true
		}
	}
	return false
}
