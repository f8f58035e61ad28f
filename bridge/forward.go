package bridge

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// The sysctls that make the host a router. The kernel forwards IPv6 packets only
// if the one for all interfaces is set (ip6_forward of net/ipv6/ip6_output.c);
// those of single interfaces merely choose between a host's and a router's
// manners there. For IPv4 it is the receiving interface's own that counts
// (ip_route_input_slow of net/ipv4/route.c), and the first one sets all of them.
const (
	forwarding4 = "net/ipv4/ip_forward"
	forwarding6 = "net/ipv6/conf/all/forwarding"
)

func forwardingOf(ifName string) string { return path.Join("net/ipv4/conf", ifName, "forwarding") }
func acceptRA(ifName string) string     { return path.Join("net/ipv6/conf", ifName, "accept_ra") }

// forward lets the host forward what containers send. It reads first. The
// interface with the gateway addresses may have been made while
// net.ipv4.conf.default.forwarding was 0.
func (h *Host) forward(c *rtnl.Conn, a Attachment) error {
	if a.Forward4 {
		if err := h.sysctl.Ensure(forwarding4, "1"); err != nil {
			return err
		}
		if err := h.sysctl.Ensure(forwardingOf(a.VLANs.gatewayName(a.Bridge)), "1"); err != nil {
			return err
		}
	}
	if !a.Forward6 {
		return nil
	}
	if v, err := h.sysctl.Get(forwarding6); err != nil || v != "0" {
		return err
	}
	if err := h.keepRouters(c); err != nil {
		return err
	}
	return h.sysctl.Ensure(forwarding6, "1")
}

// forwardFaults lists what keeps the host from forwarding for the attachment, or
// from hearing routers since it does.
func (h *Host) forwardFaults(a Attachment) (found []fault, err error) {
	var names []string
	if a.Forward4 {
		names = append(names, forwarding4, forwardingOf(a.VLANs.gatewayName(a.Bridge)))
	}
	if a.Forward6 {
		names = append(names, forwarding6)
	}
	for _, name := range names {
		v, gerr := h.sysctl.Get(name)
		switch {
		case v == "0":
			found = append(found, fault{"sysctl " + name, "0"})
		case !errors.Is(gerr, fs.ErrNotExist): // else the interface is missing, which is a fault of its own
			err = errors.Join(err, gerr)
		}
	}
	if a.Forward6 {
		for _, name := range h.records.raised() {
			if v, _ := h.sysctl.Get(acceptRA(name)); v == "1" { // the interface may have gone
				found = append(found, fault{"sysctl " + acceptRA(name), "1 and not 2"})
			}
		}
	}
	return found, err
}

// restoreForward makes good what forwardFaults lists.
func (h *Host) restoreForward(c *rtnl.Conn, a Attachment) error {
	if a.Forward6 {
		for _, name := range h.records.raised() {
			if v, err := h.sysctl.Get(acceptRA(name)); err == nil && v == "1" {
				if err := h.sysctl.Ensure(acceptRA(name), "2"); err != nil {
					return err
				}
			}
		}
	}
	return h.forward(c, a)
}

// keepRouters lets the interfaces on which the host listens to router
// advertisements go on listening when it becomes a router itself. With accept_ra
// 1 it would not: the kernel drops the default routes that it has learned there
// at once (rt6_purge_dflt_routers of net/ipv6/route.c), and the addresses when
// they expire.
func (h *Host) keepRouters(c *rtnl.Conn) error {
	learned, err := advertised(c)
	if err != nil {
		return err
	}
	for _, index := range learned {
		l, err := c.LinkByIndex(index)
		if errors.Is(err, unix.ENODEV) {
			continue
		}
		if err != nil {
			return fmt.Errorf("find an interface with a router: %w", err)
		}
		v, err := h.sysctl.Get(acceptRA(l.Name))
		if errors.Is(err, fs.ErrNotExist) || err == nil && v != "1" {
			continue // somebody has decided already
		}
		if err != nil {
			return err
		}
		h.records.saveRaised(append(h.records.raised(), l.Name))
		if err := h.sysctl.Ensure(acceptRA(l.Name), "2"); err != nil {
			return err
		}
		h.say(fmt.Sprintf("the host forwards IPv6 from now on, so accept_ra of %s is raised from 1 to 2: "+
			"the host keeps the routes that a router advertises there", l.Name))
	}
	return nil
}

// advertised lists the interfaces on which the host has a route or an address
// by router advertisements. (An address that is not permanent may be a DHCPv6
// client's as well; there, too, the routes are a router's.)
func advertised(c *rtnl.Conn) (indexes []int, err error) {
	routes, err := c.Routes(true, 0)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Protocol == unix.RTPROT_RA && !slices.Contains(indexes, r.Index) {
			indexes = append(indexes, r.Index)
		}
	}
	addrs, err := c.Addresses(0)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if a.Prefix.Addr().Is6() && a.Flags&unix.IFA_F_PERMANENT == 0 && !slices.Contains(indexes, a.Index) {
			indexes = append(indexes, a.Index)
		}
	}
	return indexes, nil
}

// checkUplink reports, as an ErrConflict, that the host does not forward what
// arrives at the interface of its default route, which is not flatnet's to
// change: answers to containers are lost.
func (h *Host) checkUplink(c *rtnl.Conn, network string) error {
	index, err := c.DefaultRouteLink(false)
	if err != nil || index == 0 {
		return err
	}
	l, err := c.LinkByIndex(index)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the default route's device: %w", err)
	}
	for _, name := range []string{forwarding4, forwardingOf(l.Name)} {
		v, err := h.sysctl.Get(name)
		if errors.Is(err, fs.ErrNotExist) || name == forwarding4 && v == "0" {
			return nil // the interface has gone, or it will be set with all others
		}
		if err != nil {
			return err
		}
		if v == "0" {
			return fmt.Errorf("sysctl %s is 0, so the host does not forward answers that containers of network %s get there; set it to 1: %w",
				name, network, ErrConflict)
		}
	}
	return nil
}
