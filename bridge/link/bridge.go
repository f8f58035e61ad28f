// Package link makes the links of an attachment: the bridge with the gateway addresses,
// the veth pair and the container's side of it; and finds what is in their way.
package link

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
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
func FindBridge(h *host.Host, n *model.Network) (b Bridge, err error) {
	if b.Link, err = findKind(h, n.Bridge, "bridge"); err != nil || b.Index == 0 {
		return b, err
	}
	b.Gateway = b.Link
	if n.VLANs.ID != 0 {
		if b.Gateway, err = findKind(h, n.GatewayName(), "veth"); err != nil || b.Gateway.Index == 0 {
			return b, err
		}
		if b.Gateway.PeerNS >= 0 { // where the peer's index is of another link
			return b, model.Errorf(model.ErrConflict, "interface %s leads into another network namespace", b.Gateway.Name)
		}
	}
	b.Addrs, err = h.Addresses(b.Gateway.Index)
	if errors.Is(err, unix.ENODEV) { // now it is not
		return Bridge{}, nil
	}
	return b, err
}

// findKind looks for a link of a kind; it is zero if there is none.
func findKind(h *host.Host, name, kind string) (rtnl.Link, error) {
	l, err := h.LinkByName(name)
	if err == nil && l.Index != 0 && l.Kind != kind {
		return rtnl.Link{}, model.Errorf(model.ErrConflict, "interface %s is a %s and no %s", name, cmp.Or(l.Kind, "device"), kind)
	}
	return l, err
}

func (b Bridge) ours() bool { _, ok := model.MadeFor(b.Alias); return ok }

// Ensure makes the bridge, or what it lacks: up, with the gateway addresses. Any
// number of processes may do so at once, if those that make it hold the bridge's lock.
// added reports whether an address was missing.
func Ensure(h *host.Host, br Bridge, s *model.Shared) (_ Bridge, added bool, err error) {
	if br.Index == 0 {
		br, err = makeBridge(h, s)
	}
	if err == nil { // before there is a port
		err = KeepMAC(h, br)
	}
	if err == nil {
		err = mend(br.properties(h, s))
	}
	if err == nil && br.lacksGateway(s) { // it has just been made
		br, err = FindBridge(h, &s.Network)
	}
	if err == nil {
		err = br.conflict(s)
	}
	if err == nil {
		err = mend(br.gatewayProperties(h, s, nil))
	}
	return br, len(br.missing(s)) > 0, err
}

func makeBridge(h *host.Host, s *model.Shared) (br Bridge, err error) {
	mac := s.BridgeMAC
	if mac == (model.HardwareAddr{}) {
		var random [6]byte
		if _, err := unix.Getrandom(random[:], 0); err != nil {
			return br, fmt.Errorf("getrandom: %w", err)
		}
		mac = model.LocalMAC(random[:])
	}
	err = host.Lacking("CONFIG_BRIDGE", h.AddLink("bridge", s.Bridge, mac[:], s.MTU))
	if err == nil { // else somebody may have been faster
		err = settleIPv6(h, s.Bridge)
	}
	if err = host.UnlessExists(err); err == nil {
		br, err = FindBridge(h, &s.Network)
	}
	if err == nil && br.Alias == "" { // else somebody was faster
		br.Alias = model.BridgeAlias(s.Name)
		err = h.SetLink(br.Link, rtnl.LinkChange{Alias: br.Alias})
	}
	return br, err
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
	return h.SetLink(br.Link, rtnl.LinkChange{MAC: br.MAC})
}

// A property is one that a bridge, or its interface with the gateway addresses, must
// have: Faults reports it as a fault unless it is ok, and Ensure mends it.
type property struct {
	ok           bool
	thing, state string // of the fault
	mend         func() error
}

func mend(properties []property) error {
	for _, p := range properties {
		if p.ok {
			continue
		}
		if err := p.mend(); err != nil {
			return err
		}
	}
	return nil
}

// Faults lists what the bridge lacks; Ensure mends it.
func (b Bridge) Faults(h *host.Host, s *model.Shared) (found []model.Fault, err error) {
	if b.Index == 0 {
		return []model.Fault{{Thing: "bridge " + s.Bridge, State: model.Missing}}, nil
	}
	var routes []rtnl.Route
	if len(s.HostRoutes()) > 0 && b.Gateway.Index != 0 {
		if routes, err = h.Routes(unix.AF_INET6, b.Gateway.Index); err != nil {
			return nil, err
		}
	}
	for _, p := range append(b.properties(h, s), b.gatewayProperties(h, s, routes)...) {
		if !p.ok {
			found = append(found, model.Fault{Thing: p.thing, State: p.state})
		}
	}
	return found, nil
}

// properties lists those of the bridge itself, in the order in which they are mended.
func (b Bridge) properties(h *host.Host, s *model.Shared) []property {
	bridge, promisc := "bridge "+s.Bridge, s.PromiscMode && b.Flags&unix.IFF_PROMISC == 0
	raise := func() error { return h.SetLink(b.Link, rtnl.LinkChange{Up: true, Promisc: promisc}) }
	return []property{
		{b.Up(), bridge, "down", raise},
		{!promisc, bridge, "not promiscuous", raise},
		{!s.SpoofCheck || !b.LearnsLinkLocal, "no_linklocal_learn of " + bridge, "off",
			func() error { return h.SetNoLinkLocalLearn(b.Link) }},
		{!s.VLANs.Any() || b.VLANFiltering, "VLAN filtering of " + bridge, "off",
			func() error { return vlan.Filter(h, b.Link) }},
		{!b.lacksGateway(s), "interface " + s.GatewayName(), model.Missing,
			func() error { return vlan.MakeGateway(h, &s.Network, b.MTU) }},
	}
}

// lacksGateway reports that the interface which leads into a VLAN is missing, and needed.
func (b Bridge) lacksGateway(s *model.Shared) bool {
	return b.Gateway.Index == 0 && len(s.GatewayPrefixes()) > 0
}

// gatewayProperties lists those of the interface with the gateway addresses. routes are
// the routes by that interface; the kernel rejects one that is added twice.
func (b Bridge) gatewayProperties(h *host.Host, s *model.Shared, routes []rtnl.Route) []property {
	gw := b.Gateway
	if gw.Index == 0 {
		return nil
	}
	list := []property{
		{gw.Up() || gw.Index == b.Index, "interface " + gw.Name, "down",
			func() error { return portError(b.Name, vlan.RaiseGateway(h, &s.Network, b.Link, gw)) }},
		{gw.Group == s.Group(), "interface " + gw.Name, fmt.Sprintf("in the group %d and not %d", gw.Group, s.Group()),
			func() error { return h.SetLink(gw, rtnl.LinkChange{Group: s.Group()}) }},
	}
	for _, p := range b.missing(s) {
		list = append(list, property{false, fmt.Sprintf("address %s of %s", p, gw.Name), model.Missing,
			func() error { return b.addGateway(h, s, p) }})
	}
	for _, subnet := range s.HostRoutes() {
		ok := slices.ContainsFunc(routes, func(r rtnl.Route) bool { return r.Dst == subnet && !r.Gateway.IsValid() })
		list = append(list, property{ok, fmt.Sprintf("the host's route to %s by %s", subnet, gw.Name), model.Missing,
			func() error { return host.UnlessExists(h.AddRoute(rtnl.Route{Dst: subnet, Index: gw.Index})) }})
	}
	return append(list, property{!b.lacksLinkLocal(s), "the IPv6 link-local address of " + gw.Name, model.Missing,
		func() error {
			own := netip.PrefixFrom(model.HardwareAddr(gw.MAC).LinkLocal(), 64)
			return host.UnlessExists(h.AddAddress(gw, own, false))
		}})
}

// missing lists the gateway addresses that the host does not have by the bridge.
func (b Bridge) missing(s *model.Shared) []netip.Prefix {
	return slices.DeleteFunc(s.GatewayPrefixes(), func(p netip.Prefix) bool {
		return slices.ContainsFunc(b.Addrs, func(a rtnl.Addr) bool { return a.Prefix == p })
	})
}

// conflict reports what somebody else has set and Ensure does not replace.
func (b Bridge) conflict(s *model.Shared) (err error) {
	gw, group := b.Gateway, s.Group()
	if !slices.Contains([]uint32{group, 0, model.GroupIsolated, model.GroupOpen}, gw.Group) {
		err = model.Errorf(model.ErrConflict, "interface %s is in the group %d and must be in %d", gw.Name, gw.Group, group)
	}
	if s.ForceAddress || len(s.Former) > 0 {
		return err
	}
	for _, want := range b.missing(s) {
		for _, have := range b.inTheWay(s, want) {
			err = errors.Join(err, model.Errorf(model.ErrConflict,
				"bridge %s has the address %s and not %s (forceAddress would replace it)", b.Name, have, want))
		}
	}
	return err
}

// addGateway gives the host a gateway address, in place of those that are in its way.
func (b Bridge) addGateway(h *host.Host, s *model.Shared, gateway netip.Prefix) error {
	inTheWay := b.inTheWay(s, gateway)
	for _, have := range inTheWay {
		if err := h.DeleteAddress(b.Gateway, have); err != nil {
			return err
		}
	}
	// A bridge that somebody else made may lead to the host's own router: if the host has
	// learned a route or address by its advertisements, it goes on listening.
	var learned []int
	var err error
	if !b.ours() {
		learned, err = h.Advertised()
	}
	if err == nil && !slices.Contains(learned, b.Gateway.Index) {
		err = settleIPv6(h, b.Gateway.Name)
	}
	if err == nil {
		err = host.UnlessExists(h.AddAddress(b.Gateway, gateway, false))
	}
	for _, have := range inTheWay {
		if err == nil {
			h.Say(fmt.Errorf("%s has the address %s in place of %s", b.Gateway.Name, gateway, have))
		} else { // running containers may need it
			err = errors.Join(err, h.AddAddress(b.Gateway, have, false))
		}
	}
	if err == nil || gateway.Addr().Is4() {
		return err
	}
	return cmp.Or(ready6(h, b.Gateway), host.Lacking("CONFIG_IPV6", err)) // no module serves that family
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

// inTheWay lists the addresses that the bridge has instead of one that it lacks: other
// IPv4 addresses, and IPv6 addresses of the same subnet; or those of the host's former
// subnet.
func (b Bridge) inTheWay(s *model.Shared, want netip.Prefix) (found []netip.Prefix) {
	own := append(s.GatewayPrefixes(), s.Gateways()...)
	for _, a := range b.Addrs {
		have := a.Prefix
		if len(s.Former) > 0 && !slices.Contains(s.Former, have) {
			continue
		}
		if have.Addr().Is4() == want.Addr().Is4() && !have.Addr().IsLinkLocalUnicast() &&
			(have.Addr().Is4() || have.Overlaps(want) || len(s.Former) > 0) && !slices.Contains(own, have) {
			found = append(found, have)
		}
	}
	return found
}

// announce makes neighbours that know addresses of a link by another MAC learn it anew
// (arp_notify and ndisc_notify of Documentation/networking/ip-sysctl.rst). Setting the
// MAC that the link has is what triggers it.
func announce(c *rtnl.Conn, d sysctl.Dir, l rtnl.Link, addrs []netip.Addr) (err error) {
	for _, a := range addrs {
		name := filepath.Join("net/ipv4/conf", l.Name, "arp_notify")
		if a.Is6() {
			name = filepath.Join("net/ipv6/conf", l.Name, "ndisc_notify")
		}
		err = errors.Join(err, host.IfPossible(d.Ensure(name, "1")))
	}
	return errors.Join(err, c.SetLink(l, rtnl.LinkChange{MAC: l.MAC}))
}

// AnnounceGateways announces the gateways to containers, which may know them by the MAC
// of an earlier bridge.
func AnnounceGateways(h *host.Host, br Bridge, s *model.Shared) error {
	var gateways []netip.Addr
	for _, p := range s.GatewayPrefixes() {
		gateways = append(gateways, p.Addr())
	}
	if len(gateways) == 0 { // and so, in a VLAN, no interface that could have one
		return nil
	}
	return announce(h.Conn, h.Sysctl, br.Gateway, gateways)
}

// Fresh returns those of the network's subnets that the bridge has no address in yet.
func (b Bridge) Fresh(n *model.Network) (subnets []netip.Prefix) {
	for _, p := range n.Subnets {
		if !slices.ContainsFunc(b.Addrs, func(a rtnl.Addr) bool {
			return p.Contains(a.Prefix.Addr()) || p.Gateway == a.Prefix.Addr()
		}) {
			subnets = append(subnets, p.Prefix)
		}
	}
	return subnets
}

// maxPorts is what find_portno of net/bridge/br_if.c gives out: BR_MAX_PORTS
// numbers, less 0.
const maxPorts = 1<<10 - 1

// portError explains why a link can't be made a port of a bridge.
func portError(bridge string, err error) error {
	switch {
	case errors.Is(err, unix.EXFULL):
		return model.Errorf(model.ErrConflict, "bridge %s has %d ports, and Linux allows no more", bridge, maxPorts)
	case err != nil:
		return fmt.Errorf("bridge %s: %w", bridge, err)
	}
	return nil
}

// Ready reports what on the host Ensure and Connect would stumble over, as far as it can
// be seen beforehand, in the words in which ADD explains the kernel's errors.
func Ready(h *host.Host, br Bridge, n *model.Network) error {
	s := &model.Shared{Network: *n, Served: n.Subnets}
	errs := []error{br.conflict(s)}
	if br.Index != 0 {
		links, err := h.Ports(br.Index)
		if len(links) >= maxPorts {
			err = portError(br.Name, unix.EXFULL)
		}
		errs = append(errs, err)
	}
	errs = append(errs,
		host.Lacking("CONFIG_BRIDGE", h.CheckKind("bridge")),
		host.Lacking("CONFIG_VETH", h.CheckKind("veth")))
	if s.Forwards(false) {
		errs = append(errs, ready6(h, br.Gateway))
	}
	return errors.Join(errs...)
}

// ready6 reports what keeps an interface, or one that has to be made yet, from having an
// IPv6 gateway address.
func ready6(h *host.Host, gw rtnl.Link) error {
	if gw.Index != 0 && gw.MTU < model.MinMTU6 {
		return model.Errorf(model.ErrConflict, "interface %s has the MTU %d, and IPv6 needs %d", gw.Name, gw.MTU, model.MinMTU6)
	}
	disable := filepath.Join("net/ipv6/conf", cmp.Or(gw.Name, "default"), "disable_ipv6")
	v, err := h.Sysctl.Get(disable)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return model.Unsupported("CONFIG_IPV6")
	case err == nil && v != "0":
		return model.Errorf(model.ErrConflict, "the host has disabled IPv6, which the network needs: sysctl %s must be 0", disable)
	}
	return err
}
