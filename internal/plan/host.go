package plan

import (
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"flatnet/bridge"
	"flatnet/bridge/forward"
	"flatnet/bridge/host"
	"flatnet/bridge/link"
	"flatnet/bridge/model"
	"flatnet/bridge/ports"
	"flatnet/bridge/records"
	"flatnet/bridge/vlan"
	"flatnet/internal/dns"
	"flatnet/internal/engine"
	"flatnet/internal/nft"
	"flatnet/ipam"
	"flatnet/rtnl"
)

// A dryHost takes the place of the host below the engine. Its Add makes nothing: it returns
// what would be made, and records it in a plan.
type dryHost struct {
	*bridge.Host
	plan *Plan
}

var _ engine.Host = (*dryHost)(nil)

// Delete is called by a door that could not reply. There is nothing to undo.
func (*dryHost) Delete(model.Key, model.Allocator, bool) error { return nil }

// Add follows [bridge.Host.Add] and makes the same queries in the same order. The results of
// those that the caller is not permitted to make stay unknown.
func (h *dryHost) Add(n *model.Network, r *model.Request, alloc model.Allocator, last func(*model.Result) error) (res model.Result, err error) {
	defer func() { h.plan.failed = err }()
	if err := n.CheckRequest(r); err != nil {
		return res, err
	}
	c, err := host.Open(h.plan.warn)
	if err != nil {
		return res, err
	}
	defer c.Close()
	wanted := n.MTU
	br, n, err := bridge.Look(c, n, r, records.Own(h.plan.warn).Dry(true).Attachment)
	if err != nil {
		return res, err
	}
	lease, err := h.lease(n, r, alloc, c.Locals(br.Gateway, br.Addrs))
	if err != nil {
		return res, err
	}
	a, err := planned(n, r, &lease)
	if err != nil {
		return res, err
	}
	end, err := hostEnd(c, a)
	if err == nil {
		a.HostEnd = end
		err = h.obstacles(c, br, a)
	}
	if err != nil {
		return res, err
	}
	for i := range a.Routes {
		a.Routes[i].Priority = a.MetricOf(a.Routes[i])
	}
	h.note(c, br, a, wanted)
	h.status(n, alloc)
	if br.Index == 0 {
		br.Link = rtnl.Link{Name: a.Bridge, MTU: a.MTU}
	}
	res = link.Result(a, br, rtnl.Link{Name: end, MTU: a.MTU}, r.NetNS)
	if res.DNS = n.DNS; res.DNS.Empty() {
		res.DNS = lease.DNS
	}
	return res, last(&res)
}

// lease returns the lease that an Add would get, without addresses if it is unknown.
func (h *dryHost) lease(n *model.Network, r *model.Request, alloc model.Allocator, locals model.Locals) (model.Lease, error) {
	switch _, own := alloc.(*ipam.Store); {
	case n.NoAddress:
		return model.Lease{}, nil
	case !own:
		h.plan.unknown("addresses", errors.New("another plugin leases them (ipam.type), and is not called"))
		return model.Lease{}, nil
	}
	l, err := alloc.Lease(r.Key, r.IPs, locals)
	return l, h.plan.allowed("addresses", err)
}

// planned returns [model.Plan] or, if the addresses are unknown, the plan of the rest.
func planned(n *model.Network, r *model.Request, l *model.Lease) (*model.Attachment, error) {
	if len(l.Addresses) > 0 || n.NoAddress {
		return model.Plan(n, r, l)
	}
	later := *n
	later.LinkFirst = true
	a, err := model.Plan(&later, r, l)
	if err != nil {
		return nil, err
	}
	if a.LinkFirst = n.LinkFirst; !n.LinkFirst && r.MAC == (model.HardwareAddr{}) {
		a.MAC = model.HardwareAddr{} // it follows from the address
	}
	a.Served = n.Subnets // as far as they are known
	return a, nil
}

// hostEnd returns the name that the host end of the pair would get.
func hostEnd(c *host.Host, a *model.Attachment) (string, error) {
	own := a.Key.HostNames()
	names := own[:]
	if a.HostEnd != "" {
		names = []string{a.HostEnd}
	}
	for _, name := range names {
		l, err := c.LinkByName(name)
		if err != nil || l.Index == 0 || host.Owns(a.Key, l) { // an earlier one would be removed
			return name, err
		}
	}
	return "", model.Errorf(model.ErrConflict, "interfaces %v of the host belong to others", names)
}

// obstacles returns the errors that an Add would meet while it makes things.
func (h *dryHost) obstacles(c *host.Host, br link.Bridge, a *model.Attachment) error {
	n := a.Network
	err := h.plan.allowed("what the kernel can do", errors.Join(link.Ready(c, br, &n), vlan.Ready(c, &n)))
	if err == nil {
		err = h.plan.allowed("sysctls", forward.Ready(c, &a.Shared, br.Gateway.Index != 0))
	}
	if err == nil && len(a.Ports) > 0 {
		err = h.plan.allowed("published ports of others", h.takenPort(c, a))
	}
	c.Say(forward.CheckUplink(c, &a.Shared))
	c.Say(ports.CheckIsolated(c, a))
	return err
}

// takenPort returns an error about a port that another container has published: it fills the
// transaction, which only queries, and does not commit it.
func (h *dryHost) takenPort(c *host.Host, a *model.Attachment) error {
	rules, err := c.Rules()
	if err != nil {
		return err
	}
	addrs, err := c.Addrs()
	if err != nil {
		return err
	}
	_, err = ports.Put(&host.Tx{Conn: rules, Batch: &nft.Batch{}}, a, addrs, records.Own(h.plan.warn).Dry(true).Gone(c))
	return err
}

// note records in the plan what the attachment is, and what an Add would change on the host.
func (h *dryHost) note(c *host.Host, br link.Bridge, a *model.Attachment, wanted uint32) {
	p := h.plan
	changes, err := h.Lacks(a)
	p.Changes = slices.DeleteFunc(changes, func(f model.Fault) bool { return f.Link == a.HostEnd })
	if err = p.allowed("rules", err); err != nil {
		p.warn(err.Error())
	}
	p.Changes = append(p.Changes, settings(c, br, a)...)
	p.Attachment, p.BridgeExists = a, br.Index != 0
	p.Hairpin = a.HairpinMode || ports.NeedsHairpin(c, a)
	for _, prefix := range a.GatewayPrefixes() {
		there := slices.ContainsFunc(br.Addrs, func(addr rtnl.Addr) bool { return addr.Prefix == prefix })
		p.Gateways = append(p.Gateways, gateway{prefix, there})
	}
	switch {
	case wanted != 0:
		p.MTUFrom = "as configured"
	case a.MTU == 0:
		p.MTUFrom = "the kernel's default, as the host has no default route"
	default:
		p.MTUFrom = "that of the default route's device"
		if inherited, err := link.InheritedMTU(c); a.Spans && err == nil && a.MTU != inherited {
			p.MTUFrom = "that of the way to other hosts"
		}
	}
}

// status records the result of STATUS, which also checks for what later gets in the way of
// attachments.
func (h *dryHost) status(n *model.Network, alloc model.Allocator) {
	if _, own := alloc.(*ipam.Store); !own || n.NoAddress {
		alloc = engine.Unleased{Allocator: alloc}
	}
	known := len(h.plan.Unknown)
	if err := h.plan.allowed("STATUS", h.Status(n, alloc)); err != nil {
		h.plan.Status, h.plan.status = strings.ReplaceAll(err.Error(), "\n", "; "), err
	}
	h.plan.StatusUnknown = len(h.plan.Unknown) > known
}

// dryNames takes the place of the server of container names, which is not contacted.
type dryNames struct{ dns.Server }

// Add returns where the record would be served.
func (n *dryNames) Add(r dns.Record) (servers []string, err error) {
	if n.Installed() && len(r.Addresses) > 0 && len(r.Listen) > 0 {
		servers = strings.Split(model.JoinAddrs(r.Listen), ",")
	}
	return servers, nil
}

// Remove removes nothing.
func (*dryNames) Remove(model.Key) error { return nil }

// Keep removes nothing.
func (*dryNames) Keep(string, []model.Key) error { return nil }

// allowed returns err, unless it only means that the caller lacks permission: then it records
// what as unknown.
func (p *Plan) allowed(what string, err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	var rest error
	if joined, ok := err.(interface{ Unwrap() []error }); ok && strings.Contains(err.Error(), "\n") {
		for _, e := range joined.Unwrap() {
			rest = errors.Join(rest, p.allowed(what, e))
		}
		return rest
	}
	p.unknown(what, err)
	return nil
}

func (p *Plan) unknown(what string, why error) {
	text := what + ": " + why.Error()
	if !slices.Contains(p.Unknown, text) {
		p.Unknown = append(p.Unknown, text)
	}
}

// A gateway is a gateway address, and whether the host has it already.
type gateway struct {
	netip.Prefix
	there bool
}
