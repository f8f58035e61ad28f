// Package peers keeps the host's routes to the subnets of other hosts' containers.
//
// They are routes of the main table with a protocol number of flatnet's own, by which
// people see whose they are. Only a route that has it and is a recorded peer's is ever
// deleted, and none is replaced: another route to the same subnet is somebody else's
// decision, and an error. Networks may have the same peer; the route goes with the last
// of them.
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
	"flatnet/bridge/records"
	"flatnet/internal/peer"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// Protocol is the origin of the routes (rtm_protocol). Neither linux/rtnetlink.h nor
// iproute2's rt_protos gives 87 to anybody.
const Protocol = 87

// A way is one peer, and what the host has of it.
type way struct {
	peer.Peer
	index int          // of Dev; 0: there is none of that name
	own   bool         // a route leads there as the peer says
	other []rtnl.Route // lead elsewhere
}

// Put gives the host the routes to a network's peers that it lacks, and deletes those to
// peers that the network's record found, which may be nil, had and s no longer has. The
// record of s must have been written. Another's route to a peer is a [model.ErrTaken].
// What is not there yet, such as a tunnel's interface, is warned of: a container also
// has other destinations.
func Put(h *host.Host, dir records.Dir, s, found *model.Shared) error {
	missing, err := put(h, dir, s, found)
	if err == nil && len(missing) > 0 {
		h.Say(fmt.Errorf("network %s: %w; flatnet reload, or the network's next ADD, adds what is possible then",
			s.Name, errors.Join(missing...)))
	}
	return err
}

// Restore is Put of a reload, which fails where a route can't be added.
func Restore(h *host.Host, dir records.Dir, s *model.Shared) error {
	missing, err := put(h, dir, s, nil)
	return errors.Join(append(missing, err)...)
}

func put(h *host.Host, dir records.Dir, s, found *model.Shared) (missing []error, err error) {
	var old []peer.Peer
	if found != nil {
		old = found.Peers
	}
	if len(s.Peers)+len(old) == 0 {
		return nil, nil
	}
	lock, err := dir.Peers()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	// Another ADD may have recorded other peers meanwhile. A route that is in no record would
	// stay forever.
	recorded := dir.Network(s.Name)
	if recorded == nil {
		recorded = &model.Shared{Network: model.Network{Name: s.Name}}
	}
	kept := map[peer.Peer]bool{}
	for _, p := range recorded.Peers {
		kept[p] = true
	}
	isKept := func(p peer.Peer) bool { return kept[p] }
	wanted := slices.DeleteFunc(slices.Clone(s.Peers), func(p peer.Peer) bool { return !isKept(p) })
	for _, p := range s.Peers {
		if !isKept(p) {
			missing = append(missing, fmt.Errorf("peer %s can't be reached: the route is not added, as no record has it", p.Route()))
		}
	}
	routes, err := mainRoutes(h)
	if err != nil {
		return nil, err
	}
	going := leaving(h, dir, recorded, slices.DeleteFunc(slices.Clone(old), isKept), routes)
	ways, err := look(h, wanted, without(routes, going))
	if err == nil {
		err = taken(h, ways)
	}
	if err != nil {
		return nil, err
	}
	lacking, err := change(h, going, ways)
	return append(missing, lacking...), err
}

// change deletes routes and adds those to peers. If somebody adds another one to a peer
// at this moment, it sets back what it did.
func change(h *host.Host, going []rtnl.Route, ways []way) (missing []error, err error) {
	if err := remove(h, going); err != nil {
		return nil, err
	}
	var added []rtnl.Route
	for i := range ways {
		r, aerr := add(h, &ways[i])
		switch {
		case errors.Is(aerr, unix.EEXIST):
			err = model.Errorf(model.ErrTaken, "peers[%d]: the host has another route to %s; delete it or leave out the peer", i, ways[i].Subnet)
			err = errors.Join(err, remove(h, added))
			for _, r := range going {
				err = errors.Join(err, h.AddRoute(onLink(r)))
			}
			return nil, err
		case aerr != nil:
			missing = append(missing, fmt.Errorf("peer %s can't be reached: %w", ways[i].Route(), aerr))
		case r.Protocol != 0:
			added = append(added, r)
		}
	}
	return missing, nil
}

// mainRoutes lists the routes of the main table, of all types.
func mainRoutes(h *host.Host) ([]rtnl.Route, error) {
	all, err := h.AllRoutes(unix.AF_UNSPEC, 0)
	return slices.DeleteFunc(all, func(r rtnl.Route) bool { return r.Table != unix.RT_TABLE_MAIN }), err
}

// look finds out what the host has of peers, among the routes of its main table.
func look(h *host.Host, peers []peer.Peer, routes []rtnl.Route) ([]way, error) {
	to := map[netip.Prefix][]rtnl.Route{}
	for _, r := range routes {
		to[r.Dst] = append(to[r.Dst], r)
	}
	links := h.Lookup()
	ways := make([]way, len(peers))
	for i, p := range peers {
		w := way{Peer: p}
		if p.Dev != "" {
			l, err := links.Name(p.Dev)
			if err != nil {
				return nil, err
			}
			w.index = l.Index
		}
		for _, r := range to[p.Subnet] {
			plain := r.Type == unix.RTN_UNICAST && !r.Several && r.Gateway == p.Via
			if plain && (p.Dev == "" || w.index != 0 && r.Index == w.index) {
				w.own = true
			} else {
				w.other = append(w.other, r)
			}
		}
		ways[i] = w
	}
	return ways, nil
}

// survey is look of a caller that has not listed the routes.
func survey(h *host.Host, peers []peer.Peer) ([]way, error) {
	if len(peers) == 0 {
		return nil, nil
	}
	routes, err := mainRoutes(h)
	if err != nil {
		return nil, err
	}
	return look(h, peers, routes)
}

// taken reports routes that lead to peers otherwise than these say.
func taken(h *host.Host, ways []way) (err error) {
	for i, w := range ways {
		if len(w.other) > 0 && !w.own {
			err = errors.Join(err, model.Errorf(model.ErrTaken, "peers[%d]: the host has another route, %s, which is not replaced by %s; "+
				"delete the one or leave out the other", i, describe(h, w.other[0]), w.Route()))
		}
	}
	return err
}

// Check reports, as a [model.ErrTaken], why Put would fail for a network without a record.
func Check(h *host.Host, n *model.Network) error {
	ways, err := survey(h, n.Peers)
	if err != nil {
		return err
	}
	return taken(h, ways)
}

// Ready reports why Put would fail, before s takes the place of the record found, which
// may be nil: living containers need the routes that are recorded.
func Ready(h *host.Host, dir records.Dir, s, found *model.Shared) error {
	if len(s.Peers) == 0 {
		return nil
	}
	var served []netip.Prefix // also by another address management plugin
	for _, sub := range s.Served {
		served = append(served, sub.Prefix)
	}
	if err := peer.CheckAll(s.Peers, served); err != nil {
		return model.Errorf(model.ErrInvalid, "%w", err)
	}
	routes, err := mainRoutes(h)
	if err != nil {
		return err
	}
	if found != nil {
		routes = without(routes, leaving(h, dir, s, found.Peers, routes))
	}
	ways, err := look(h, s.Peers, routes)
	if err != nil {
		return err
	}
	return taken(h, ways)
}

// describe returns a route, and whose it is, as ip-route(8) shows it.
func describe(h *host.Host, r rtnl.Route) string {
	origins := map[uint8]string{unix.RTPROT_KERNEL: "kernel", unix.RTPROT_BOOT: "boot", unix.RTPROT_STATIC: "static",
		unix.RTPROT_RA: "ra", unix.RTPROT_DHCP: "dhcp", unix.RTPROT_BIRD: "bird", unix.RTPROT_BGP: "bgp", Protocol: "flatnet's, " + strconv.Itoa(Protocol)}
	return written(h, r) + " proto " + cmp.Or(origins[r.Protocol], strconv.Itoa(int(r.Protocol)))
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

// add adds the route to a peer, and returns it, if there is none.
func add(h *host.Host, w *way) (r rtnl.Route, err error) {
	if w.own {
		return r, nil
	}
	if w.Dev != "" && w.index == 0 {
		return r, fmt.Errorf("there is no interface %s", w.Dev)
	}
	r = onLink(rtnl.Route{Dst: w.Subnet, Gateway: w.Via, Index: w.index, Protocol: Protocol})
	return r, h.AddRoute(r)
}

// onLink gives a route the scope by which the kernel takes it.
func onLink(r rtnl.Route) rtnl.Route {
	if !r.Gateway.IsValid() && r.Dst.Addr().Is4() {
		r.Scope = unix.RT_SCOPE_LINK
	}
	return r
}

// Faults lists the peers to which no route leads; Restore mends it unless there is
// another one.
func Faults(h *host.Host, s *model.Shared) (found []model.Fault, err error) {
	ways, err := survey(h, s.Peers)
	for _, w := range ways {
		f := model.Fault{Thing: "route " + w.Route(), State: model.Missing}
		if len(w.other) > 0 {
			f.State = "not there, but another's: " + describe(h, w.other[0])
			f.Advice = "delete that one and run flatnet reload, or leave out the peer"
		}
		if !w.own {
			found = append(found, f)
		}
	}
	return found, err
}

// Drop drops the record of a network that goes, with the routes to its peers that no other
// recorded one has. s is the record, or nil; it stays as long as a route does.
func Drop(h *host.Host, dir records.Dir, network string, s *model.Shared) error {
	if s == nil || len(s.Peers) == 0 {
		return dir.DropNetwork(network)
	}
	lock, err := dir.Peers()
	if err == nil {
		defer lock.Close()
		err = removeAll(h, dir, s)
	}
	if err != nil {
		return err
	}
	return dir.DropNetwork(network)
}

// Sweep is Drop of a network without attachments, unless its record is so fresh that an
// ADD may need it.
func Sweep(h *host.Host, dir records.Dir, s *model.Shared) error {
	if len(s.Peers) == 0 {
		return dir.DropOld(s.Name)
	}
	lock, err := dir.Peers()
	if err != nil {
		return err
	}
	defer lock.Close()
	if dir.Network(s.Name) != nil && !dir.IsOld(s.Name) {
		return nil
	}
	if err := removeAll(h, dir, s); err != nil {
		return err
	}
	return dir.DropOld(s.Name)
}

// removeAll deletes the routes to peers of a network that goes, for a caller that has the
// lock.
func removeAll(h *host.Host, dir records.Dir, s *model.Shared) error {
	routes, err := mainRoutes(h)
	if err != nil {
		return err
	}
	none := &model.Shared{Network: model.Network{Name: s.Name}}
	return remove(h, leaving(h, dir, none, s.Peers, routes))
}

// leaving lists those of routes that lead to peers that are gone, and to none that s or
// another recorded network has. What can't be read of other networks is no reason to keep
// a route: a reload reports it, and mends what it can read.
func leaving(h *host.Host, dir records.Dir, s *model.Shared, gone []peer.Peer, routes []rtnl.Route) []rtnl.Route {
	if len(gone) == 0 {
		return nil
	}
	is, needed := destinations(gone), s.Peers
	others, _ := dir.Networks()
	for _, o := range others {
		if o.Name != s.Name {
			needed = slices.Concat(needed, o.Peers)
		}
	}
	stays, links := destinations(needed), h.Lookup()
	return slices.DeleteFunc(slices.Clone(routes), func(r rtnl.Route) bool {
		ours := r.Protocol == Protocol && r.Type == unix.RTN_UNICAST && !r.Several
		return !ours || !is.lead(links, r) || stays.lead(links, r)
	})
}

// without returns routes without some of them.
func without(routes, some []rtnl.Route) []rtnl.Route {
	out := map[rtnl.Route]bool{}
	for _, r := range some {
		out[r] = true
	}
	return slices.DeleteFunc(routes, func(r rtnl.Route) bool { return out[r] })
}

// A destination is where a route leads, but for the interface.
type destination struct {
	subnet netip.Prefix
	via    netip.Addr
}

// A directory has the interfaces by which peers are reached, so that one is found among many.
type directory map[destination][]string

func destinations(peers []peer.Peer) directory {
	d := directory{}
	for _, p := range peers {
		to := destination{p.Subnet, p.Via}
		d[to] = append(d[to], p.Dev)
	}
	return d
}

// lead reports whether a route may be that to one of the peers, whose interface may have been
// renamed meanwhile.
func (d directory) lead(links *host.Lookup, r rtnl.Route) bool {
	return slices.ContainsFunc(d[destination{r.Dst, r.Gateway}], func(dev string) bool {
		if dev == "" {
			return true
		}
		l, err := links.Name(dev)
		return err != nil || l.Index == 0 || l.Index == r.Index
	})
}

// remove deletes routes, of which some may have gone with their interfaces.
func remove(h *host.Host, routes []rtnl.Route) (err error) {
	for _, r := range routes {
		if derr := h.DeleteRoute(r); !errors.Is(derr, unix.ESRCH) {
			err = errors.Join(err, derr)
		}
	}
	return err
}
