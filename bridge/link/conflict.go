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
	others, err := listOthers(h)
	for _, o := range others {
		for _, p := range subnets {
			if o.Index != 0 && o.Index == br.Gateway.Index || !o.isOn(p) {
				continue
			}
			where := "a nexthop object" // the only one to name the interface
			if o.Index != 0 {
				l, err := h.LinkByIndex(o.Index)
				if err == nil && (l.Index == 0 || l.Name == n.GatewayName()) { // others may make and remove it meanwhile
					continue
				}
				where = "interface " + cmp.Or(l.Name, strconv.Itoa(o.Index))
			}
			return model.Errorf(model.ErrConflict, "subnet %s of network %s overlaps with the %s %s of %s; "+
				"choose another subnet, or set allowOverlap if it is meant to be a part of that one",
				p.Masked(), n.Name, o.kind, o.Prefix, where)
		}
	}
	return err
}

// An other is an address of the host, or a route.
type other struct {
	rtnl.Addr
	kind string
}

const route = "route to"

// isOn reports whether a subnet is in the way: packets to it are the other's. The
// prefix of all addresses takes nothing away.
func (o other) isOn(subnet netip.Prefix) bool {
	return o.Prefix.Bits() > 0 && o.Prefix.Overlaps(subnet) && (o.kind != route || subnet.Bits() <= o.Prefix.Bits())
}

func listOthers(h *host.Host) (others []other, err error) {
	addrs, err := h.Addresses(0)
	for _, a := range addrs {
		others = append(others, other{a, "address"})
	}
	for _, ipv6 := range []bool{false, true} {
		routes, rerr := h.Routes(ipv6, 0)
		for _, r := range routes {
			others = append(others, other{rtnl.Addr{Index: r.Index, Prefix: r.Dst}, route})
		}
		err = errors.Join(err, rerr)
	}
	return others, err
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
	if n.VLANs.ID != 0 || before.Index == 0 {
		return n.VLANs.ID == 0, nil
	}
	br, err := h.LinkByName(n.Bridge)
	return br.Alias != model.BridgeAlias(n.Name), err
}

// CheckSharedAgain is CheckShared for a caller that has the bridge's lock: see
// NeedsRecheck.
func CheckSharedAgain(h *host.Host, br Bridge, a *model.Attachment) error {
	prefixes := a.Prefixes()
	if len(prefixes) == 0 { // of another plugin; another network may have the rest of the subnet
		for _, ip := range a.IPs() {
			prefixes = append(prefixes, netip.PrefixFrom(ip, ip.BitLen()))
		}
	}
	now, err := h.LinkByName(a.Bridge)
	if made, ours := model.MadeFor(now.Alias); ours && made != a.Name && now.Alias == model.BridgeAlias(made) {
		err = h.SetLink(now, rtnl.LinkChange{Up: now.Up(), Alias: now.Alias + model.SharedMark})
	}
	if err != nil {
		return err
	}
	return checkPorts(h, br.Link, &a.Network, prefixes)
}

// checkPorts looks for other networks' addresses behind a bridge.
func checkPorts(h *host.Host, br rtnl.Link, n *model.Network, prefixes []netip.Prefix) error {
	ports, err := h.Ports(br.Index)
	for _, o := range host.Owners(ports) {
		for _, a := range o.Addresses {
			i := slices.IndexFunc(prefixes, func(p netip.Prefix) bool { return p.Masked().Contains(a) })
			if o.Key.Network != n.Name && i >= 0 {
				return model.Errorf(model.ErrConflict, "%s of network %s is used by network %s on the same bridge %s: %s has %s; choose another subnet and bridge",
					prefixes[i].Masked(), n.Name, o.Key.Network, br.Name, o.Key, a)
			}
		}
	}
	return err
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
	errs := []error{CheckOverlap(h, br, n, n.Prefixes()), CheckShared(h, br, n, n.Prefixes()), br.conflict(s)}
	if br.Index != 0 {
		links, err := h.Ports(br.Index)
		if len(links) >= maxPorts {
			err = portError(br.Name, unix.EXFULL)
		}
		errs = append(errs, err)
	}
	for _, k := range [...]struct{ kind, config string }{{"bridge", "CONFIG_BRIDGE"}, {"veth", "CONFIG_VETH"}} {
		has, err := h.HasKind(k.kind)
		if err == nil && !has {
			err = model.Unsupported(k.config)
		}
		errs = append(errs, err)
	}
	if s.Forwards(false) {
		errs = append(errs, ready6(h, br, n.GatewayName()))
	}
	return errors.Join(errs...)
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
