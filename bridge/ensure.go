package bridge

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"flatnet/internal/sysctl"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// A bridgeState is what is found of a bridge.
type bridgeState struct {
	rtnl.Link           // zero: there is none
	gateway   rtnl.Link // of the gateway addresses: the bridge, or what leads into a VLAN
	addrs     []rtnl.Addr
}

// findBridge looks for a bridge and for the addresses that the host has by it.
// A link of its name that is none is a conflict.
func findBridge(c *rtnl.Conn, name string, v VLANs) (bridgeState, error) {
	br, err := findKind(c, name, "bridge")
	if err != nil || br.Index == 0 {
		return bridgeState{}, err
	}
	b := bridgeState{Link: br, gateway: br}
	if v.ID != 0 {
		if b.gateway, err = findKind(c, v.gatewayName(name), "veth"); err != nil || b.gateway.Index == 0 {
			return b, err
		}
	}
	b.addrs, err = c.Addresses(b.gateway.Index)
	if errors.Is(err, unix.ENODEV) { // now it is not
		return bridgeState{}, nil
	}
	if err != nil {
		return b, fmt.Errorf("list addresses of %s: %w", b.gateway.Name, err)
	}
	return b, nil
}

// findKind looks for a link of a kind; it is zero if there is none.
func findKind(c *rtnl.Conn, name, kind string) (rtnl.Link, error) {
	l, err := c.LinkByName(name)
	switch {
	case errors.Is(err, unix.ENODEV):
		return rtnl.Link{}, nil
	case err != nil:
		return rtnl.Link{}, fmt.Errorf("find %s %s: %w", kind, name, err)
	case l.Kind != kind:
		return rtnl.Link{}, fmt.Errorf("interface %s is a %s and no %s: %w", name, orText(l.Kind, "device"), kind, ErrConflict)
	}
	return l, nil
}

func (b bridgeState) has(p netip.Prefix) bool {
	return slices.ContainsFunc(b.addrs, func(a rtnl.Addr) bool { return a.Prefix == p })
}

// ensureBridge makes the bridge, or what it lacks: up, with the gateway
// addresses. Any number of processes may do so at once.
func (h *Host) ensureBridge(c *rtnl.Conn, br bridgeState, a Attachment) (bridgeState, error) {
	alias := ""
	if br.Index == 0 {
		unlock, err := h.lookAlone(a.Bridge) // until the bridge has its alias
		if err != nil {
			return br, err
		}
		defer unlock()
		if err := h.makeBridge(c, a); err != nil {
			return br, fmt.Errorf("make bridge %s: %w", a.Bridge, err)
		}
		if br, err = findBridge(c, a.Bridge, a.VLANs); err != nil {
			return br, err
		}
		if br.Alias == "" { // else somebody was faster
			alias = bridgeAlias(a.Key.Network)
		}
	}
	if promisc := a.PromiscMode && br.Flags&unix.IFF_PROMISC == 0; !br.Up() || promisc || alias != "" {
		if err := c.SetLink(rtnl.LinkChange{Index: br.Index, Up: true, Promisc: promisc, Alias: alias}); err != nil {
			return br, fmt.Errorf("raise bridge %s: %w", a.Bridge, err)
		}
	}
	if alias == "" { // before there is a port
		if err := keepMAC(c, br.Link); err != nil {
			return br, err
		}
	}
	if a.SpoofCheck && br.LearnsLinkLocal {
		if err := c.SetNoLinkLocalLearn(br.Index); err != nil {
			return br, fmt.Errorf("keep %s from learning from link protocols: %w", a.Bridge, err)
		}
	}
	if a.VLANs.any() {
		var err error
		if br, err = a.VLANs.ensure(c, br, len(a.Gateways) > 0); err != nil {
			return br, err
		}
	}
	if err := ensureGroup(c, br.gateway, a.Group); err != nil {
		return br, err
	}
	return br, h.ensureGateways(c, br, a)
}

// keepMAC makes a bridge that somebody else made keep its MAC. Unless that was set,
// the kernel gives a bridge the lowest of its ports' with each port. Setting what it
// has is enough, but makes the kernel forget the bridge's neighbours; so that is done
// only once, as far as sysfs shows this namespace.
func keepMAC(c *rtnl.Conn, br rtnl.Link) error {
	const sysfs = sysctl.Dir("/sys/class/net")
	is := func(name, want string) bool {
		got, err := sysfs.Get(path.Join(br.Name, name))
		return err == nil && got == want
	}
	const set = "3" // NET_ADDR_SET of linux/netdevice.h
	if strings.HasPrefix(br.Alias, aliasWord+" ") ||
		is("ifindex", strconv.Itoa(br.Index)) && is("address", br.MAC.String()) && is("addr_assign_type", set) {
		return nil
	}
	if err := c.SetLink(rtnl.LinkChange{Index: br.Index, MAC: br.MAC}); err != nil {
		return fmt.Errorf("keep the MAC of %s: %w", br.Name, err)
	}
	return nil
}

func (h *Host) makeBridge(c *rtnl.Conn, a Attachment) error {
	mac := a.BridgeMAC
	if mac == (HardwareAddr{}) {
		if _, err := unix.Getrandom(mac[:], 0); err != nil {
			return fmt.Errorf("getrandom: %w", err)
		}
		mac[0] = mac[0]&^0x01 | 0x02
	}
	err := c.AddLink("bridge", a.Bridge, mac[:], a.MTU)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: CONFIG_BRIDGE", ErrUnsupported)
	case errors.Is(err, unix.EEXIST): // somebody was faster
		return nil
	case err != nil:
		return err
	}
	return h.settleIPv6(a.Bridge)
}

// settleIPv6 keeps containers from changing the host's routes by router
// advertisements (CVE-2020-10749), and lets the link-local address be used at
// once, since nothing is forwarded to containers without it. It is not for a
// bridge that somebody else made and that has no gateway address: its router may
// be another one.
func (h *Host) settleIPv6(bridge string) error {
	conf := path.Join("net/ipv6/conf", bridge)
	return errors.Join(
		ifPossible(h.sysctl.Ensure(path.Join(conf, "accept_ra"), "0")),
		ifPossible(h.sysctl.Ensure(path.Join(conf, "accept_dad"), "0")))
}

// ensureGateways gives the bridge the addresses that it lacks.
func (h *Host) ensureGateways(c *rtnl.Conn, br bridgeState, a Attachment) error {
	added := false
	for _, want := range a.Gateways {
		if br.has(want) {
			continue
		}
		added = true
		for _, have := range br.inTheWay(want, slices.Concat(a.Gateways, a.Siblings)) {
			if !a.ForceAddress {
				return br.conflict(have, want)
			}
			if err := c.DeleteAddress(br.gateway.Index, have); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return fmt.Errorf("take %s from %s: %w", have, br.gateway.Name, err)
			}
		}
		if err := h.settleGateway(c, br); err != nil {
			return err
		}
		if err := h.addGateway(c, br.gateway, want); err != nil {
			return err
		}
	}
	for _, subnet := range a.Routed {
		err := c.AddRoute(rtnl.Route{Dst: subnet, Index: br.gateway.Index})
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add the host's route to %s by %s: %w", subnet, br.gateway.Name, err)
		}
	}
	if added && a.Forward4 && !a.internal() { // said once, not with every ADD
		if err := h.checkUplink(c, a.Key.Network); err != nil {
			h.say(err.Error())
		}
	}
	if !br.lacksLinkLocal(a) {
		return nil
	}
	own := netip.PrefixFrom(HardwareAddr(br.gateway.MAC).linkLocal(), 64)
	if err := c.AddAddress(br.gateway.Index, own, false); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("give %s the address %s: %w", br.gateway.Name, own, err)
	}
	return nil
}

// addGateway gives an interface a gateway address. One that it has is no error.
func (h *Host) addGateway(c *rtnl.Conn, l rtnl.Link, gateway netip.Prefix) error {
	err := c.AddAddress(l.Index, gateway, false)
	switch {
	case err == nil || errors.Is(err, unix.EEXIST):
		return nil
	case gateway.Addr().Is6() && errors.Is(err, unix.EOPNOTSUPP): // nobody serves that family
		err = fmt.Errorf("%w: CONFIG_IPV6", ErrUnsupported)
	default:
		if why := h.checkGateway(bridgeState{gateway: l}, l.Name, gateway); errors.Is(why, ErrConflict) {
			err = why
		}
	}
	return fmt.Errorf("give %s the address %s: %w", l.Name, gateway, err)
}

// lacksLinkLocal reports whether the interface with an IPv6 gateway address has
// lost its link-local one: the kernel adds that with the first carrier and not
// again, and without it forwards nothing there, for it can't ask for neighbours.
func (b bridgeState) lacksLinkLocal(a Attachment) bool {
	return a.Forward6 && b.gateway.Running() && len(b.gateway.MAC) == len(HardwareAddr{}) &&
		!slices.ContainsFunc(b.addrs, func(a rtnl.Addr) bool {
			return a.Prefix.Addr().Is6() && a.Prefix.Addr().IsLinkLocalUnicast()
		})
}

// settleGateway is settleIPv6 for the interface with the gateway addresses. A
// bridge that somebody else made may lead to the host's own router: if the host
// has learned a route or address by its advertisements, it goes on listening.
func (h *Host) settleGateway(c *rtnl.Conn, br bridgeState) error {
	if !strings.HasPrefix(br.Alias, aliasWord+" ") {
		learned, err := advertised(c)
		if err != nil || slices.Contains(learned, br.gateway.Index) {
			return err
		}
	}
	return h.settleIPv6(br.gateway.Name)
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
