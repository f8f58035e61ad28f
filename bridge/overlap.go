package bridge

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// fresh are those of the network's subnets that the bridge has no address in yet.
func (n Network) fresh(br bridgeState) (subnets []netip.Prefix) {
	for _, p := range n.Subnets {
		if !slices.ContainsFunc(br.addrs, func(a rtnl.Addr) bool {
			return p.Contains(a.Prefix.Addr()) || p.Gateway == a.Prefix.Addr()
		}) {
			subnets = append(subnets, p.Prefix)
		}
	}
	return subnets
}

// checkOverlap reports a subnet that is another interface's: it is likely to be a
// VPN's or the host's own network, which the bridge cuts off or is cut off by. Such
// are an address whose subnet overlaps with it, and a route to all or a part of it. A
// route that is wider is not in its way, for the kernel prefers the narrower one. A
// bridge that is to have no address is in nobody's way.
func checkOverlap(c *rtnl.Conn, br bridgeState, n Network, subnets []netip.Prefix) error {
	if len(subnets) == 0 || !n.IsGateway || n.AllowOverlap {
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
		routes, err := c.Routes(ipv6, 0)
		if err != nil {
			return fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			ours := r.Index != 0 && r.Index == br.gateway.Index
			if p := overlapped(subnets, r.Dst); p.IsValid() && p.Bits() <= r.Dst.Bits() && !ours {
				if err := n.overlaps(c, p, "route to "+r.Dst.String(), r.Index); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// overlapped finds the subnet that a prefix of another interface overlaps. One of
// all addresses takes nothing away.
func overlapped(subnets []netip.Prefix, other netip.Prefix) netip.Prefix {
	for _, p := range subnets {
		if p = p.Masked(); other.Bits() > 0 && p.Overlaps(other) {
			return p
		}
	}
	return netip.Prefix{}
}

// overlaps is nil if the interface is gone, or is the bridge after all: others
// may make and remove it meanwhile. The index is 0 if only a nexthop object names
// the interface.
func (n Network) overlaps(c *rtnl.Conn, p netip.Prefix, what string, index int) error {
	where := "a nexthop object"
	if index != 0 {
		l, err := c.LinkByIndex(index)
		switch {
		case errors.Is(err, unix.ENODEV) || err == nil && l.Name == n.VLANs.gatewayName(n.Bridge):
			return nil
		case err != nil:
			where = fmt.Sprintf("interface %d", index)
		default:
			where = "interface " + l.Name
		}
	}
	return fmt.Errorf("subnet %s of network %s overlaps with the %s of %s; choose another subnet, or set allowOverlap if it is meant to be a part of that one: %w",
		p, n.Name, what, where, ErrConflict)
}
