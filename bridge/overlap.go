package bridge

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// fresh are those of the network's subnets that the bridge has no address in yet.
func (n Network) fresh(br bridgeState) (subnets []netip.Prefix) {
	for _, p := range n.Subnets {
		if !slices.ContainsFunc(br.addrs, func(a rtnl.Addr) bool { return p.Masked().Contains(a.Prefix.Addr()) }) {
			subnets = append(subnets, p)
		}
	}
	return subnets
}

// checkOverlap reports a subnet that an address or route of another interface
// has a part in: it is likely to be a VPN's or the host's own network, which
// the bridge cuts off or is cut off by. A bridge that is to have no address
// does neither.
func checkOverlap(c *rtnl.Conn, br bridgeState, n Network, subnets []netip.Prefix) error {
	if len(subnets) == 0 || !n.IsGateway {
		return nil
	}
	addrs, err := c.Addresses(0)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if p := overlapped(subnets, a.Prefix.Masked()); p.IsValid() && a.Index != br.gateway.Index {
			if err := n.overlaps(c, p, "address "+a.Prefix.String(), a.Index); err != nil {
				return err
			}
		}
	}
	for _, ipv6 := range []bool{false, true} {
		routes, err := c.Routes(ipv6)
		if err != nil {
			return fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			if p := overlapped(subnets, r.Dst); p.IsValid() && r.Index != br.gateway.Index && !n.isOverlay(r.Dst, p) {
				if err := n.overlaps(c, p, "route to "+r.Dst.String(), r.Index); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// overlapped finds the subnet that a prefix of another interface overlaps. A
// default route takes nothing away.
func overlapped(subnets []netip.Prefix, other netip.Prefix) netip.Prefix {
	for _, p := range subnets {
		if p = p.Masked(); other.Bits() > 0 && p.Overlaps(other) {
			return p
		}
	}
	return netip.Prefix{}
}

// isOverlay says whether a route that is wider than a subnet lies in the flat
// range: that is how an overlay reaches the flat networks of other hosts.
func (n Network) isOverlay(dst, subnet netip.Prefix) bool {
	return dst.Bits() < subnet.Bits() && slices.ContainsFunc(n.Flat, func(flat netip.Prefix) bool {
		return flat.Bits() <= dst.Bits() && flat.Contains(dst.Addr())
	})
}

// overlaps is nil if the interface is gone, or is the bridge after all: others
// may make and remove it meanwhile.
func (n Network) overlaps(c *rtnl.Conn, p netip.Prefix, what string, index int) error {
	name := fmt.Sprintf("interface %d", index)
	l, err := c.LinkByIndex(index)
	if errors.Is(err, unix.ENODEV) || err == nil && l.Name == n.VLANs.gatewayName(n.Bridge) {
		return nil
	}
	if err == nil {
		name = "interface " + l.Name
	}
	return fmt.Errorf("subnet %s of network %s overlaps with the %s of %s; choose another subnet: %w",
		p, n.Name, what, name, ErrConflict)
}

// checkShared reports another network that has containers behind the bridge
// with addresses in any of the prefixes: its leases are not ours, so both would
// give the same ones. The bridge says which network it was made for, and only
// if that is another one, there is anything to look for. In a VLAN, addresses
// are in nobody's way.
func checkShared(c *rtnl.Conn, br bridgeState, n Network, prefixes []netip.Prefix) error {
	made, ok := strings.CutPrefix(br.Alias, aliasWord+" ")
	if !ok || made == n.Name || n.VLANs.ID != 0 {
		return nil
	}
	links, err := c.Links()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	ports := slices.DeleteFunc(links, func(l rtnl.Link) bool { return l.Master != br.Index })
	for _, o := range ownersOf(ports) {
		for _, a := range o.Addresses {
			i := slices.IndexFunc(prefixes, func(p netip.Prefix) bool { return p.Masked().Contains(a) })
			if o.Key.Network != n.Name && i >= 0 {
				return fmt.Errorf("%s of network %s is used by network %s on the same bridge %s: %s has %s; choose another subnet and bridge: %w",
					prefixes[i].Masked(), n.Name, o.Key.Network, br.Name, o.Key, a, ErrConflict)
			}
		}
	}
	return nil
}
