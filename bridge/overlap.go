package bridge

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// checkOverlap reports a subnet that the bridge has no address in yet and that
// an address or route of another interface has a part in: it is likely to be a
// VPN's or the host's own network, which the bridge would cut off. Once the
// bridge has its address, or if it is to have none, there is nothing to look for.
func checkOverlap(c *rtnl.Conn, br bridgeState, n Network) error {
	var fresh []netip.Prefix
	for _, p := range n.Subnets {
		p = p.Masked()
		if !slices.ContainsFunc(br.addrs, func(a rtnl.Addr) bool { return p.Contains(a.Prefix.Addr()) }) {
			fresh = append(fresh, p)
		}
	}
	if len(fresh) == 0 || !n.IsGateway {
		return nil
	}
	addrs, err := c.Addresses(0)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if p := n.overlapped(fresh, a.Prefix.Masked()); p.IsValid() && a.Index != br.gateway.Index {
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
			if p := n.overlapped(fresh, r.Dst); p.IsValid() && r.Index != br.gateway.Index {
				if err := n.overlaps(c, p, "route to "+r.Dst.String(), r.Index); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// overlapped finds the subnet that a prefix of another interface overlaps. A
// default route takes nothing away, and a wider prefix inside the flat range is
// how an overlay reaches the flat networks of other hosts.
func (n Network) overlapped(subnets []netip.Prefix, other netip.Prefix) netip.Prefix {
	if other.Bits() == 0 {
		return netip.Prefix{}
	}
	for _, p := range subnets {
		overlay := other.Bits() < p.Bits() && slices.ContainsFunc(n.Flat, func(flat netip.Prefix) bool {
			return flat.Bits() <= other.Bits() && flat.Contains(other.Addr())
		})
		if p.Overlaps(other) && !overlay {
			return p
		}
	}
	return netip.Prefix{}
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
