package bridge

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"flatnet/internal/nft"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// Status reports whether an ADD could succeed (SPEC 1.1.0, section 2). An error
// is [ErrUnavailable], or [ErrLimited] if containers that are attached already
// are cut off as well. It changes nothing.
func (h *Host) Status(n Network, alloc Allocator) error {
	c, err := h.route()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer c.Close()
	err = h.limited(c, n, alloc)
	if err != nil { // an ADD may have been at its last steps
		err = h.limited(c, n, alloc)
	}
	if err != nil {
		return limiting(err)
	}
	if err := h.blocked(n, alloc); err != nil {
		return limiting(err)
	}
	if !n.Internal && slices.ContainsFunc(n.gateways(), func(p netip.Prefix) bool { return p.Addr().Is4() }) {
		if err := h.checkUplink(c, n.Name); err != nil {
			return limiting(err)
		}
	}
	err = errors.Join(n.checkRequest(Request{}), h.available(c, n))
	if !n.NoAddress {
		err = errors.Join(err, alloc.Free(locals(c, bridgeState{})))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// limiting is an [ErrLimited], unless it only says that the caller may not look.
func limiting(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", ErrLimited, err)
}

// available looks for what an ADD would stumble over: a kernel that lacks
// something, a bridge that is none or has another address, a foreign network in
// the way.
func (h *Host) available(c *rtnl.Conn, n Network) error {
	br, err := findBridge(c, n.Bridge, n.VLANs)
	if err != nil {
		return err
	}
	err = errors.Join(checkOverlap(c, br, n, n.prefixes()), checkShared(c, br, n, n.prefixes()), h.ready(c, br, n))
	for _, k := range [...]struct{ kind, config string }{{"bridge", "CONFIG_BRIDGE"}, {"veth", "CONFIG_VETH"}} {
		if has, herr := c.HasKind(k.kind); herr != nil {
			err = errors.Join(err, herr)
		} else if !has {
			err = errors.Join(err, fmt.Errorf("%w: %s", ErrUnsupported, k.config))
		}
	}
	for _, want := range n.gateways() {
		for _, have := range br.inTheWay(want, n.gateways()) {
			if !n.ForceAddress {
				err = errors.Join(err, br.conflict(have, want))
			}
		}
	}
	return errors.Join(err,
		h.withNFT(n.IPMasq || n.Internal || n.PublishedOnly, func(c *nft.Conn) error { return h.tryFirewall(c, n) }),
		h.withNFT(n.SpoofCheck, func(c *nft.Conn) error { return tryGuard(c, n.Name) }))
}

// limited compares what all attachments share with what they need, if there
// are any.
func (h *Host) limited(c *rtnl.Conn, n Network, alloc Allocator) error {
	owners, err := h.attached(n, alloc)
	if err != nil || len(owners) == 0 {
		return err
	}
	br, err := findBridge(c, n.Bridge, n.VLANs)
	if err != nil {
		return err
	}
	a := n.common()
	for _, p := range n.Subnets {
		if !slices.ContainsFunc(owners, func(o Owner) bool { return slices.ContainsFunc(o.Addresses, p.Contains) }) {
			continue // of several subnets, some may have no container yet
		}
		if n.IsGateway && p.Gateway.IsValid() {
			a.serve(p.Prefix, p.Gateway)
		}
		a.Firewall = append(a.Firewall, n.firewall(p.Prefix, p.Gateway))
	}
	a.Firewall = append(a.Firewall, n.firewall(netip.Prefix{}, netip.Addr{}))
	err = errors.Join(h.checkBridge(c, br, a), h.checkHostEnds(c, br, a), h.checkFirewall(a.Firewall), h.checkGuards(n, owners))
	if err != nil { // the last DEL may have come between
		if owners, aerr := h.attached(n, alloc); aerr == nil && len(owners) == 0 {
			return nil
		}
	}
	return err
}

// checkHostEnds reports what the network's host ends lack.
func (h *Host) checkHostEnds(c *rtnl.Conn, br bridgeState, a Attachment) error {
	links, err := c.Links()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	_, wishes, _ := h.records.all() // of what can't be read, a reload tells
	vlans, err := a.VLANs.ofPorts(c)
	if err != nil {
		return err
	}
	var faults, recorded []fault
	common := h.records.common(a.Key.Network)
	for _, e := range hostEndsOf(links, a, wishes) {
		others := slices.Concat(limitFaults(c, e.Attachment, e.link), h.localnetFaults(e.Attachment))
		recorded = slices.Concat(recorded, others, h.portFaults(br, common, e.link, vlans))
		for _, f := range slices.Concat(h.portFaults(br, e.Attachment, e.link, vlans), others) {
			if !slices.Contains(faults, f) {
				faults = append(faults, f)
			}
		}
	}
	return joinFaults(faults, recorded)
}

// attached are the containers of a network that may miss something. A
// lease alone does not say so: it outlives a reboot, and an ADD that is under
// way has it before all else. Nor does a link that ADD has not finished.
func (h *Host) attached(n Network, alloc Allocator) ([]Owner, error) {
	if keys, err := alloc.Keys(); !n.NoAddress && (err != nil || len(keys) == 0) {
		return nil, nil // what is wrong with the leases, Free says
	}
	owners, err := h.Owners()
	return slices.DeleteFunc(owners, func(o Owner) bool { return o.Key.Network != n.Name }), err
}

// gateways are the addresses that the bridge should have.
func (n Network) gateways() (all []netip.Prefix) {
	for _, p := range n.Subnets {
		if n.IsGateway && p.Gateway.IsValid() {
			all = append(all, gatewayIn(p.Prefix, p.Gateway))
		}
	}
	return all
}

// tryFirewall finds out whether the kernel could make the network's rules,
// unless they are there.
func (h *Host) tryFirewall(c *nft.Conn, n Network) error {
	var all []Firewall
	for _, p := range n.Subnets {
		all = append(all, n.firewall(p.Prefix, p.Gateway))
	}
	all = append(all, n.firewall(netip.Prefix{}, netip.Addr{}))
	have, err := rulesOf(c, n.Name)
	if err != nil {
		return err
	}
	chains := h.lacking(all, have)
	if !n.Internal && !n.PublishedOnly {
		chains = slices.DeleteFunc(chains, chain.isOptional)
	}
	var b nft.Batch
	for _, ch := range chains {
		ch.add(&b)
	}
	if len(chains) == 0 {
		return nil
	}
	return try(c, &b, chains[0].Table)
}

// try finds out whether a batch that adds something to a table could be done, and
// leaves it undone: at its end it deletes what is not there. If that is refused,
// everything before it could be done.
func try(c *nft.Conn, b *nft.Batch, t nft.Table) error {
	b.Delete(nft.Chain{Table: t, Name: "none"})
	if err := c.Commit(b); !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}
