package bridge

import (
	"errors"
	"fmt"

	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// loopbackIndex is LOOPBACK_IFINDEX of net/net_namespace.h: lo has it in every
// namespace.
const loopbackIndex = 1

// configure sets up the container's side: lo, MAC and state, addresses, routes.
func (h *Host) configure(inside sandbox, index int, a Attachment) error {
	if err := inside.SetLink(rtnl.LinkChange{Index: loopbackIndex, Up: true}); err != nil {
		return fmt.Errorf("raise lo in the container: %w", err)
	}
	if a.NoAddress {
		return nil
	}
	if err := settleIPv6(inside.conf6, a); err != nil {
		return err
	}
	if err := inside.SetLink(rtnl.LinkChange{Index: index, Up: true}); err != nil {
		return fmt.Errorf("raise %s in the container: %w", a.Key.IfName, err)
	}
	watch, err := h.watchDAD(inside, a)
	if err != nil {
		return err
	}
	for _, addr := range a.Addresses {
		if err := inside.AddAddress(index, addr.Prefix, a.DAD); err != nil {
			return fmt.Errorf("give %s the address %s: %w", a.Key.IfName, addr.Prefix, err)
		}
	}
	if err := awaitDAD(watch, index, a); err != nil {
		return err
	}
	for i, r := range a.Routes {
		added, err := addRoute(inside.Conn, index, r)
		if err != nil {
			return fmt.Errorf("add route to %s via %s: %w", r.Dst, r.Gateway, err)
		}
		a.Routes[i] = added
	}
	return nil
}

// addRoute adds a route and returns it as the kernel has it: where another
// interface of the container has one to the same destination already, it comes
// second by its priority.
func addRoute(c *rtnl.Conn, index int, r Route) (Route, error) {
	out := rtnl.Route{
		Dst: r.Dst, Gateway: r.Gateway, Index: index,
		MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: r.Priority,
	}
	if r.Table != nil {
		out.Table = *r.Table
	}
	switch {
	case r.narrow():
		out.Scope = *r.Scope
	case !r.Gateway.IsValid():
		out.Scope = unix.RT_SCOPE_LINK
	}
	err := c.AddRoute(out)
	if errors.Is(err, unix.EEXIST) && r.Priority == 0 {
		r.Priority = secondPriority + uint32(index)
		out.Priority = r.Priority
		err = c.AddRoute(out)
	}
	return r, err
}

// secondPriority is above IP6_RT_PRIO_USER (1024), which IPv6 makes of 0.
const secondPriority = 2048
