// Package path fits a network that spans hosts to the way between them.
package path

import (
	"fmt"
	"net/netip"
	"slices"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/peer"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// A way is the narrowest part of the way to other hosts that this host can see.
type way struct {
	mtu  uint32 // 0: there is none
	what string // that has it
}

// Fit lowers the MTU that the network's links are to inherit to that of the way to other
// hosts. One that the configuration n sets stays, and is warned of if it is larger. A network
// of this host alone costs nothing.
func Fit(h *host.Host, n, resolved *model.Network) error {
	if !n.Spans {
		return nil
	}
	w, err := narrowest(h, n)
	if err != nil {
		return err
	}
	if n.PathMTU != 0 && (w.mtu == 0 || n.PathMTU <= w.mtu) {
		w = way{n.PathMTU, "the subnet file (FLANNEL_MTU)"}
	}
	if w.mtu == 0 {
		return nil
	}
	ipv6 := slices.ContainsFunc(n.Subnets, func(s model.Subnet) bool { return s.Prefix.Addr().Is6() })
	switch {
	case n.MTU == 0 && ipv6 && w.mtu < model.MinMTU6:
		resolved.MTU = model.MinMTU6
		h.Warn(fmt.Sprintf("network %s: the MTU is %d, the least for IPv6, and more than the %d of %s", n.Name, model.MinMTU6, w.mtu, w.what))
	case n.MTU == 0 && (resolved.MTU == 0 || resolved.MTU > w.mtu):
		resolved.MTU = w.mtu
	case n.MTU > w.mtu:
		h.Warn(fmt.Sprintf("network %s: mtu %d is more than the %d of %s. TCP is made to fit, but larger packets of others are "+
			"fragmented or lost; leave mtu out, or set %[3]d at most", n.Name, n.MTU, w.mtu, w.what))
	}
	return nil
}

// narrowest looks for the smallest MTU of a route, or of its device, that leads into one of
// the flat ranges: whole, in part, or by a wider route that is not the default one. Only
// routes of tables that the host's rules let containers use count. Routes to peers may not be
// there yet.
func narrowest(h *host.Host, n *model.Network) (w way, err error) {
	routes, err := h.Routes(unix.AF_UNSPEC, 0)
	if err != nil {
		return w, err
	}
	links := h.Lookup()
	ways, err := toPeers(links, n.Peers, routes)
	if err != nil {
		return w, err
	}
	used, err := newTables(n, routes)
	if err != nil {
		return w, err
	}
	flat := newRanges(n.Flat)
	for _, r := range routes {
		if r.Dst.Bits() > 0 && flat.overlap(r.Dst) && used.has(r) {
			ways = append(ways, r)
		}
	}
	for _, r := range ways {
		var l rtnl.Link
		if r.Index != 0 {
			if l, err = links.Index(r.Index); err != nil {
				return w, err
			}
		}
		if !leadsOut(l, n) || l.Kind == "bridge" && r.Protocol == unix.RTPROT_KERNEL { // as containers of this host are
			continue
		}
		mtu, what := l.MTU, l.Name
		if r.MTU != 0 && r.MTU < mtu {
			mtu, what = r.MTU, "the route by "+l.Name
		}
		if w.mtu == 0 || mtu < w.mtu {
			w = way{mtu, what + ", which leads to " + r.Dst.String()}
		}
	}
	return w, nil
}

// toPeers returns the routes that peers have or will have; without an index where there
// is none yet, which the ADD reports. A gateway is where the main table says.
func toPeers(links *host.Lookup, peers []peer.Peer, routes []rtnl.Route) (ways []rtnl.Route, err error) {
	if len(peers) == 0 {
		return nil, nil
	}
	to := map[netip.Prefix]rtnl.Route{}
	for _, r := range routes {
		if best, has := to[r.Dst]; r.Table == unix.RT_TABLE_MAIN && (!has || r.Priority < best.Priority) {
			to[r.Dst] = r
		}
	}
	for _, p := range peers {
		w := rtnl.Route{Dst: p.Subnet}
		if p.Dev != "" {
			l, err := links.Name(p.Dev)
			if err != nil {
				return nil, err
			}
			w.Index = l.Index
		} else if r, found := longest(p.Via, func(dst netip.Prefix) (rtnl.Route, bool) { r, has := to[dst]; return r, has }); found {
			w.Index = r.Index
		}
		ways = append(ways, w)
	}
	return ways, nil
}

// longest returns what there is of the longest prefix of an address that there is anything of.
func longest[T any](a netip.Addr, of func(netip.Prefix) (T, bool)) (found T, ok bool) {
	for bits := a.BitLen(); bits >= 0 && !ok; bits-- {
		found, ok = of(netip.PrefixFrom(a, bits).Masked())
	}
	return found, ok
}

// leadsOut reports whether a link may lead to other hosts. Bridges of flatnet lead to this
// host's own containers.
func leadsOut(l rtnl.Link, n *model.Network) bool {
	ours := l.Group == model.GroupIsolated || l.Group == model.GroupOpen
	return l.Index != 0 && !ours && l.Name != n.GatewayName() && l.Flags&unix.IFF_LOOPBACK == 0
}
