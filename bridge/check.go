package bridge

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"flatnet/bridge/antispoof"
	"flatnet/bridge/conflict"
	"flatnet/bridge/firewall"
	"flatnet/bridge/foreign"
	"flatnet/bridge/forward"
	"flatnet/bridge/host"
	"flatnet/bridge/link"
	"flatnet/bridge/mirrored"
	"flatnet/bridge/model"
	"flatnet/bridge/peers"
	"flatnet/bridge/ports"
	"flatnet/bridge/records"
	"flatnet/bridge/shaping"
	"flatnet/bridge/upkeep"
	"flatnet/bridge/vlan"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// Check compares an attachment with the result of ADD (prev), with the network's
// configuration and with the kernel, and reports everything that is missing. What later
// plugins of the chain added is not looked at.
func (h *Host) Check(n *model.Network, r *model.Request, prev *model.Result, alloc model.Allocator) error {
	ifc, lease, err := attachmentIn(prev, r.Key.IfName)
	if err != nil {
		return err
	}
	a, err := model.Plan(n, r, &lease)
	if err != nil {
		return err
	}
	if mac, err := model.ParseHardwareAddr(ifc.MAC); err == nil {
		a.MAC = mac // as ADD gave it, which an earlier version may have chosen in another way
	}
	c, done, err := h.inTurn(r.Key)
	if err != nil {
		return err
	}
	defer done()
	c.thorough = true
	recorded := cmp.Or(c.records.Attachment(r.Key), &model.Attachment{})
	if recorded.ByHand {
		a.Ports, a.ByHand = recorded.Ports, true
	}
	if !n.NoAddress {
		err = alloc.Check(r.Key, a.IPs())
	}
	c.records.Recall(&a.Shared)
	links, lerr := c.Ends(r.Key)
	errs := []error{lerr, c.checkContainer(r.NetNS, a, links, prev.Routes), err}
	var all []records.End
	if len(links) == 0 {
		errs = append(errs, model.Errorf(model.ErrChanged, "host interface of %s (%s) is missing", r.Key, r.Key.HostNames()[0]))
	} else {
		a.HostEnd = links[0].Name
		all = []records.End{{Attachment: a, Link: links[0], MadeMTU: recorded.MTU}}
	}
	return errors.Join(append(errs, c.report(&a.Shared, all))...)
}

func (c *call) checkContainer(netns string, a *model.Attachment, ends []rtnl.Link, routes []model.Route) error {
	inside, err := link.Enter(netns)
	if err != nil {
		return err
	}
	defer inside.Close()
	return inside.Check(c.Host, a, ends, routes)
}

// attachmentIn finds in a result what it says of the container's interface.
func attachmentIn(res *model.Result, ifName string) (model.Interface, model.Lease, error) {
	i := slices.IndexFunc(res.Interfaces, func(i model.Interface) bool {
		return i.Name == ifName && i.Sandbox != ""
	})
	if i < 0 {
		return model.Interface{}, model.Lease{}, model.Errorf(model.ErrInvalid, "prevResult has no interface %q in a sandbox", ifName)
	}
	var l model.Lease
	for _, ip := range res.IPs {
		if ip.Interface == i {
			l.Addresses = append(l.Addresses, model.Address{Prefix: ip.Address, Gateway: ip.Gateway})
		}
	}
	return res.Interfaces[i], l, nil
}

// faults lists what is not as the network and the given attachments need it on the
// host. ADD and a reload mend all of it.
func (c *call) faults(s *model.Shared, ends []records.End) (found []model.Fault, err error) {
	add := func(faults []model.Fault, ferr error) {
		found, err = append(found, faults...), errors.Join(err, ferr)
	}
	br, berr := link.FindBridge(c.Host, &s.Network)
	if berr != nil {
		return nil, berr
	}
	add(br.Faults(c.Host, s))
	add(forward.Faults(c.Host, s, c.records))
	add(peers.Faults(c.Host, s))
	if c.thorough {
		add(upkeep.Faults(c.Host, s, ends))
	}
	vlans, verr := vlan.Ports(c.Host, s.VLANs)
	if verr != nil {
		return found, errors.Join(err, verr)
	}
	var all []*model.Attachment
	for _, e := range ends {
		all = append(all, e.Attachment)
		add(link.PortFaults(br, s, e.Link, ports.NeedsHairpin(c.Host, e.Attachment), vlans), nil)
		add(shaping.Faults(c.Host, e.Attachment, e.Link), nil)
	}
	add(ports.LoopbackFaults(c.Host, all), nil)
	rules, rerr := c.Rules()
	if rerr == nil {
		var faults []model.Fault
		faults, rerr = firewall.Faults(rules, s, firewall.HasIPv6(c.Host))
		add(faults, nil)
	}
	if rerr != nil && (!errors.Is(rerr, model.ErrUnsupported) || firewall.Required(s)) {
		return found, errors.Join(err, rerr)
	}
	if rerr == nil {
		add(ports.Faults(rules, all...))
		add(mirrored.Faults(c.Host, all...))
		add(antispoof.Faults(rules, all))
	}
	return found, err
}

// Lacks lists what the host lacks for an attachment that is still to be made, its interface
// included, and merges what the network's attachments share. It changes nothing.
func (h *Host) Lacks(a *model.Attachment) ([]model.Fault, error) {
	c, err := h.open()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.records.Merge(&a.Shared)
	return c.faults(&a.Shared, []records.End{{Attachment: a, Link: rtnl.Link{Name: a.HostEnd}}})
}

// report returns the faults of attachments as an error that says what mends each: a
// reload does, by what is recorded.
func (c *call) report(s *model.Shared, ends []records.End) error {
	found, err := c.faults(s, ends)
	if len(found) == 0 {
		return err
	}
	advice := "flatnet reload mends that"
	recorded := c.records.Network(s.Name)
	if recorded == nil {
		advice += later
	} else if keys := records.Changed(recorded, s); len(keys) > 0 {
		advice += later + "; it was made with another " + strings.Join(keys, ", ")
	}
	for _, e := range ends {
		r := cmp.Or(c.records.Attachment(e.Key), &model.Attachment{})
		without := antispoof.Without(e.Key)
		i := slices.IndexFunc(found, func(f model.Fault) bool { return f.Thing == without.Thing })
		if i >= 0 && !r.SpoofCheck {
			found[i] = without
		}
		if len(e.Ports) > 0 && !slices.Equal(r.Ports, e.Ports) || e.Bandwidth != (model.Bandwidth{}) && r.Bandwidth != e.Bandwidth {
			advice += ", but not ports and limits of " + e.Key.String() + ", which are not recorded"
		}
	}
	var errs []error
	for _, f := range found {
		f.Advice = cmp.Or(f.Advice, advice)
		errs = append(errs, f)
	}
	return errors.Join(append(errs, err)...)
}

// later is the advice about what is not recorded yet.
const later = " after the network's next ADD, which records it"

// Status reports whether an ADD could succeed (SPEC 1.1.0, section 2). An error
// is [model.ErrUnavailable], or [model.ErrLimited] if containers that are attached
// already are cut off as well. It changes nothing, but notes what the kernel can do.
func (h *Host) Status(n *model.Network, alloc model.Allocator) error {
	c, err := h.open()
	if err != nil {
		return fmt.Errorf("%w: %w", model.ErrUnavailable, err)
	}
	defer c.Close()
	all, err := c.limited(n, alloc, nil)
	if err != nil && !errors.Is(err, unix.EPERM) { // calls may have been under way: look at what none changes
		var keys []model.Key
		for _, e := range all {
			keys = append(keys, e.Key)
		}
		free, _, turns := c.records.Turns(keys)
		all, err = c.limited(n, alloc, func(e records.End) bool { return !slices.Contains(free, e.Key) })
		turns.Close()
	}
	switch {
	case errors.Is(err, unix.EPERM): // only that the caller may not look
		return fmt.Errorf("%w: %w", model.ErrUnavailable, err)
	case err != nil:
		return fmt.Errorf("%w: %w", model.ErrLimited, err)
	}
	complete := len(all) > 0 && len(served(n.Subnets, all)) == len(n.Subnets) // and without faults
	if err := c.available(n, alloc, complete); err != nil {
		return fmt.Errorf("%w: %w", model.ErrUnavailable, err)
	}
	return nil
}

// Vacant is the part of Status that any user may ask for: whether something of the
// host has the network's addresses.
func (h *Host) Vacant(n *model.Network) error {
	c, err := h.open()
	if err != nil {
		return err
	}
	defer c.Close()
	resolved, err := resolve(c.Host, n)
	return errors.Join(err, conflict.Overlap(c.Host, rtnl.Link{}, n, n.Prefixes()), resolved.CheckRequest(&model.Request{}))
}

// limited compares what attachments have and share with what they need, if there are
// any but those to skip, and looks for what of others is in their way. It returns the
// attachments.
func (c *call) limited(n *model.Network, alloc model.Allocator, skip func(records.End) bool) ([]records.End, error) {
	all, err := c.attachedEnds(n, alloc)
	if err != nil {
		return nil, err
	}
	if skip != nil {
		all = slices.DeleteFunc(all, skip)
	}
	if n.Former, n.First, err = conflict.Former(c.Host, n, c.records.Attachment); err != nil {
		return all, err
	}
	s := &model.Shared{Network: *n, Served: n.Subnets}
	if len(all) > 0 {
		shared := &model.Shared{Network: *n, Served: served(n.Subnets, all)} // of several subnets, some may have no container yet
		if err := c.report(shared, all); err != nil {
			return all, err
		}
	}
	if !n.ForwardAccept || len(all) > 0 { // else the next ADD takes care of them
		err = foreign.Check(c.Host, s)
	}
	return all, errors.Join(err, forward.CheckUplink(c.Host, s))
}

// served returns the subnets in which attachments have addresses.
func served(subnets []model.Subnet, ends []records.End) []model.Subnet {
	return slices.DeleteFunc(slices.Clone(subnets), func(sub model.Subnet) bool {
		return !slices.ContainsFunc(ends, func(e records.End) bool { return slices.ContainsFunc(e.IPs(), sub.Contains) })
	})
}

// attachedEnds returns the host ends of containers of a network that may miss
// something. A lease alone does not say so: it outlives a reboot, and an ADD that is
// under way has it before all else. Nor does a link that ADD has not finished. Only with
// neither leases nor a record, each of which may have been lost, no link is looked for.
func (c *call) attachedEnds(n *model.Network, alloc model.Allocator) ([]records.End, error) {
	_, unleased := alloc.(interface{ Unleased() }) // engine.Unleased: of a network that has no attachment yet
	if keys, err := alloc.Keys(); !n.NoAddress && err == nil && len(keys) == 0 && (unleased || c.records.Network(n.Name) == nil) {
		return nil, nil
	}
	links, err := c.Links()
	if err != nil {
		return nil, err
	}
	all, _ := c.records.Ends(&model.Shared{Network: *n}, links) // of what can't be read, a reload reports
	return all, nil
}

// available looks for what an ADD would stumble over: a kernel that lacks something, a
// bridge that is none or has another address, a foreign network in the way. A complete
// network has all its rules.
func (c *call) available(n *model.Network, alloc model.Allocator, complete bool) error {
	br, err := link.FindBridge(c.Host, n)
	if err != nil {
		return err
	}
	resolved, err := resolve(c.Host, n)
	s := &model.Shared{Network: *n, Served: n.Subnets}
	err = errors.Join(err, conflict.Overlap(c.Host, br.Gateway, n, n.Prefixes()), conflict.Shared(c.Host, br.Link, n, n.Prefixes()),
		resolved.CheckRequest(&model.Request{}), link.Ready(c.Host, br, n), vlan.Ready(c.Host, n), forward.Ready(c.Host, s, br.Gateway.Index != 0),
		peers.Check(c.Host, n))
	required := firewall.Required(s) && !complete
	if required || n.SpoofCheck {
		c.Noted = c.records.Memory()
		defer c.Noted.Close()
		err = errors.Join(err, c.Try(func(tx *host.Tx) (err error) {
			if required {
				err = firewall.Put(tx, s, firewall.HasIPv6(c.Host))
			}
			if err == nil && n.SpoofCheck {
				err = antispoof.PutTable(tx, n.Name)
			}
			return err
		}, firewall.Tables(n.Name)...))
	}
	if !n.NoAddress {
		err = errors.Join(err, alloc.Free(c.Locals(rtnl.Link{}, nil)))
	}
	return err
}
