// Package link makes the links of an attachment: the bridge with the gateway addresses,
// the veth pair and the container's side of it; and finds what is in their way.
package link

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/bridge/vlan"
	"flatnet/internal/sysctl"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// A Bridge is what is found of a network's bridge.
type Bridge struct {
	rtnl.Link           // zero: there is none
	Gateway   rtnl.Link // that has the gateway addresses: the bridge, or what leads into a VLAN
	Addrs     []rtnl.Addr
}

// FindBridge looks for a network's bridge and for the addresses that the host has by
// it. A link of its name that is no bridge is an [model.ErrConflict].
func FindBridge(h *host.Host, n *model.Network) (Bridge, error) {
	br, err := findKind(h, n.Bridge, "bridge")
	if err != nil || br.Index == 0 {
		return Bridge{}, err
	}
	b := Bridge{Link: br, Gateway: br}
	if n.VLANs.ID != 0 {
		if b.Gateway, err = findKind(h, n.GatewayName(), "veth"); err != nil || b.Gateway.Index == 0 {
			return b, err
		}
	}
	b.Addrs, err = h.Addresses(b.Gateway.Index)
	if errors.Is(err, unix.ENODEV) { // now it is not
		return Bridge{}, nil
	}
	if err != nil {
		return b, fmt.Errorf("list addresses of %s: %w", b.Gateway.Name, err)
	}
	return b, nil
}

// findKind looks for a link of a kind; it is zero if there is none.
func findKind(h *host.Host, name, kind string) (rtnl.Link, error) {
	l, err := h.Find(name)
	if err == nil && l.Index != 0 && l.Kind != kind {
		return rtnl.Link{}, model.Errorf(model.ErrConflict, "interface %s is a %s and no %s", name, cmp.Or(l.Kind, "device"), kind)
	}
	return l, err
}

func (b Bridge) has(p netip.Prefix) bool {
	return slices.ContainsFunc(b.Addrs, func(a rtnl.Addr) bool { return a.Prefix == p })
}

func (b Bridge) ours() bool { _, ok := model.MadeFor(b.Alias); return ok }

// Ensure makes the bridge, or what it lacks: up, with the gateway addresses. Any
// number of processes may do so at once, if those that make it hold the bridge's lock.
// added reports whether an address was missing.
func Ensure(h *host.Host, br Bridge, s *model.Shared) (_ Bridge, added bool, err error) {
	alias := ""
	if br.Index == 0 {
		if br, err = makeBridge(h, s); err != nil {
			return br, false, err
		}
		if br.Alias == "" { // else somebody was faster
			alias = model.BridgeAlias(s.Name)
		}
	}
	if promisc := s.PromiscMode && br.Flags&unix.IFF_PROMISC == 0; !br.Up() || promisc || alias != "" {
		if err := h.SetLink(rtnl.LinkChange{Index: br.Index, Up: true, Promisc: promisc, Alias: alias}); err != nil {
			return br, false, fmt.Errorf("raise bridge %s: %w", s.Bridge, err)
		}
	}
	if alias == "" { // before there is a port
		if err := KeepMAC(h, br); err != nil {
			return br, false, err
		}
	}
	if s.SpoofCheck && br.LearnsLinkLocal {
		if err := h.SetNoLinkLocalLearn(br.Index); err != nil {
			return br, false, fmt.Errorf("keep %s from learning from link protocols: %w", s.Bridge, err)
		}
	}
	if s.VLANs.Any() {
		if br, err = ensureVLAN(h, br, s); err != nil {
			return br, false, err
		}
	}
	if err := ensureGroup(h, br.Gateway, s.Group()); err != nil {
		return br, false, err
	}
	added, err = ensureGateways(h, br, s)
	return br, added, err
}

func makeBridge(h *host.Host, s *model.Shared) (Bridge, error) {
	mac := s.BridgeMAC
	if mac == (model.HardwareAddr{}) {
		var random [6]byte
		if _, err := unix.Getrandom(random[:], 0); err != nil {
			return Bridge{}, fmt.Errorf("getrandom: %w", err)
		}
		mac = model.LocalMAC(random[:])
	}
	err := h.AddLink("bridge", s.Bridge, mac[:], s.MTU)
	switch {
	case err == nil:
		err = settleIPv6(h, s.Bridge)
	case errors.Is(err, unix.EEXIST): // somebody was faster
		err = nil
	case errors.Is(err, unix.EOPNOTSUPP):
		err = model.Unsupported("CONFIG_BRIDGE")
	}
	if err != nil {
		return Bridge{}, fmt.Errorf("make bridge %s: %w", s.Bridge, err)
	}
	return FindBridge(h, &s.Network)
}

// settleIPv6 keeps containers from changing the host's routes by router
// advertisements (CVE-2020-10749), and lets the link-local address be used at
// once, since nothing is forwarded to containers without it. It is not for a
// bridge that somebody else made and that has no gateway address: its router may
// be another one.
func settleIPv6(h *host.Host, bridge string) error {
	conf := filepath.Join("net/ipv6/conf", bridge)
	return errors.Join(
		host.IfPossible(h.Sysctl.Ensure(filepath.Join(conf, "accept_ra"), "0")),
		host.IfPossible(h.Sysctl.Ensure(filepath.Join(conf, "accept_dad"), "0")))
}

// KeepMAC makes a bridge that somebody else made keep its MAC. Unless that was set,
// the kernel gives a bridge the lowest of its ports' with each port. Setting what it
// has is enough, but makes the kernel forget the bridge's neighbours; so that is done
// only once, as far as sysfs shows this namespace.
func KeepMAC(h *host.Host, br Bridge) error {
	const sysfs = sysctl.Dir("/sys/class/net")
	is := func(name, want string) bool {
		got, err := sysfs.Get(filepath.Join(br.Name, name))
		return err == nil && got == want
	}
	const set = "3" // NET_ADDR_SET of linux/netdevice.h
	if br.ours() || is("ifindex", strconv.Itoa(br.Index)) && is("address", br.MAC.String()) && is("addr_assign_type", set) {
		return nil
	}
	if err := h.SetLink(rtnl.LinkChange{Index: br.Index, MAC: br.MAC}); err != nil {
		return fmt.Errorf("keep the MAC of %s: %w", br.Name, err)
	}
	return nil
}

func ensureVLAN(h *host.Host, br Bridge, s *model.Shared) (Bridge, error) {
	if err := vlan.Filter(h, br.Link); err != nil || s.VLANs.ID == 0 || len(s.GatewayPrefixes()) == 0 {
		return br, err
	}
	if br.Gateway.Index == 0 {
		if err := vlan.MakeGateway(h, &s.Network, br.MTU); err != nil {
			return br, err
		}
		var err error
		if br, err = FindBridge(h, &s.Network); err != nil {
			return br, err
		}
	}
	return br, portError(br.Name, vlan.RaiseGateway(h, &s.Network, br.Link, br.Gateway))
}

// ensureGroup puts the interface that containers are behind into its group, unless
// somebody else has chosen another one.
func ensureGroup(h *host.Host, l rtnl.Link, group uint32) error {
	if err := checkGroup(l, group); err != nil || l.Group == group || l.Index == 0 { // a network without a gateway
		return err
	}
	if err := h.SetLink(rtnl.LinkChange{Index: l.Index, Group: group}); err != nil {
		return fmt.Errorf("put %s into the group %d: %w", l.Name, group, err)
	}
	return nil
}

func checkGroup(l rtnl.Link, group uint32) error {
	switch l.Group {
	case group, 0, model.GroupIsolated, model.GroupOpen:
		return nil
	}
	return model.Errorf(model.ErrConflict, "interface %s is in the group %d and must be in %d", l.Name, l.Group, group)
}

// ensureGateways gives the bridge the addresses and the host the routes that it lacks.
func ensureGateways(h *host.Host, br Bridge, s *model.Shared) (added bool, err error) {
	for _, want := range s.GatewayPrefixes() {
		if br.has(want) {
			continue
		}
		added = true
		for _, have := range br.inTheWay(s, want) {
			if !s.ForceAddress {
				return added, br.conflict(have, want)
			}
			if err := h.DeleteAddress(br.Gateway.Index, have); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return added, fmt.Errorf("take %s from %s: %w", have, br.Gateway.Name, err)
			}
		}
		if err := settleGateway(h, br); err != nil {
			return added, err
		}
		if err := addGateway(h, br.Gateway, want); err != nil {
			return added, err
		}
	}
	for _, subnet := range s.HostRoutes() {
		err := h.AddRoute(rtnl.Route{Dst: subnet, Index: br.Gateway.Index})
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return added, fmt.Errorf("add the host's route to %s by %s: %w", subnet, br.Gateway.Name, err)
		}
	}
	if br.lacksLinkLocal(s) {
		own := netip.PrefixFrom(model.HardwareAddr(br.Gateway.MAC).LinkLocal(), 64)
		if err := h.AddAddress(br.Gateway.Index, own, false); err != nil && !errors.Is(err, unix.EEXIST) {
			return added, fmt.Errorf("give %s the address %s: %w", br.Gateway.Name, own, err)
		}
	}
	return added, nil
}

// addGateway gives an interface a gateway address. One that it has is no error.
func addGateway(h *host.Host, l rtnl.Link, gateway netip.Prefix) error {
	err := h.AddAddress(l.Index, gateway, false)
	switch {
	case err == nil || errors.Is(err, unix.EEXIST):
		return nil
	case gateway.Addr().Is6() && errors.Is(err, unix.EOPNOTSUPP): // no module serves that family
		err = model.Unsupported("CONFIG_IPV6")
	case gateway.Addr().Is6():
		err = cmp.Or(ready6(h, Bridge{Gateway: l}, l.Name), err)
	}
	return fmt.Errorf("give %s the address %s: %w", l.Name, gateway, err)
}

// lacksLinkLocal reports whether the interface with an IPv6 gateway address has
// lost its link-local one: the kernel adds that with the first carrier and not
// again, and without it forwards nothing there, for it can't ask for neighbours.
func (b Bridge) lacksLinkLocal(s *model.Shared) bool {
	return s.Forwards(false) && b.Gateway.Running() && len(b.Gateway.MAC) == len(model.HardwareAddr{}) &&
		!slices.ContainsFunc(b.Addrs, func(a rtnl.Addr) bool {
			return a.Prefix.Addr().Is6() && a.Prefix.Addr().IsLinkLocalUnicast()
		})
}

// settleGateway is settleIPv6 for the interface with the gateway addresses. A
// bridge that somebody else made may lead to the host's own router: if the host
// has learned a route or address by its advertisements, it goes on listening.
func settleGateway(h *host.Host, br Bridge) error {
	if !br.ours() {
		learned, err := h.Advertised()
		if err != nil || slices.Contains(learned, br.Gateway.Index) {
			return err
		}
	}
	return settleIPv6(h, br.Gateway.Name)
}

// inTheWay lists the addresses that the bridge has instead of one that it
// should have: other IPv4 addresses, and IPv6 addresses of the same subnet.
func (b Bridge) inTheWay(s *model.Shared, want netip.Prefix) (found []netip.Prefix) {
	own := append(s.GatewayPrefixes(), s.Gateways()...)
	for _, a := range b.Addrs {
		have := a.Prefix
		if have.Addr().Is4() == want.Addr().Is4() && !have.Addr().IsLinkLocalUnicast() &&
			(have.Addr().Is4() || have.Overlaps(want)) && !slices.Contains(own, have) && !b.has(want) {
			found = append(found, have)
		}
	}
	return found
}

func (b Bridge) conflict(have, want netip.Prefix) error {
	return model.Errorf(model.ErrConflict, "bridge %s has the address %s and not %s (forceAddress would replace it)", b.Name, have, want)
}

// Faults lists what the bridge lacks; Ensure mends it.
func (b Bridge) Faults(h *host.Host, s *model.Shared) (found []model.Fault, err error) {
	add := func(bad bool, state, format string, args ...any) {
		if bad {
			found = append(found, model.Fault{Thing: fmt.Sprintf(format, args...), State: state})
		}
	}
	if b.Index == 0 {
		add(true, "missing", "bridge %s", s.Bridge)
		return found, nil
	}
	add(!b.Up(), "down", "bridge %s", s.Bridge)
	add(s.PromiscMode && b.Flags&unix.IFF_PROMISC == 0, "not promiscuous", "bridge %s", s.Bridge)
	add(s.SpoofCheck && b.LearnsLinkLocal, "off", "no_linklocal_learn of bridge %s", s.Bridge)
	add(s.VLANs.Any() && !b.VLANFiltering, "off", "VLAN filtering of bridge %s", s.Bridge)
	gateways, iface := s.GatewayPrefixes(), s.GatewayName()
	if b.Gateway.Index == 0 {
		add(len(gateways) > 0, "missing", "interface %s", iface) // else a network without a gateway
		return found, nil
	}
	add(!b.Gateway.Up() && b.Gateway.Index != b.Index, "down", "interface %s", iface)
	add(b.Gateway.Group != s.Group(), fmt.Sprintf("in the group %d and not %d", b.Gateway.Group, s.Group()), "interface %s", iface)
	for _, want := range gateways {
		add(!b.has(want), "missing", "address %s of %s", want, iface)
	}
	add(b.lacksLinkLocal(s), "missing", "the IPv6 link-local address of %s", iface)
	subnets := s.HostRoutes()
	if len(subnets) == 0 {
		return found, nil
	}
	have, err := h.Routes(true, b.Gateway.Index)
	if err != nil {
		return found, fmt.Errorf("list routes by %s: %w", iface, err)
	}
	for _, subnet := range subnets {
		there := slices.ContainsFunc(have, func(r rtnl.Route) bool { return r.Dst == subnet && !r.Gateway.IsValid() })
		add(!there, "missing", "the host's route to %s by %s", subnet, iface)
	}
	return found, nil
}

// notifySysctl is the sysctl by which an interface announces addresses of a family
// (arp_notify and ndisc_notify of Documentation/networking/ip-sysctl.rst).
func notifySysctl(iface string, a netip.Addr) string {
	if a.Is6() {
		return filepath.Join("net/ipv6/conf", iface, "ndisc_notify")
	}
	return filepath.Join("net/ipv4/conf", iface, "arp_notify")
}

// AnnounceGateways makes containers, which know the gateway by the MAC of an earlier
// bridge, learn it anew. Setting the MAC that the interface has is what triggers it.
func AnnounceGateways(h *host.Host, br Bridge, s *model.Shared) (err error) {
	gateways := s.GatewayPrefixes()
	if len(gateways) == 0 { // and so, in a VLAN, no interface that could have one
		return nil
	}
	for _, gw := range gateways {
		err = errors.Join(err, host.IfPossible(h.Sysctl.Ensure(notifySysctl(br.Gateway.Name, gw.Addr()), "1")))
	}
	if serr := h.SetLink(rtnl.LinkChange{Index: br.Gateway.Index, MAC: br.Gateway.MAC}); serr != nil {
		err = errors.Join(err, fmt.Errorf("announce the gateways on %s: %w", br.Gateway.Name, serr))
	}
	return err
}
