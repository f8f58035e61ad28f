package bridge

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// A bridgeState is what is found of a bridge.
type bridgeState struct {
	rtnl.Link // zero: there is none
	addrs     []rtnl.Addr
}

// findBridge looks for a bridge and its addresses. A link of that name that is
// none is a conflict.
func findBridge(c *rtnl.Conn, name string) (bridgeState, error) {
	l, err := c.LinkByName(name)
	switch {
	case errors.Is(err, unix.ENODEV):
		return bridgeState{}, nil
	case err != nil:
		return bridgeState{}, fmt.Errorf("find bridge %s: %w", name, err)
	case l.Kind != "bridge":
		return bridgeState{}, fmt.Errorf("interface %s is a %s and no bridge: %w", name, orText(l.Kind, "device"), ErrConflict)
	}
	addrs, err := c.Addresses(l.Index)
	if err != nil {
		return bridgeState{}, fmt.Errorf("list addresses of bridge %s: %w", name, err)
	}
	return bridgeState{l, addrs}, nil
}

func (b bridgeState) has(p netip.Prefix) bool {
	return slices.ContainsFunc(b.addrs, func(a rtnl.Addr) bool { return a.Prefix == p })
}

// ensureBridge makes the bridge, or what it lacks: up, with the gateway
// addresses. Any number of processes may do so at once.
func ensureBridge(c *rtnl.Conn, br bridgeState, a Attachment) (bridgeState, error) {
	if br.Index == 0 {
		if err := makeBridge(c, a); err != nil {
			return br, fmt.Errorf("make bridge %s: %w", a.Bridge, err)
		}
		var err error
		if br, err = findBridge(c, a.Bridge); err != nil {
			return br, err
		}
	}
	if promisc := a.PromiscMode && br.Flags&unix.IFF_PROMISC == 0; !br.Up() || promisc {
		if err := c.SetLink(rtnl.LinkChange{Index: br.Index, Up: true, Promisc: promisc}); err != nil {
			return br, fmt.Errorf("raise bridge %s: %w", a.Bridge, err)
		}
	}
	return br, ensureGateways(c, br, a)
}

func makeBridge(c *rtnl.Conn, a Attachment) error {
	var mac HardwareAddr
	if _, err := unix.Getrandom(mac[:], 0); err != nil {
		return fmt.Errorf("getrandom: %w", err)
	}
	mac[0] = mac[0]&^0x01 | 0x02
	err := c.AddBridge(a.Bridge, mac[:], a.MTU)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: CONFIG_BRIDGE", ErrUnsupported)
	case errors.Is(err, unix.EEXIST): // somebody was faster
		return nil
	}
	return err
}

// ensureGateways gives the bridge the addresses that it lacks.
func ensureGateways(c *rtnl.Conn, br bridgeState, a Attachment) error {
	for _, want := range a.Gateways {
		if br.has(want) {
			continue
		}
		for _, have := range br.inTheWay(want, a.Gateways) {
			if !a.ForceAddress {
				return br.conflict(have, want)
			}
			if err := c.DeleteAddress(br.Index, have); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return fmt.Errorf("take %s from bridge %s: %w", have, a.Bridge, err)
			}
		}
		// A bridge that came without an address may have come without a MAC of
		// its own, too: setting the one it has makes the kernel keep it.
		if err := c.SetLink(rtnl.LinkChange{Index: br.Index, MAC: br.MAC}); err != nil {
			return fmt.Errorf("keep the MAC of bridge %s: %w", a.Bridge, err)
		}
		if err := c.AddAddress(br.Index, want); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("give bridge %s the address %s: %w", a.Bridge, want, err)
		}
	}
	return nil
}

// inTheWay lists the addresses that the bridge has instead of one that it
// should have: other IPv4 addresses, and IPv6 addresses of the same subnet.
func (b bridgeState) inTheWay(want netip.Prefix, all []netip.Prefix) (found []netip.Prefix) {
	if b.has(want) {
		return nil
	}
	for _, a := range b.addrs {
		have := a.Prefix
		if have.Addr().Is4() == want.Addr().Is4() && !have.Addr().IsLinkLocalUnicast() &&
			(have.Addr().Is4() || have.Overlaps(want)) && !slices.Contains(all, have) {
			found = append(found, have)
		}
	}
	return found
}

func (b bridgeState) conflict(have, want netip.Prefix) error {
	return fmt.Errorf("bridge %s has the address %s and not %s (forceAddress would replace it): %w", b.Name, have, want, ErrConflict)
}

// forward lets the host forward what containers send. It reads first.
func (h *Host) forward(a Attachment) error {
	if a.Forward4 {
		if err := h.sysctl.Ensure("net/ipv4/ip_forward", "1"); err != nil {
			return err
		}
	}
	if a.Forward6 {
		return h.sysctl.Ensure("net/ipv6/conf/all/forwarding", "1")
	}
	return nil
}
