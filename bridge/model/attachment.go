package model

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"strings"

	"flatnet/internal/metric"
)

// A Shared is what a network's attachments have in common on the host.
type Shared struct {
	Network          // with the resolved MTU
	Served  []Subnet // those in which attachments have addresses
	// BridgeMAC is of a bridge that is to be made; zero: any. It is the bridge's own
	// in a record.
	BridgeMAC HardwareAddr
}

// An Attachment is everything that one ADD makes, as a plain value.
type Attachment struct {
	Shared
	Key       Key
	MAC       HardwareAddr // of the container's interface
	Addresses []Address
	Routes    []Route // each with its gateway, if it has any
	Ports     []Publication
	ByHand    bool // Ports are as package publish changed them, not as the runtime asked
	Bandwidth Bandwidth
	HostEnd   string // name of the veth pair's end on the host; at first the wanted one, if any
	Rank      uint32 // the default route's metric: of a container's networks, that with the lowest gets ports
}

// A Survey is what a host shows of one network that has attachments.
type Survey struct {
	Shared                    // no more than its name, unless it is recorded
	Recorded    bool          // a reload can restore it
	Attachments []*Attachment // those that are not recorded have no MAC
	Faults      error         // what a deep look found missing
}

// routed returns the served subnets that the bridge leads to: those of the
// configuration, if it has any. One that it no longer has may have containers left.
func (s *Shared) routed() []Subnet {
	return slices.DeleteFunc(slices.Clone(s.Served), func(sub Subnet) bool {
		return len(s.Subnets) > 0 && !slices.ContainsFunc(s.Subnets, func(o Subnet) bool {
			return o.Masked() == sub.Prefix && o.Gateway == sub.Gateway
		})
	})
}

// GatewayPrefixes returns the addresses that the bridge has.
func (s *Shared) GatewayPrefixes() []netip.Prefix { return s.gatewaysOf(s.routed()) }

// HostRoutes returns the subnets that no address of the bridge leads to, because their
// gateway is link-local: the host has routes there.
func (s *Shared) HostRoutes() (all []netip.Prefix) {
	for _, sub := range s.routed() {
		if s.IsGateway && sub.gatewayOutside() {
			all = append(all, sub.Prefix)
		}
	}
	return all
}

// Forwards reports whether the host forwards for the network in IPv4, or else IPv6.
func (s *Shared) Forwards(is4 bool) bool {
	return slices.ContainsFunc(s.GatewayPrefixes(), func(p netip.Prefix) bool { return p.Addr().Is4() == is4 })
}

// Serve adds a subnet. It takes the place of one whose gateway has changed: rules are
// the subnet's.
func (s *Shared) Serve(sub Subnet) {
	sub.Prefix = sub.Masked()
	i := slices.IndexFunc(s.Served, func(o Subnet) bool { return o.Prefix == sub.Prefix })
	if i < 0 {
		s.Served = append(s.Served, sub)
	} else {
		s.Served[i] = sub
	}
}

// Plan derives an attachment from a network, whose MTU is the resolved one, a request
// and a lease. Without a lease it is the attachment of a network whose addresses are
// leased when the link is there.
func Plan(n *Network, r *Request, l *Lease) (*Attachment, error) {
	if len(l.Addresses) == 0 && !n.LinkFirst && !n.NoAddress {
		return nil, Errorf(ErrInvalid, "address management gave no address to %s", r.Key)
	}
	a := &Attachment{Shared: Shared{Network: *n}, Key: r.Key, MAC: r.MAC, Bandwidth: r.Bandwidth, HostEnd: r.HostEnd}
	for _, addr := range l.Addresses {
		if n.IsGateway && n.LinkFirst && !addr.Gateway.IsValid() {
			addr.Gateway = addr.Masked().Addr().Next() // as the reference has it
		}
		if n.IsGateway && addr.Gateway == addr.Addr() {
			return nil, Errorf(ErrInvalid, "address %s of %s is the gateway's", addr.Gateway, r.Key)
		}
		a.Addresses = append(a.Addresses, addr)
		a.Serve(addr)
	}
	var err error
	a.Ports, err = Publications(r.Ports, a.Addresses)
	if err = cmp.Or(n.checkMTU(a.Addresses), err); err != nil {
		return nil, err
	}
	a.addRoutes(l.Routes)
	a.SetRank()
	switch {
	case a.MAC != (HardwareAddr{}):
	case n.LinkFirst || n.NoAddress:
		a.MAC = r.Key.containerMAC()
	default:
		a.MAC = addressMAC(a.Addresses[0].Addr())
	}
	return a, a.Owner().checkAlias()
}

// addRoutes adds the network's routes and those of a lease, each with its gateway, and
// a default route for each family that has a gateway and no default route of its own.
func (a *Attachment) addRoutes(leased []Route) {
	for _, r := range slices.Concat(a.Network.Routes, leased) {
		if !r.Gateway.IsValid() && !r.Narrow() && r.Type == 0 {
			r.Gateway = firstOf(a.Addresses, r.Dst.Addr().Is4()).Gateway
		}
		a.Routes = append(a.Routes, r)
	}
	if !a.IsDefaultGateway || a.Internal {
		return
	}
	for _, is4 := range []bool{true, false} {
		first := firstOf(a.Addresses, is4)
		dst := netip.PrefixFrom(Unspecified(first.Addr()), 0)
		has := slices.ContainsFunc(a.Routes, func(r Route) bool { return r.Dst == dst && r.Table == nil && r.Type == 0 })
		if first.Gateway.IsValid() && !has {
			a.Routes = append(a.Routes, Route{Dst: dst, Gateway: first.Gateway})
		}
	}
}

// SetRank sets Rank to the lowest metric of a default route. Without any it is the
// highest there is for an internal network, and the one before for others.
func (a *Attachment) SetRank() {
	lowest := uint32(math.MaxUint32)
	if !a.Internal {
		lowest--
	}
	for _, r := range a.Routes {
		if r.Dst.Bits() == 0 && r.Table == nil && r.Type == 0 {
			lowest = min(lowest, cmp.Or(a.MetricOf(r), 1))
		}
	}
	a.Rank = lowest
}

// ByRank orders attachments by which is the first to get a port that several publish.
func ByRank(a, b *Attachment) int {
	return cmp.Or(cmp.Compare(a.Rank, b.Rank), strings.Compare(a.Key.String(), b.Key.String()))
}

// MetricOf returns the metric of a route of the container.
func (a *Attachment) MetricOf(r Route) uint32 {
	return cmp.Or(r.Priority, a.Metric, metric.Of(a.Key.IfName))
}

// CheckRequest rejects, before anything is touched, what can't be had of the network, as
// far as its subnets show: with another plugin's leases, none do.
func (n *Network) CheckRequest(r *Request) error {
	if len(n.Subnets) == 0 {
		return nil
	}
	_, err := Publications(r.Ports, n.Subnets)
	if err = cmp.Or(n.checkMTU(n.Subnets), err); err != nil {
		return err
	}
	direct := slices.ContainsFunc(n.Routes, Route.Narrow) // routes may make other gateways reachable
	for _, route := range n.Routes {
		inside := func(s Subnet) bool { return s.Contains(route.Gateway) || s.Gateway == route.Gateway }
		if route.Gateway.IsValid() && !direct && !slices.ContainsFunc(n.Subnets, inside) {
			return Errorf(ErrInvalid, "gateway %s of the route to %s is in none of the network's subnets", route.Gateway, route.Dst)
		}
	}
	return nil
}

// IPs returns the addresses without their subnets.
func (a *Attachment) IPs() (ips []netip.Addr) {
	for _, addr := range a.Addresses {
		ips = append(ips, addr.Addr())
	}
	return ips
}

// Owner is what the attachment's alias says.
func (a *Attachment) Owner() Owner {
	return Owner{Key: a.Key, Mark: a.Key.Mark(), Addresses: a.IPs()}
}
