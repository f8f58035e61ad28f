// Package conflict looks for what else has a network's addresses: interfaces and routes
// of the host, and other networks behind the same bridge.
package conflict

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"strconv"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/advice"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// Overlap reports a subnet that is another interface's: it is likely to be a
// VPN's or the host's own network, which the bridge cuts off or is cut off by. Such
// are an address whose subnet overlaps with it, and a route to all or a part of it. A
// route that is wider is not in its way, for the kernel prefers the narrower one. A
// bridge that is to have no address is in the way of none. For other hosts' subnets see Peers.
func Overlap(h *host.Host, gateway rtnl.Link, n *model.Network, subnets []netip.Prefix) error {
	if err := Peers(h, gateway, n); err != nil {
		return err
	}
	if len(subnets) == 0 || !n.IsGateway || n.AllowOverlap {
		return nil
	}
	others, err := listOthers(h)
	for _, o := range others {
		for _, p := range subnets {
			if o.Index != 0 && o.Index == gateway.Index || !o.isOn(p) {
				continue
			}
			where := "a nexthop object" // the only one to name the interface
			if o.Index != 0 {
				l, err := h.LinkByIndex(o.Index)
				if err == nil && (l.Index == 0 || l.Name == n.GatewayName()) { // others may make and remove it meanwhile
					continue
				}
				if n.Spans && o.isTunnel(l, p) {
					continue
				}
				where = "interface " + cmp.Or(l.Name, strconv.Itoa(o.Index))
			}
			err := model.Errorf(model.ErrConflict, "subnet %s of network %s overlaps with the %s %s of %s; "+
				"choose another subnet, or set allowOverlap if it is meant to be a part of that one",
				p.Masked(), n.Name, o.kind, o.Prefix, where)
			return advice.Repair(err, advice.Collisions, "give network "+n.Name+" another subnet (CNI: edit its file in /etc/cni/net.d; "+
				"Podman: podman network rm, and podman network create --subnet)")
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

// isTunnel reports whether what is on a subnet belongs to the way to other hosts: a tunnel
// that has an address of the range of all hosts, or that of the subnet itself, which no
// container gets (as flannel's does).
func (o other) isTunnel(l rtnl.Link, subnet netip.Prefix) bool {
	if o.Prefix.IsSingleIP() && o.Prefix.Addr() == subnet.Masked().Addr() {
		return true
	}
	wider := o.kind != route && o.Prefix.Bits() < subnet.Bits()
	return wider && isPointToPoint(l)
}

func isPointToPoint(l rtnl.Link) bool { return l.Flags&(unix.IFF_POINTOPOINT|unix.IFF_NOARP) != 0 }

func listOthers(h *host.Host) (others []other, err error) {
	addrs, err := h.Addresses(0)
	for _, a := range addrs {
		others = append(others, other{a, "address"})
	}
	routes, rerr := h.Routes(unix.AF_UNSPEC, 0)
	for _, r := range routes {
		others = append(others, other{rtnl.Addr{Index: r.Index, Prefix: r.Dst}, route})
	}
	return others, errors.Join(err, rerr)
}

// Networks keep their leases apart, so several on one bridge need subnets of their
// own. The bridge's alias says which network it was made for, and whether another
// one has ever had a container behind it: as long as none has, nothing needs to be
// looked for.

// Shared reports another network that has containers behind the bridge with
// addresses in any of the prefixes. It looks only at a bridge that was made for
// another network or is shared: an ADD that goes on asks again afterwards. In a
// VLAN, addresses are in the way of none.
func Shared(h *host.Host, br rtnl.Link, n *model.Network, prefixes []netip.Prefix) error {
	if _, ours := model.MadeFor(br.Alias); !ours || br.Alias == model.BridgeAlias(n.Name) || n.VLANs.ID != 0 {
		return nil
	}
	return checkPorts(h, br, n, prefixes)
}

// NeedsRecheck reports whether SharedAgain has to be called for an attachment whose
// link shows which addresses it has. Of two networks whose containers come at one
// moment, the one whose link was there last finds the other's, or both find each other.
// They look one after the other, and whichever finds another's link takes its own away
// before the next one looks: so one network is always left. before is the bridge as it
// was when Shared asked, and after when the link could be found, with its alias.
//
// A network that the bridge was not made for marks it as shared before it looks. A
// network that it was made for looks for the mark when its own link can be found:
// so one of the two sees the other. An ADD that has found no bridge looks in any case.
// A bridge gets its alias under the lock under which it is made, and so before any looks.
func NeedsRecheck(before, after rtnl.Link, n *model.Network) bool {
	return n.VLANs.ID == 0 && (before.Index == 0 || after.Alias != model.BridgeAlias(n.Name))
}

// SharedAgain is Shared for a caller that has the bridge's lock: see
// NeedsRecheck.
func SharedAgain(h *host.Host, br rtnl.Link, a *model.Attachment) error {
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
	return checkPorts(h, br, &a.Network, prefixes)
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
