package bridge

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"

	"flatnet/rtnl"
)

// attachFirst makes an attachment whose addresses another plugin leases: the
// link comes first, for the plugin may ask for them through it, as dhcp does.
func (h *Host) attachFirst(c *rtnl.Conn, inside sandbox, br bridgeState, n Network, r Request, alloc Allocator) (Result, error) {
	a, err := Plan(n, r, Lease{})
	if err == nil {
		err = h.makeRoom(c, r.Key, false, earlierEnds(n, r.Key, alloc))
	}
	if err != nil {
		return Result{}, err
	}
	res, err := h.apply(c, inside, br, a, rtnl.Link{})
	if err != nil {
		inside.arrival.end()
		return Result{}, errors.Join(err, h.unpublished(r.Key), removeLinks(c, r.Key, hostEnds), h.leaveIdle(r.Key.Network, alloc))
	}
	res.DNS = n.DNS
	if n.NoAddress {
		return res, nil
	}
	lease, held, err := alloc.Lease(r.Key, r.IPs, locals(c, br))
	defer lease.end()
	var host rtnl.Link
	if err == nil {
		host, err = findHostEnd(c, r.Key, res.Interfaces[1].Name)
	}
	if err == nil {
		res, err = h.address(c, inside, host, n, r, lease)
	}
	if err == nil {
		err = h.checkSharedAgain(c, br, n, r.Key, res)
	}
	if err != nil {
		inside.arrival.end()
		return Result{}, errors.Join(err, h.undo(r.Key, alloc, held))
	}
	return res, nil
}

// earlierEnds returns the way to find links of an earlier namespace of this container.
// One that was renamed must be found now, for DEL looks no further when it has found
// the new one. But to list all links takes long on a host with thousands, and a key
// without a lease has none, unless its network gives no addresses.
func earlierEnds(n Network, key Key, alloc Allocator) func(*rtnl.Conn, Key) ([]rtnl.Link, error) {
	if leases, err := alloc.Keys(); err == nil && !n.NoAddress && !slices.Contains(leases, key) {
		return namedEnds
	}
	return hostEnds
}

// address gives an attachment, whose link is made, what was leased for it.
func (h *Host) address(c *rtnl.Conn, inside sandbox, host rtnl.Link, n Network, r Request, l Lease) (Result, error) {
	a, err := Plan(n, r, l)
	if err != nil {
		return Result{}, err
	}
	br, err := findBridge(c, n.Bridge, n.VLANs)
	if err != nil {
		return Result{}, err
	}
	var own []netip.Prefix // another network may have the rest of the subnet
	for _, addr := range a.owner().Addresses {
		own = append(own, netip.PrefixFrom(addr, addr.BitLen()))
	}
	if err := checkShared(c, br, n, own); err != nil {
		return Result{}, err
	}
	res, err := h.apply(c, inside, br, a, host)
	if err != nil {
		return Result{}, err
	}
	if res.DNS = n.DNS; res.DNS.empty() {
		res.DNS = l.DNS
	}
	if err := h.announce(inside, a, host.Peer); err != nil {
		return Result{}, because(err, c, inside, a, host)
	}
	return res, nil
}

// announce tells neighbours that know one of the addresses by another MAC, for
// the MAC does not follow from the address here (arp_notify and ndisc_notify of
// Documentation/networking/ip-sysctl.rst). Setting the MAC that the interface
// has is what triggers it.
func (h *Host) announce(inside sandbox, a Attachment, index int) error {
	err := inside.netns.Do(func() (err error) {
		for _, addr := range a.Addresses {
			err = errors.Join(err, ifPossible(h.sysctl.Ensure(notify(a.Key.IfName, addr.Prefix.Addr()), "1")))
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := inside.SetLink(rtnl.LinkChange{Index: index, MAC: a.MAC[:]}); err != nil {
		return fmt.Errorf("announce the addresses of %s: %w", a.Key.IfName, err)
	}
	return nil
}

// notify is the sysctl by which an interface announces addresses of a family.
func notify(ifName string, a netip.Addr) string {
	if a.Is6() {
		return path.Join("net/ipv6/conf", ifName, "ndisc_notify")
	}
	return path.Join("net/ipv4/conf", ifName, "arp_notify")
}
