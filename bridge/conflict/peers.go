package conflict

import (
	"cmp"
	"net/netip"
	"slices"
	"sort"
	"strconv"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/peer"
	"flatnet/rtnl"
)

// Peers reports a subnet of other hosts' containers that has to do with this host: with the
// network's own subnets, or with the address of an interface and what is on its link, such as
// another network's bridge. The route to the peer would take packets from there. A tunnel may
// have an address of the range of all hosts, and with allowOverlap the peer may be a part of
// what is on another interface's link, but not have the host's own address.
func Peers(h *host.Host, gateway rtnl.Link, n *model.Network) error {
	if len(n.Peers) == 0 {
		return nil
	}
	if err := peer.CheckAll(n.Peers, n.Prefixes()); err != nil {
		return model.Errorf(model.ErrInvalid, "%w", err)
	}
	addrs, err := h.Addresses(0)
	if err != nil {
		return err
	}
	order := make([]int, len(n.Peers)) // by address; they don't overlap
	for i := range order {
		order[i] = i
	}
	first := func(i int) netip.Addr { return n.Peers[order[i]].Subnet.Addr() }
	slices.SortFunc(order, func(a, b int) int { return n.Peers[a].Subnet.Addr().Compare(n.Peers[b].Subnet.Addr()) })
	links := h.Lookup()
	_, ours := model.MadeFor(gateway.Alias) // and of other networks as well, if it has another alias
	alone := gateway.Index != 0 && (!ours || gateway.Alias == model.BridgeAlias(n.Name))
	for _, a := range addrs {
		if alone && a.Index == gateway.Index || a.Prefix.Bits() == 0 { // it may have an earlier gateway, see Former
			continue
		}
		on := a.Prefix.Masked()
		i := sort.Search(len(order), func(i int) bool { return first(i).Compare(on.Addr()) > 0 })
		for i = max(0, i-1); i < len(order) && (first(i).Compare(on.Addr()) <= 0 || on.Contains(first(i))); i++ {
			if p := n.Peers[order[i]]; p.Subnet.Overlaps(on) {
				if err := inTheWay(links, n, order[i], a); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// inTheWay reports a peer and an address that overlap, unless that is meant.
func inTheWay(links *host.Lookup, n *model.Network, i int, a rtnl.Addr) error {
	l, err := links.Index(a.Index)
	if err != nil || l.Index == 0 { // others may remove it meanwhile
		return err
	}
	p := n.Peers[i]
	wider := a.Prefix.Bits() < p.Subnet.Bits()
	tunnel := l.Name == p.Dev && !p.Via.IsValid() || isPointToPoint(l)
	if wider && (tunnel || n.AllowOverlap && !p.Subnet.Contains(a.Prefix.Addr())) {
		return nil
	}
	whose := "interface " + cmp.Or(l.Name, strconv.Itoa(a.Index))
	if network, made := model.MadeFor(l.Alias); made {
		whose += ", the bridge of network " + network
	}
	return model.Errorf(model.ErrConflict, "peers[%d].subnet: %s of network %s overlaps with the address %s of %s; "+
		"what containers of other hosts have can't be this host's", i, p.Subnet, n.Name, a.Prefix, whose)
}
