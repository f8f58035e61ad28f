// Package path fits a network that spans hosts to the way between them.
package path

import (
	"fmt"
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
	w := way{n.PathMTU, "the subnet file (FLANNEL_MTU)"}
	if w.mtu == 0 {
		var err error
		if w, err = narrowest(h, n); err != nil || w.mtu == 0 {
			return err
		}
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
// the flat ranges: whole, in part, or by a wider route that is not the default one. Routes to
// peers may not be there yet.
func narrowest(h *host.Host, n *model.Network) (w way, err error) {
	routes, err := h.Routes(unix.AF_UNSPEC, 0)
	if err != nil {
		return w, err
	}
	ways := slices.Clone(routes)
	ways = slices.DeleteFunc(ways, func(r rtnl.Route) bool {
		return r.Dst.Bits() == 0 || !slices.ContainsFunc(n.Flat, r.Dst.Overlaps)
	})
	for _, p := range n.Peers {
		r, err := toPeer(h, p, routes)
		if err != nil {
			return w, err
		}
		ways = append(ways, r)
	}
	links := map[int]rtnl.Link{}
	for _, r := range ways {
		l, known := links[r.Index]
		if !known && r.Index != 0 {
			if l, err = h.LinkByIndex(r.Index); err != nil {
				return w, err
			}
			links[r.Index] = l
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

// toPeer returns the route that a peer has or will have; without an index if it can't be
// told, which the ADD reports.
func toPeer(h *host.Host, p peer.Peer, routes []rtnl.Route) (r rtnl.Route, err error) {
	r.Dst = p.Subnet
	if p.Dev != "" {
		l, err := h.LinkByName(p.Dev)
		r.Index = l.Index
		return r, err
	}
	best := -1
	for _, o := range routes {
		if o.Table == unix.RT_TABLE_MAIN && o.Dst.Contains(p.Via) && o.Dst.Bits() > best {
			best, r.Index = o.Dst.Bits(), o.Index
		}
	}
	return r, nil
}

// leadsOut reports whether a link may lead to other hosts. Bridges of flatnet lead to this
// host's own containers.
func leadsOut(l rtnl.Link, n *model.Network) bool {
	ours := l.Group == model.GroupIsolated || l.Group == model.GroupOpen
	return l.Index != 0 && !ours && l.Name != n.GatewayName() && l.Flags&unix.IFF_LOOPBACK == 0
}
