package bridge

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
)

// An Attachment is everything that one ADD makes, as a plain value: ADD
// applies it and CHECK compares the kernel with it.
type Attachment struct {
	Key       Key
	MAC       HardwareAddr // of the container's interface
	MTU       uint32       // of both ends; 0 is the kernel's default
	Addresses []Address
	Routes    []Route // each with its gateway, if it has any

	Bridge       string
	BridgeMAC    HardwareAddr   // of a bridge that is to be made; zero: any
	Gateways     []netip.Prefix // addresses of the bridge
	Routed       []netip.Prefix // subnets that no address of the bridge leads to: the host has routes there
	Siblings     []netip.Prefix // those that it may have for the network's other subnets
	ForceAddress bool
	PromiscMode  bool
	HairpinMode  bool
	VLANs        VLANs
	NoAddress    bool
	DAD          bool
	AcceptRA     bool
	Group        uint32 // of the bridge
	Firewall     []Firewall
	Ports        []Publication
	SpoofCheck   bool
	Bandwidth    Bandwidth
	PortIsolated bool // IFLA_BRPORT_ISOLATED
	Forward4     bool // net.ipv4.ip_forward
	Forward6     bool // net.ipv6.conf.all.forwarding
}

// Plan says what a request with a lease makes of a network. It touches nothing.
// n.MTU is the resolved one.
func Plan(n Network, r Request, l Lease) (Attachment, error) {
	if len(l.Addresses) == 0 && !n.LinkFirst && !n.NoAddress {
		return Attachment{}, fmt.Errorf("address management gave no address to %s: %w", r.Key, ErrInvalid)
	}
	a := n.common()
	a.Key, a.MAC, a.Bandwidth = r.Key, r.MAC, r.Bandwidth
	gateway := map[bool]netip.Addr{} // of the first address of each family, by Is4
	for _, addr := range l.Addresses {
		is4 := addr.Prefix.Addr().Is4()
		if n.IsGateway && n.LinkFirst && !addr.Gateway.IsValid() {
			addr.Gateway = addr.Prefix.Masked().Addr().Next() // as the reference has it
		}
		if n.IsGateway && addr.Gateway == addr.Prefix.Addr() {
			return Attachment{}, fmt.Errorf("address %s of %s is the gateway's: %w", addr.Gateway, r.Key, ErrInvalid)
		}
		if err := checkMTU(n.MTU, addr.Prefix.Addr()); err != nil {
			return Attachment{}, err
		}
		a.Addresses = append(a.Addresses, addr)
		if _, ok := gateway[is4]; !ok {
			gateway[is4] = addr.Gateway
		}
		a.Firewall = append(a.Firewall, n.firewall(addr.Prefix.Masked(), addr.Gateway))
		if n.IsGateway && addr.Gateway.IsValid() {
			a.serve(addr.Prefix.Masked(), addr.Gateway)
		}
	}
	a.Firewall = append(a.Firewall, n.firewall(netip.Prefix{}, netip.Addr{}))
	var err error
	if a.Ports, err = publications(r.Ports, a.Addresses); err != nil {
		return Attachment{}, err
	}
	a.Routes = resolve(slices.Concat(n.Routes, l.Routes), gateway)
	if n.IsDefaultGateway && !n.Internal {
		a.addDefaultRoutes(gateway)
	}
	switch {
	case a.MAC != (HardwareAddr{}):
	case n.LinkFirst || n.NoAddress:
		a.MAC = r.Key.containerMAC()
	default:
		a.MAC = addressMAC(a.Addresses[0].Prefix.Addr())
	}
	return a, a.owner().checkAlias()
}

// common is what all of the network's attachments have in common, but for what
// follows from their addresses.
func (n Network) common() Attachment {
	return Attachment{
		Key: Key{Network: n.Name}, MTU: n.MTU, Bridge: n.Bridge, VLANs: n.VLANs, Group: groupOf(n.Isolated),
		Siblings: n.gateways(), ForceAddress: n.ForceAddress, PromiscMode: n.PromiscMode,
		HairpinMode: n.HairpinMode, PortIsolated: n.PortIsolated, SpoofCheck: n.SpoofCheck,
		NoAddress: n.NoAddress, DAD: n.DAD, AcceptRA: n.AcceptRA,
	}
}

// checkRequest finds out before anything is touched what can't be had of the
// network, as far as its subnets tell: with another plugin's leases, none do.
func (n Network) checkRequest(r Request) error {
	if len(n.Subnets) == 0 {
		return nil
	}
	var addrs []Address
	direct := false // routes may make other gateways reachable
	for _, p := range n.prefixes() {
		addrs = append(addrs, Address{Prefix: p})
	}
	if _, err := publications(r.Ports, addrs); err != nil {
		return err
	}
	for _, route := range n.Routes {
		direct = direct || route.narrow()
	}
	for _, route := range n.Routes {
		inside := func(s Subnet) bool { return s.Contains(route.Gateway) || s.Gateway == route.Gateway }
		if route.Gateway.IsValid() && !direct && !slices.ContainsFunc(n.Subnets, inside) {
			return fmt.Errorf("gateway %s of the route to %s is in none of the network's subnets: %w", route.Gateway, route.Dst, ErrInvalid)
		}
	}
	return nil
}

// addressMAC is the MAC that goes with an address unless another is asked for.
// Since an address always comes with the same MAC, neighbour caches stay right when
// the address gets a new owner. An IPv4 address is in it as it is, an IPv6 address as
// a hash (FNV-1a), since those of several subnets may differ in their prefixes only.
func addressMAC(a netip.Addr) HardwareAddr {
	mac := HardwareAddr{0x0a, 0x57} // locally administered, unicast
	if a.Is4() {
		copy(mac[2:], a.AsSlice())
		return mac
	}
	h := fnv.New64a()
	h.Write(a.AsSlice())
	copy(mac[1:], h.Sum(nil))
	return mac
}

// firewall is that of a subnet, or without one of the bridge.
func (n Network) firewall(subnet netip.Prefix, gateway netip.Addr) Firewall {
	return Firewall{
		Network: n.Name, Bridge: n.VLANs.gatewayName(n.Bridge), Subnet: subnet, Gateway: gateway, Flat: n.Flat,
		IPMasq: n.IPMasq, Internal: n.Internal, Isolated: n.Isolated, PortIsolated: n.PortIsolated, PublishedOnly: n.PublishedOnly,
		ForwardAccept: n.ForwardAccept, ServesDNS: n.ServesDNS && n.IsGateway,
	}
}

// serve gives the bridge the gateway of a subnet.
func (a *Attachment) serve(subnet netip.Prefix, gateway netip.Addr) {
	a.addGateway(gatewayIn(subnet, gateway))
	if isOutside(subnet, gateway) && !slices.Contains(a.Routed, subnet) {
		a.Routed = append(a.Routed, subnet)
	}
}

func (a *Attachment) addGateway(p netip.Prefix) {
	if slices.Contains(a.Gateways, p) {
		return
	}
	a.Gateways = append(a.Gateways, p)
	a.Forward4 = a.Forward4 || p.Addr().Is4()
	a.Forward6 = a.Forward6 || p.Addr().Is6()
}

// resolve fills in the gateway of routes that name none.
func resolve(routes []Route, gateway map[bool]netip.Addr) []Route {
	for i, r := range routes {
		if !r.Gateway.IsValid() && !r.narrow() {
			routes[i].Gateway = gateway[r.Dst.Addr().Is4()]
		}
	}
	return routes
}

// addDefaultRoutes adds a default route for each family that has a gateway and
// no default route of its own.
func (a *Attachment) addDefaultRoutes(gateway map[bool]netip.Addr) {
	for _, all := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		dst, gw := netip.PrefixFrom(all, 0), gateway[all.Is4()]
		has := slices.ContainsFunc(a.Routes, func(r Route) bool { return r.Dst == dst && r.Table == nil })
		if gw.IsValid() && !has {
			a.Routes = append(a.Routes, Route{Dst: dst, Gateway: gw})
		}
	}
}

// owner is what the attachment's alias says.
func (a Attachment) owner() Owner {
	o := Owner{Key: a.Key, Mark: a.Key.Mark()}
	for _, addr := range a.Addresses {
		o.Addresses = append(o.Addresses, addr.Prefix.Addr())
	}
	return o
}
