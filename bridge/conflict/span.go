package conflict

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/rtnl"
)

// maxNamed bounds the containers that an error names.
const maxNamed = 3

// Recorded returns what is recorded of an attachment: nil without a record that can be read.
type Recorded func(model.Key) *model.Attachment

// Former returns the gateway addresses of earlier subnets that the network's own bridge still
// has, where this host's part of a network that spans several is another now: the bridge may
// lose them. Containers that have an earlier subnet or gateway are an error: the other hosts
// send packets to that subnet somewhere else, or nowhere, and without their gateway they reach
// nothing. first is whether no container is attached, to any bridge; only then something is
// former.
func Former(h *host.Host, n *model.Network, recorded Recorded) (former []netip.Prefix, first bool, err error) {
	if !n.Spans || len(n.Subnets) == 0 {
		return nil, false, nil
	}
	br, err := h.LinkByName(n.Bridge)
	if err != nil {
		return nil, false, err
	}
	owners, err := attached(h, br, n)
	if err != nil {
		return nil, false, err
	}
	c := change{Network: n, recorded: recorded, lacking: n.Gateways()}
	if br.Index != 0 {
		var others []netip.Prefix
		others, c.lacking, err = otherAddresses(h, br, n)
		if own := br.Alias == model.BridgeAlias(n.Name) && n.IsGateway && n.VLANs.ID == 0; own {
			c.former = formerGateways(others, c.lacking, n)
		}
	}
	if err != nil || len(owners) == 0 {
		return c.former, true, err
	}
	return nil, false, c.check(owners)
}

// attached lists the network's containers that have addresses: those on the bridge or, if it has
// none, on others.
func attached(h *host.Host, br rtnl.Link, n *model.Network) (owners []model.Owner, err error) {
	isOther := func(o model.Owner) bool { return o.Key.Network != n.Name || len(o.Addresses) == 0 }
	for _, master := range slices.Compact([]int{br.Index, 0}) { // 0: all links
		links, err := h.Ports(master)
		owners = slices.DeleteFunc(host.Owners(links), isOther)
		if err != nil || len(owners) > 0 {
			return owners, err
		}
	}
	return nil, nil
}

// A change is what an ADD would make of the subnets and gateways of running containers.
type change struct {
	*model.Network
	lacking  []netip.Prefix // gateway addresses that the bridge does not have
	former   []netip.Prefix // those that it would lose
	recorded Recorded
}

// check reports the containers that have another subnet or gateway.
func (c *change) check(owners []model.Owner) error {
	var left []string
	var was model.Subnet
	for _, o := range owners {
		had, has := c.keeps(o)
		if has {
			continue
		}
		left = append(left, fmt.Sprintf("%.12s (%s)", o.Key.ContainerID, model.JoinAddrs(o.Addresses)))
		if !was.IsValid() {
			was = had
		}
	}
	if len(left) == 0 {
		return nil
	}
	names := strings.Join(left[:min(len(left), maxNamed)], ", ")
	if len(left) > maxNamed {
		names += ", ..."
	}
	what, from, to, have := "subnet", "", strings.Trim(fmt.Sprint(c.Prefixes()), "[]"), "addresses of the earlier one"
	for _, s := range c.Subnets {
		if s.Masked() == was.Prefix { // of the same subnet
			what, from, to, have = "gateway", " was "+was.Gateway.String()+" and", s.Gateway.String(), "the earlier one"
		}
	}
	if was.IsValid() && from == "" {
		from = " was " + was.Prefix.String() + " and"
	}
	return model.Errorf(model.ErrConflict, "the %s of network %s on this host%s is now %s, and %d of its containers still have %s: %s. "+
		"Stop them all (started again, they get new addresses), and try again", what, c.Name, from, to, len(left), have, names)
}

// keeps reports whether a container's subnets and gateways are still the network's, or else
// which subnet it has: by its record or, without one, by the addresses that the bridge would
// lose; the zero one without either. A gateway that the bridge has is not changed.
func (c *change) keeps(o model.Owner) (had model.Subnet, keeps bool) {
	r := c.recorded(o.Key)
	for _, a := range o.Addresses {
		sameFamily := func(p netip.Prefix) bool { return p.Addr().Is4() == a.Is4() }
		had = model.Subnet{}
		if i := slices.IndexFunc(c.former, sameFamily); i >= 0 {
			had = model.Subnet{Prefix: c.former[i].Masked(), Gateway: c.former[i].Addr()}
		}
		if r != nil && slices.Contains(r.IPs(), a) {
			had = r.Addresses[slices.Index(r.IPs(), a)]
			had.Prefix = had.Masked()
		}
		inside := func(s model.Subnet) bool { return s.Contains(a) }
		same := func(s model.Subnet) bool { return s.Masked() == had.Prefix && s.Gateway == had.Gateway }
		changes := had.IsValid() && slices.ContainsFunc(c.lacking, sameFamily) && !slices.ContainsFunc(c.Subnets, same)
		if changes || !slices.ContainsFunc(c.Subnets, inside) {
			return had, false
		}
	}
	return had, true
}

// otherAddresses lists the addresses of the network's bridge, or of what leads into its VLAN,
// that are not its gateways now, and the gateways that it lacks. The range of all hosts may have
// changed as well, so it decides nothing here.
func otherAddresses(h *host.Host, br rtnl.Link, n *model.Network) (others, lacking []netip.Prefix, err error) {
	gw, lacking := br, n.Gateways()
	if n.VLANs.ID != 0 {
		gw, err = h.LinkByName(n.GatewayName())
	}
	if err != nil || gw.Index == 0 {
		return nil, lacking, err
	}
	addrs, err := h.Addresses(gw.Index)
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
