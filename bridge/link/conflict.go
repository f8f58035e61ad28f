package link

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

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

// CheckOverlap reports a subnet that is another interface's: it is likely to be a
// VPN's or the host's own network, which the bridge cuts off or is cut off by. Such
// are an address whose subnet overlaps with it, and a route to all or a part of it. A
// route that is wider is not in its way, for the kernel prefers the narrower one. A
// bridge that is to have no address is in the way of none.
func CheckOverlap(h *host.Host, br Bridge, n *model.Network, subnets []netip.Prefix) error {
	if len(subnets) == 0 || !n.IsGateway || n.AllowOverlap {
		return nil
	}
	addrs, err := h.Addresses(0)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if p := overlapped(subnets, a.Prefix.Masked()); p.IsValid() && a.Index != br.Gateway.Index {
			if err := overlaps(h, n, fmt.Sprintf("subnet %s of network %s overlaps with the address %s", p, n.Name, a.Prefix), a.Index); err != nil {
				return err
			}
		}
	}
	for _, ipv6 := range []bool{false, true} {
		routes, err := h.Routes(ipv6, 0)
		if err != nil {
			return fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			ours := r.Index != 0 && r.Index == br.Gateway.Index
			if p := overlapped(subnets, r.Dst); p.IsValid() && p.Bits() <= r.Dst.Bits() && !ours {
				if err := overlaps(h, n, fmt.Sprintf("subnet %s of network %s overlaps with the route to %s", p, n.Name, r.Dst), r.Index); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// overlapped finds the subnet that a prefix of another interface overlaps. One of
// all addresses takes nothing away.
func overlapped(subnets []netip.Prefix, other netip.Prefix) netip.Prefix {
	for _, p := range subnets {
		if p = p.Masked(); other.Bits() > 0 && p.Overlaps(other) {
			return p
		}
	}
	return netip.Prefix{}
}

// overlaps returns nil if the interface is gone, or is the bridge after all: others
// may make and remove it meanwhile. The index is 0 if only a nexthop object names
// the interface.
func overlaps(h *host.Host, n *model.Network, text string, index int) error {
	where := "a nexthop object"
	if index != 0 {
		l, err := h.LinkByIndex(index)
		switch {
		case errors.Is(err, unix.ENODEV) || err == nil && l.Name == n.GatewayName():
			return nil
		case err != nil:
			where = fmt.Sprintf("interface %d", index)
		default:
			where = "interface " + l.Name
		}
	}
	return model.Errorf(model.ErrConflict, "%s of %s; choose another subnet, or set allowOverlap if it is meant to be a part of that one", text, where)
}

// Networks keep their leases apart, so several on one bridge need subnets of their
// own. The bridge's alias says which network it was made for, and whether another
// one has ever had a container behind it: as long as none has, nothing needs to be
// looked for.

// CheckShared reports another network that has containers behind the bridge with
// addresses in any of the prefixes. It looks only at a bridge that was made for
// another network or is shared: an ADD that goes on asks again afterwards. In a
// VLAN, addresses are in the way of none.
func CheckShared(h *host.Host, br Bridge, n *model.Network, prefixes []netip.Prefix) error {
	if !br.ours() || br.Alias == model.BridgeAlias(n.Name) || n.VLANs.ID != 0 {
		return nil
	}
	return checkPorts(h, br.Link, n, prefixes)
}

// NeedsRecheck reports whether CheckSharedAgain has to be called for an attachment whose
// link shows which addresses it has. Of two networks whose containers come at one
// moment, the one whose link was there last finds the other's, or both find each other.
// They look one after the other, and whichever finds another's link takes its own away
// before the next one looks: so one network is always left. before is the bridge as it
// was when CheckShared asked.
//
// A network that the bridge was not made for marks it as shared before it looks. A
// network that it was made for looks for the mark when its own link can be found:
// so one of the two sees the other. An ADD that has found no bridge looks in any case.
// A bridge gets its alias under the lock under which it is made, and so before any looks.
func NeedsRecheck(h *host.Host, before Bridge, n *model.Network) (bool, error) {
	if n.VLANs.ID != 0 {
		return false, nil
	}
	br, err := h.LinkByName(n.Bridge)
	if err != nil {
		return false, fmt.Errorf("find bridge %s: %w", n.Bridge, err)
	}
	return br.Alias != model.BridgeAlias(n.Name) || before.Index == 0, nil
}

// CheckSharedAgain is CheckShared for a caller that has the bridge's lock: see
// NeedsRecheck.
func CheckSharedAgain(h *host.Host, a *model.Attachment) error {
	prefixes := a.Prefixes()
	if len(prefixes) == 0 { // of another plugin; another network may have the rest of the subnet
		for _, ip := range a.IPs() {
			prefixes = append(prefixes, netip.PrefixFrom(ip, ip.BitLen()))
		}
	}
	br, err := h.LinkByName(a.Bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", a.Bridge, err)
	}
	if made, ours := model.MadeFor(br.Alias); ours && made != a.Name && br.Alias == model.BridgeAlias(made) {
		if err := h.SetLink(rtnl.LinkChange{Index: br.Index, Up: br.Up(), Alias: br.Alias + model.SharedMark}); err != nil {
			return fmt.Errorf("mark bridge %s as shared: %w", br.Name, err)
		}
	}
	return checkPorts(h, br, &a.Network, prefixes)
}

// checkPorts looks for other networks' addresses behind a bridge.
func checkPorts(h *host.Host, br rtnl.Link, n *model.Network, prefixes []netip.Prefix) error {
	ports, err := h.Ports(br.Index)
	if err != nil {
		return fmt.Errorf("list ports of bridge %s: %w", br.Name, err)
	}
	for _, o := range host.Owners(ports) {
		for _, a := range o.Addresses {
			i := slices.IndexFunc(prefixes, func(p netip.Prefix) bool { return p.Masked().Contains(a) })
			if o.Key.Network != n.Name && i >= 0 {
				return model.Errorf(model.ErrConflict, "%s of network %s is used by network %s on the same bridge %s: %s has %s; choose another subnet and bridge",
					prefixes[i].Masked(), n.Name, o.Key.Network, br.Name, o.Key, a)
			}
		}
	}
	return nil
}

// maxPorts is what find_portno of net/bridge/br_if.c gives out: BR_MAX_PORTS
// numbers, less 0.
const maxPorts = 1<<10 - 1

// portError explains why a link can't be made a port of a bridge.
func portError(bridge string, err error) error {
	if errors.Is(err, unix.EXFULL) {
		return model.Errorf(model.ErrConflict, "bridge %s has %d ports, and Linux allows no more", bridge, maxPorts)
	}
	return err
}

// Ready reports what on the host Ensure and Connect would stumble over, as far as it can
// be seen beforehand, in the words in which ADD explains the kernel's errors.
func Ready(h *host.Host, br Bridge, n *model.Network) error {
	err := errors.Join(CheckOverlap(h, br, n, n.Prefixes()), CheckShared(h, br, n, n.Prefixes()), checkGroup(br.Gateway, n.Group()))
	if br.Index != 0 {
		links, lerr := h.Ports(br.Index)
		if lerr != nil {
			lerr = fmt.Errorf("list ports of bridge %s: %w", br.Name, lerr)
		} else if len(links) >= maxPorts {
			lerr = portError(br.Name, unix.EXFULL)
		}
		err = errors.Join(err, lerr)
	}
	for _, k := range [...]struct{ kind, config string }{{"bridge", "CONFIG_BRIDGE"}, {"veth", "CONFIG_VETH"}} {
		if has, herr := h.HasKind(k.kind); herr != nil {
			err = errors.Join(err, herr)
		} else if !has {
			err = errors.Join(err, model.Unsupported(k.config))
		}
	}
	s := &model.Shared{Network: *n}
	for _, want := range n.Gateways() {
		for _, have := range br.inTheWay(s, want) {
			if !n.ForceAddress {
				err = errors.Join(err, br.conflict(have, want))
			}
		}
		if want.Addr().Is6() {
			err = errors.Join(err, ready6(h, br, n.GatewayName()))
		}
	}
	return err
}

// ready6 reports what keeps the interface of that name, which may have to be made, from
// having an IPv6 gateway address.
func ready6(h *host.Host, br Bridge, name string) error {
	if br.Gateway.Index == 0 {
		name = "default"
	} else if br.Gateway.MTU < model.MinMTU6 {
		return model.Errorf(model.ErrConflict, "interface %s has the MTU %d, and IPv6 needs %d", name, br.Gateway.MTU, model.MinMTU6)
	}
	disable := filepath.Join("net/ipv6/conf", name, "disable_ipv6")
	v, err := h.Sysctl.Get(disable)
	if errors.Is(err, fs.ErrNotExist) {
		return model.Unsupported("CONFIG_IPV6")
	}
	if err == nil && v != "0" {
		err = model.Errorf(model.ErrConflict, "the host has disabled IPv6, which the network needs: sysctl %s must be 0", disable)
	}
	return err
}
