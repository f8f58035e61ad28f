package bridge

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// Check compares an attachment with what ADD said of it (prev), with the
// network's configuration and with the kernel, and reports everything that is
// missing. What later plugins of the chain added is not looked at.
func (h *Host) Check(n Network, r Request, prev Result, alloc Allocator) error {
	return h.records.inTurn(r.Key, func() error { return h.check(n, r, prev, alloc) })
}

func (h *Host) check(n Network, r Request, prev Result, alloc Allocator) error {
	ifc, lease, err := prev.attachment(r)
	if err != nil {
		return err
	}
	a, err := Plan(n, r, lease)
	if err != nil {
		return err
	}
	if mac, err := ParseHardwareAddr(ifc.MAC); err == nil {
		a.MAC = mac // as ADD gave it, which an earlier version may have chosen in another way
	}
	c, err := h.route()
	if err != nil {
		return err
	}
	defer c.Close()
	if !n.NoAddress {
		err = alloc.Check(r.Key, a.owner().Addresses)
	}
	host, herr := hostEnds(c, a.Key)
	return errors.Join(
		herr,
		h.checkHost(c, a, host),
		h.checkContainer(c, r.NetNS, host, a, prev.Routes),
		err,
		h.checkFirewall(a.Firewall),
		h.checkPorts(a),
		h.checkGuard(c, a),
	)
}

// attachment finds in a result what it says of the container's interface.
func (res Result) attachment(r Request) (Interface, Lease, error) {
	i := slices.IndexFunc(res.Interfaces, func(i Interface) bool {
		return i.Name == r.Key.IfName && i.Sandbox != ""
	})
	if i < 0 {
		return Interface{}, Lease{}, fmt.Errorf("prevResult has no interface %q in a sandbox: %w", r.Key.IfName, ErrInvalid)
	}
	var l Lease
	for _, ip := range res.IPs {
		if ip.Interface == i {
			l.Addresses = append(l.Addresses, Address{ip.Address, ip.Gateway})
		}
	}
	return res.Interfaces[i], l, nil
}

func changed(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, ErrChanged)...)
}

// checkHost compares the bridge and the host end.
func (h *Host) checkHost(c *rtnl.Conn, a Attachment, host []rtnl.Link) error {
	br, err := findBridge(c, a.Bridge, a.VLANs)
	if err != nil {
		return err
	}
	return errors.Join(h.checkBridge(c, br, a), h.checkHostEnd(c, a, host, br))
}

// checkBridge reports what the bridge, and the host as a router, lack.
func (h *Host) checkBridge(c *rtnl.Conn, br bridgeState, a Attachment) error {
	found, err := h.bridgeFaults(c, br, a)
	if len(found) == 0 {
		return err
	}
	recorded, rerr := h.bridgeFaults(c, br, h.records.common(a.Key.Network))
	return errors.Join(joinFaults(found, recorded), err, rerr)
}

func (h *Host) bridgeFaults(c *rtnl.Conn, br bridgeState, a Attachment) ([]fault, error) {
	routes, rerr := br.routeFaults(c, a)
	forward, err := h.forwardFaults(a)
	return slices.Concat(br.faults(a), routes, forward), errors.Join(rerr, err)
}

func (h *Host) checkHostEnd(c *rtnl.Conn, a Attachment, links []rtnl.Link, br bridgeState) error {
	if len(links) == 0 {
		return changed("host interface of %s (%s) is missing", a.Key, a.Key.HostNames()[0])
	}
	vlans, err := a.VLANs.ofPorts(c)
	if err != nil {
		return err
	}
	recorded := h.portFaults(br, h.records.common(a.Key.Network), links[0], vlans)
	others := slices.Concat(limitFaults(c, a, links[0]), h.localnetFaults(a))
	return errors.Join(joinFaults(h.portFaults(br, a, links[0], vlans), recorded), joinFaults(others, others))
}

// checkContainer compares the container's end with the result. What the container's
// namespace says is the container's word: it decides about nothing but this report.
func (h *Host) checkContainer(c *rtnl.Conn, netns string, host []rtnl.Link, a Attachment, routes []Route) error {
	inside, err := h.enter(netns)
	if err != nil {
		return err
	}
	defer inside.leave()
	name := a.Key.IfName
	l, err := inside.LinkByName(name)
	switch {
	case errors.Is(err, unix.ENODEV):
		return changed("interface %s is missing in the container", name)
	case err != nil:
		return fmt.Errorf("find %s in the container: %w", name, err)
	}
	if len(host) > 0 {
		if here, err := isPeer(c, inside, host[0], l.Index); err != nil {
			return err
		} else if !here {
			return changed("interface %s in the container is not the one that %s leads to", name, host[0].Name)
		}
	}
	if !l.Up() && !a.NoAddress {
		err = changed("interface %s is down in the container", name)
	}
	if string(l.MAC) != string(a.MAC[:]) {
		err = errors.Join(err, changed("interface %s has the MAC address %s and not %s", name, l.MAC, a.MAC))
	}
	return errors.Join(err, checkAddresses(inside, l.Index, a), checkRoutes(inside, l.Index, a.Routes, routes))
}

func checkAddresses(inside sandbox, index int, a Attachment) error {
	have, err := inside.Addresses(index)
	if err != nil {
		return fmt.Errorf("list the container's addresses: %w", err)
	}
	for _, addr := range a.Addresses {
		if !slices.ContainsFunc(have, func(h rtnl.Addr) bool { return h.Prefix == addr.Prefix }) {
			err = errors.Join(err, changed("address %s of interface %s is missing", addr.Prefix, a.Key.IfName))
		}
	}
	return err
}

// checkRoutes looks for the routes that the plan makes, as far as the result
// lists them: a later plugin may have taken some away, or moved them to another
// table, and said so.
func checkRoutes(inside sandbox, index int, planned, listed []Route) (err error) {
	have := map[bool][]rtnl.Route{}
	for _, ipv6 := range []bool{false, true} {
		if have[ipv6], err = inside.Routes(ipv6, index); err != nil {
			return fmt.Errorf("list the container's routes: %w", err)
		}
	}
	for _, want := range planned {
		if !slices.ContainsFunc(listed, func(r Route) bool { return sameRoute(r.Dst, r.Gateway, want) }) {
			continue
		}
		if !slices.ContainsFunc(have[want.Dst.Addr().Is6()], func(r rtnl.Route) bool {
			return sameRoute(r.Dst, r.Gateway, want)
		}) {
			err = errors.Join(err, changed("route to %s via %s is missing in the container", want.Dst, want.Gateway))
		}
	}
	return err
}

func sameRoute(dst netip.Prefix, gateway netip.Addr, want Route) bool {
	return dst == want.Dst && gateway == want.Gateway
}
