package peers

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/peer"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// A way is one peer, and what the host has of it.
type way struct {
	peer.Peer
	n     int         // which of the network's peers it is
	index int         // of Dev; 0: there is none of that name
	own   bool        // of the main table's routes, the one that counts leads there as the peer says
	other *rtnl.Route // the one that counts, if it leads elsewhere
}

// absent reports whether the peer's interface is not there.
func (w *way) absent() bool { return w.Dev != "" && w.index == 0 }

// leads reports whether a route leads there as the peer says.
func (w *way) leads(r rtnl.Route) bool {
	plain := r.Type == unix.RTN_UNICAST && !r.Several && r.Gateway == w.Via
	return plain && (w.Dev == "" || w.index != 0 && r.Index == w.index)
}

// mainRoutes lists the routes of the main table, of all types.
func mainRoutes(h *host.Host) ([]rtnl.Route, error) {
	all, err := h.AllRoutes(unix.AF_UNSPEC, 0)
	return slices.DeleteFunc(all, func(r rtnl.Route) bool { return r.Table != unix.RT_TABLE_MAIN }), err
}

// look finds out what the host has of a network's peers, among the routes of its main table.
// Of several to one subnet, that with the lowest metric counts. Routes for some packets only
// count if these can be containers': IPv6 prefers a route of their addresses, and who asks for
// a way by the TOS field gets it.
func look(h *host.Host, s *model.Shared, routes []rtnl.Route) ([]way, error) {
	to := map[netip.Prefix][]rtnl.Route{}
	for _, r := range routes {
		if r.TOS == 0 {
			to[r.Dst] = append(to[r.Dst], r)
		}
	}
	links := h.Lookup()
	ways := make([]way, len(s.Peers))
	for i, p := range s.Peers {
		w := &ways[i]
		w.Peer, w.n = p, i
		if p.Dev != "" {
			l, err := links.Name(p.Dev)
			if err != nil {
				return nil, err
			}
			w.index = l.Index
		}
		all := slices.DeleteFunc(to[p.Subnet], func(r rtnl.Route) bool {
			return r.Src.IsValid() && (w.leads(r) || !slices.ContainsFunc(s.Served, func(sub model.Subnet) bool { return sub.Overlaps(r.Src) }))
		})
		if len(all) > 0 {
			first := &all[0] // the kernel lists equal ones in its order
			for i := range all {
				if r := &all[i]; cmp.Or(-cmp.Compare(r.Src.Bits(), first.Src.Bits()), cmp.Compare(r.Priority, first.Priority)) < 0 {
					first = r
				}
			}
			if w.own = w.leads(*first); !w.own {
				w.other = first
			}
		}
	}
	return ways, nil
}

// taken reports routes that lead to peers otherwise than these say.
func taken(h *host.Host, ways []way) (err error) {
	for _, w := range ways {
		if w.other != nil {
			err = errors.Join(err, model.Errorf(model.ErrTaken, "peers[%d]: the host has another route, %s, which is not replaced by %s; "+
				"delete the one or leave out the other", w.n, describe(h, *w.other), w.Route()))
		}
	}
	return err
}

// diverted reports peers to which the kernel sends what containers send by another route than
// the main table's.
func diverted(h *host.Host, s *model.Shared, ways []way) (err error) {
	for i, r := range elsewhere(h, s, ways) {
		w := &ways[i]
		err = errors.Join(err, model.Errorf(model.ErrTaken, "peers[%d]: the host's rules (ip rule) send containers' packets not by %s, but by "+
			"another route, %s; delete that one or leave out the peer", w.n, w.Route(), describe(h, r)))
	}
	return err
}

// maxAsked bounds the peers that the kernel is asked about.
const maxAsked = 16

// elsewhere asks the kernel by which route containers' packets go to peers, of which the main
// table has the route, and returns those that lead elsewhere, by the place of their ways: a
// routing rule may choose another table. Of many peers it asks about some, from first to last.
// The answer is that to a packet which arrives by the bridge; without one, nothing is known.
func elsewhere(h *host.Host, s *model.Shared, ways []way) map[int]rtnl.Route {
	var ask []int
	for i, w := range ways {
		if w.own {
			ask = append(ask, i)
		}
	}
	if len(ask) == 0 {
		return nil
	}
	br, err := h.LinkByName(s.GatewayName())
	if err != nil || br.Index == 0 {
		return nil
	}
	found := map[int]rtnl.Route{}
	for n := range min(len(ask), maxAsked) {
		i := ask[n*len(ask)/min(len(ask), maxAsked)]
		w, to := &ways[i], ways[i].Subnet.Addr()
		if !ways[i].Subnet.IsSingleIP() {
			to = to.Next()
		}
		from, has := container(s, to.Is4())
		if !has {
			continue
		}
		r, err := h.RouteOf(br.Index, from, to)
		if err == nil && (r.Index != 0 || r.Several) && !w.leads(r) && r.Dst.Bits() <= w.Subnet.Bits() {
			found[i] = r
		}
	}
	return found
}

// container returns an address that containers of a network can have, and not the gateway.
func container(s *model.Shared, is4 bool) (netip.Addr, bool) {
	for _, sub := range s.Served {
		if sub.Prefix.Addr().Is4() != is4 {
			continue
		}
		for a := sub.Masked().Addr().Next(); sub.Contains(a); a = a.Next() {
			if a != sub.Gateway {
				return a, true
			}
		}
	}
	return netip.Addr{}, false
}

// Faults lists the peers to which no route leads, or another's; Restore mends it unless there
// is another one.
func Faults(h *host.Host, s *model.Shared) (found []model.Fault, err error) {
	if len(s.Peers) == 0 {
		return nil, nil
	}
	routes, err := mainRoutes(h)
	if err != nil {
		return nil, err
	}
	was, links := destinations(s.Leaving), h.Lookup() // not another's, where the way now is not there yet
	routes = slices.DeleteFunc(routes, func(r rtnl.Route) bool { return ours(r) && was.leads(links, r) > no })
	ways, err := look(h, s, routes)
	diverted := elsewhere(h, s, ways)
	for i := range ways {
		w := &ways[i]
		r, away := diverted[i]
		f := model.Fault{Thing: "route " + w.Route(), State: model.Missing}
		switch {
		case away:
			f.State = "not taken, but another's: " + describe(h, r)
			f.Advice = "delete that one, or the rule that leads to it (ip rule), or leave out the peer"
		case w.own:
			continue
		case w.other != nil:
			f.State = "not there, but another's: " + describe(h, *w.other)
			f.Advice = "delete that one and run flatnet reload, or leave out the peer"
		case w.absent():
			f.Mend = "is not made: there is no interface " + w.Dev
		}
		found = append(found, f)
	}
	return found, err
}

// describe returns a route, and whose it is, as ip-route(8) shows it.
func describe(h *host.Host, r rtnl.Route) string {
	origins := map[uint8]string{unix.RTPROT_KERNEL: "kernel", unix.RTPROT_BOOT: "boot", unix.RTPROT_STATIC: "static",
		unix.RTPROT_RA: "ra", unix.RTPROT_DHCP: "dhcp", unix.RTPROT_BIRD: "bird", unix.RTPROT_BGP: "bgp", Protocol: "flatnet's, " + strconv.Itoa(Protocol)}
	text := written(h, r) + " proto " + cmp.Or(origins[r.Protocol], strconv.Itoa(int(r.Protocol)))
	if r.Src.IsValid() {
		text += " from " + r.Src.String()
	}
	if r.Priority != 0 {
		text += fmt.Sprintf(" metric %d", r.Priority)
	}
	if r.Table != unix.RT_TABLE_MAIN {
		text += fmt.Sprintf(" table %d", r.Table)
	}
	return text
}

// written returns a route as ip-route(8) takes it.
func written(h *host.Host, r rtnl.Route) string {
	p := peer.Peer{Subnet: r.Dst, Via: r.Gateway}
	if l, err := h.LinkByIndex(r.Index); err == nil {
		p.Dev = l.Name // it may have gone
	}
	types := map[uint8]string{unix.RTN_UNICAST: "", unix.RTN_BLACKHOLE: "blackhole ", unix.RTN_UNREACHABLE: "unreachable ",
		unix.RTN_PROHIBIT: "prohibit ", unix.RTN_THROW: "throw "}
	kind, known := types[r.Type]
	if !known {
		kind = "type " + strconv.Itoa(int(r.Type)) + " "
	}
	return kind + p.Route()
}
