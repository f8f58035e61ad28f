package bridge

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"slices"

	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// What ADD would stumble over on the host, as far as it can be seen beforehand:
// STATUS asks for all of it, and ADD explains the kernel's errors in the same
// words.

// maxPorts is what find_portno of net/bridge/br_if.c gives out: BR_MAX_PORTS
// numbers, less 0.
const maxPorts = 1<<10 - 1

// minMTU6 is the least MTU on which Linux does IPv6 (IPV6_MIN_MTU, RFC 8200,
// section 5).
const minMTU6 = 1280

// ready reports what on the host is in an attachment's way.
func (h *Host) ready(c *rtnl.Conn, br bridgeState, n Network) error {
	err := errors.Join(checkGroup(br.gateway, groupOf(n.Isolated)), checkRoom(c, br), n.checkVLANs(c))
	if n.MTU == 0 {
		var merr error
		n.MTU, merr = inheritedMTU(c)
		err = errors.Join(err, merr)
	}
	for _, p := range n.Subnets {
		if merr := checkMTU(n.MTU, p.Addr()); merr != nil {
			err = errors.Join(err, merr)
			break
		}
	}
	for _, gateway := range n.gateways() {
		err = errors.Join(err, h.checkGateway(br, n.VLANs.gatewayName(n.Bridge), gateway))
	}
	return err
}

// checkRoom reports a bridge that has as many ports as it can have.
func checkRoom(c *rtnl.Conn, br bridgeState) error {
	if br.Index == 0 {
		return nil
	}
	links, err := c.Links()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	links = slices.DeleteFunc(links, func(l rtnl.Link) bool { return l.Master != br.Index })
	if len(links) >= maxPorts {
		return portError(br.Name, unix.EXFULL)
	}
	return nil
}

// portError explains why a link can't be made a port of a bridge.
func portError(bridge string, err error) error {
	if errors.Is(err, unix.EXFULL) {
		return fmt.Errorf("bridge %s has %d ports, and Linux allows no more: %w", bridge, maxPorts, ErrConflict)
	}
	return err
}

// checkMTU reports an MTU (0: the kernel's default) that is too small for an
// address.
func checkMTU(mtu uint32, a netip.Addr) error {
	if mtu == 0 || mtu >= minMTU6 || !a.Is6() {
		return nil
	}
	return fmt.Errorf("the network has IPv6 addresses, which need an MTU of %d, and its MTU is %d; set the key mtu, "+
		"or that of the default route's device, from which it is inherited: %w", minMTU6, mtu, ErrInvalid)
}

// checkVLANs reports a kernel whose bridges can't keep VLANs apart.
func (n Network) checkVLANs(c *rtnl.Conn) error {
	if !n.VLANs.any() {
		return nil
	}
	has, err := c.HasVLANFiltering()
	if err == nil && !has {
		err = vlanError(unix.EOPNOTSUPP)
	}
	return err
}

// checkGateway reports what keeps the interface of that name, which may have to
// be made, from having a gateway address, and the host from forwarding there.
func (h *Host) checkGateway(br bridgeState, name string, gateway netip.Prefix) error {
	conf := name
	if br.gateway.Index == 0 {
		conf = "default"
	}
	if gateway.Addr().Is4() {
		return errors.Join(h.sysctl.CanEnsure(forwarding4, "1"), h.sysctl.CanEnsure(forwardingOf(conf), "1"))
	}
	if br.gateway.Index != 0 && br.gateway.MTU < minMTU6 {
		return fmt.Errorf("interface %s has the MTU %d, and IPv6 needs %d: %w", name, br.gateway.MTU, minMTU6, ErrConflict)
	}
	switch v, err := h.sysctl.Get(disableIPv6(conf)); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: CONFIG_IPV6", ErrUnsupported)
	case err != nil:
		return err
	case v != "0":
		return disabledIPv6(conf)
	}
	return h.sysctl.CanEnsure(forwarding6, "1")
}

func disableIPv6(conf string) string { return path.Join("net/ipv6/conf", conf, "disable_ipv6") }

func disabledIPv6(conf string) error {
	return fmt.Errorf("the host has disabled IPv6, which the network needs: sysctl %s must be 0: %w", disableIPv6(conf), ErrConflict)
}
