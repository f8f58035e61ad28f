// Package conflict looks for what else has a network's addresses: interfaces and routes
// of the host, and other networks behind the same bridge.
package conflict

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/advice"
	"flatnet/internal/peer"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// Overlap reports a subnet that is another interface's: it is likely to be a
// VPN's or the host's own network, which the bridge cuts off or is cut off by. Such
// are an address whose subnet overlaps with it, and a route to all or a part of it. A
// route that is wider is not in its way, for the kernel prefers the narrower one. A
// bridge that is to have no address is in the way of none. Other hosts' subnets must not
// overlap with the network's either.
func Overlap(h *host.Host, gateway rtnl.Link, n *model.Network, subnets []netip.Prefix) error {
	if err := peer.CheckAll(n.Peers, n.Prefixes()); err != nil {
		return model.Errorf(model.ErrInvalid, "%w", err)
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
	return wider && l.Flags&(unix.IFF_POINTOPOINT|unix.IFF_NOARP) != 0
}

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

// maxNamed bounds the containers that an error names.
const maxNamed = 3

// Former returns the gateway addresses of earlier subnets that the network's own bridge still
// has, where this host's part of a network that spans several is another now. The bridge may
// lose them, unless containers have addresses of an earlier subnet, which is an error: the other
// hosts send packets to that one somewhere else, or nowhere.
func Former(h *host.Host, n *model.Network) (earlier []netip.Prefix, err error) {
	if !n.Spans || len(n.Subnets) == 0 {
		return nil, nil
	}
	br, err := h.LinkByName(n.Bridge)
	if err != nil || br.Index == 0 {
		return nil, err
	}
	if own := br.Alias == model.BridgeAlias(n.Name) && n.IsGateway && n.VLANs.ID == 0; own {
		others, lacking, err := otherAddresses(h, br, n)
		if err != nil || len(others) == 0 {
			return nil, err
		}
		earlier = formerGateways(others, lacking, n)
	}
	ports, err := h.Ports(br.Index)
	if err != nil {
		return nil, err
	}
	outside := func(a netip.Addr) bool {
		return !slices.ContainsFunc(n.Subnets, func(s model.Subnet) bool { return s.Contains(a) })
	}
	var left []string
	for _, o := range host.Owners(ports) {
		if o.Key.Network == n.Name && slices.ContainsFunc(o.Addresses, outside) {
			left = append(left, fmt.Sprintf("%.12s (%s)", o.Key.ContainerID, model.JoinAddrs(o.Addresses)))
		}
	}
	if len(left) == 0 {
		return earlier, nil
	}
	names := strings.Join(left[:min(len(left), maxNamed)], ", ")
	if len(left) > maxNamed {
		names += ", ..."
	}
	was := ""
	if len(earlier) > 0 {
		was = " was " + earlier[0].Masked().String() + " and"
	}
	return nil, model.Errorf(model.ErrConflict, "the subnet of network %s on this host%s is now %s, and %d of its containers still have "+
		"addresses of the earlier one: %s. Stop them all (started again, they get new addresses), and try again",
		n.Name, was, strings.Trim(fmt.Sprint(n.Prefixes()), "[]"), len(left), names)
}

// otherAddresses lists the addresses of the network's own bridge that are not its gateways
// now, and the gateways that it lacks. The range of all hosts may have changed as well, so it
// decides nothing here.
func otherAddresses(h *host.Host, br rtnl.Link, n *model.Network) (others, lacking []netip.Prefix, err error) {
	addrs, err := h.Addresses(br.Index)
	lacking = n.Gateways()
	for _, a := range addrs {
		i := slices.Index(lacking, a.Prefix)
		switch {
		case i >= 0:
			lacking = slices.Delete(lacking, i, i+1)
		case !a.Prefix.Addr().IsLinkLocalUnicast():
			others = append(others, a.Prefix)
		}
	}
	return others, lacking, err
}

// formerGateways returns those of the bridge's other addresses that were gateways: of each
// family in which a gateway is lacking, those in the range of all hosts, or of networks that say
// nothing of any. If there are none, the range was another, and the oldest one was the gateway:
// the bridge was made with it. All others were added by somebody else.
func formerGateways(others, lacking []netip.Prefix, n *model.Network) (found []netip.Prefix) {
	ranges := append([]netip.Prefix{netip.MustParsePrefix(model.DefaultFlat)}, n.Flat...)
	for _, is4 := range []bool{true, false} {
		if !slices.ContainsFunc(lacking, func(p netip.Prefix) bool { return p.Addr().Is4() == is4 }) {
			continue
		}
		var oldest, within []netip.Prefix
		for _, a := range others {
			if a.Addr().Is4() != is4 {
				continue
			}
			if len(oldest) == 0 || !is4 { // the kernel lists IPv4 by age, and IPv6 the other way round
				oldest = []netip.Prefix{a}
			}
			if slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(a.Addr()) }) {
				within = append(within, a)
			}
		}
		if len(within) == 0 {
			within = oldest
		}
		found = append(found, within...)
	}
	return found
}
