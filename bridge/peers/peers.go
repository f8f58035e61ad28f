// Package peers keeps the host's routes to the subnets of other hosts' containers.
//
// They are routes of the main table with a protocol number of flatnet's own, by which
// people see whose they are. Only a route that has it and is a recorded peer's is ever
// deleted, and none is replaced: another route to the same subnet is somebody else's
// decision, and an error. Networks may have the same peer; the route goes with the last
// of them.
package peers

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

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
		old = slices.Concat(found.Leaving, found.Peers)
	}
	if len(s.Peers)+len(s.Leaving)+len(old) == 0 {
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
	kept := set(recorded.Peers)
	old = slices.DeleteFunc(slices.Concat(old, recorded.Leaving), func(p peer.Peer) bool { return kept[p] })
	routes, err := mainRoutes(h)
	if err != nil {
		return nil, err
	}
	going := leaving(h, dir, recorded, old, routes)
	ways, err := look(h, s, without(routes, going))
	if err != nil {
		return nil, err
	}
	c := change{Host: h}
	ways = slices.DeleteFunc(ways, func(w way) bool {
		if !kept[w.Peer] && !w.own {
			c.missing = append(c.missing, fmt.Errorf("peer %s can't be reached: the route is not added, as no record has it", w.Route()))
		}
		return !kept[w.Peer]
	})
	if err := taken(h, ways); err != nil {
		return nil, err
	}
	if err := c.make(going, ways); err != nil {
		return nil, err
	}
	dir.Left(s.Name, gone(h, recorded.Leaving, c.stay))
	return c.missing, diverted(h, s, ways)
}

func set(peers []peer.Peer) map[peer.Peer]bool {
	all := map[peer.Peer]bool{}
	for _, p := range peers {
		all[p] = true
	}
	return all
}

// gone returns those of peers that are leaving to which none of some routes leads.
func gone(h *host.Host, peers []peer.Peer, routes []rtnl.Route) []peer.Peer {
	links := h.Lookup()
	return slices.DeleteFunc(slices.Clone(peers), func(p peer.Peer) bool {
		to := destinations([]peer.Peer{p})
		return slices.ContainsFunc(routes, func(r rtnl.Route) bool { return to.leads(links, r) > no })
	})
}

// A change is one of the host's routes to peers.
type change struct {
	*host.Host
	added   []rtnl.Route
	removed []rtnl.Route
	stay    []rtnl.Route // were to go, but nothing can take their place yet
	missing []error
}

// make deletes routes and adds those to peers. Where a route can't be added, an earlier one to
// the same subnet stays. If somebody adds another one to a peer at this moment, it sets back
// what it did.
func (c *change) make(going []rtnl.Route, ways []way) error {
	later := map[netip.Prefix]bool{}
	for i := range ways {
		if ways[i].absent() {
			later[ways[i].Subnet] = true
		}
	}
	for _, r := range going {
		if later[r.Dst] {
			c.stay = append(c.stay, r)
		} else {
			c.removed = append(c.removed, r)
		}
	}
	if err := remove(c.Host, c.removed); err != nil {
		return err
	}
	for i := range ways {
		w := &ways[i]
		r, err := add(c.Host, w)
		switch {
		case errors.Is(err, unix.EEXIST):
			err = model.Errorf(model.ErrTaken, "peers[%d]: the host has another route to %s; delete it or leave out the peer", w.n, w.Subnet)
			return errors.Join(err, c.back())
		case err != nil:
			c.lacks(w, err)
		case r.Protocol != 0:
			c.added = append(c.added, r)
			w.own = true
		}
	}
	return nil
}

// lacks notes that a peer can't be reached, unless an earlier route leads to its subnet.
func (c *change) lacks(w *way, err error) {
	for _, r := range c.removed {
		if r.Dst == w.Subnet && c.AddRoute(onLink(r)) == nil {
			c.stay = append(c.stay, r)
		}
	}
	err = fmt.Errorf("peer %s can't be reached: %w", w.Route(), err)
	i := slices.IndexFunc(c.stay, func(r rtnl.Route) bool { return r.Dst == w.Subnet })
	if i >= 0 {
		err = fmt.Errorf("%w; until it can, the earlier route %s stays", err, describe(c.Host, c.stay[i]))
	}
	c.missing = append(c.missing, err)
}

// back sets back what was done.
func (c *change) back() error {
	err := remove(c.Host, c.added)
	for _, r := range c.removed {
		err = errors.Join(err, c.AddRoute(onLink(r)))
	}
	return err
}

// Check reports, as a [model.ErrTaken], why Put would fail for a network without a record.
func Check(h *host.Host, n *model.Network) error {
	if len(n.Peers) == 0 {
		return nil
	}
	s := &model.Shared{Network: *n, Served: n.Subnets}
	routes, err := mainRoutes(h)
	if err != nil {
		return err
	}
	ways, err := look(h, s, routes)
	if err != nil {
		return err
	}
	return errors.Join(taken(h, ways), diverted(h, s, ways))
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
		routes = without(routes, leaving(h, dir, s, slices.Concat(found.Leaving, found.Peers), routes))
	}
	ways, err := look(h, s, routes)
	if err != nil {
		return err
	}
	return taken(h, ways)
}

// add adds the route to a peer, and returns it, if there is none.
func add(h *host.Host, w *way) (r rtnl.Route, err error) {
	if w.own {
		return r, nil
	}
	if w.absent() {
		return r, errors.New("there is no interface " + w.Dev)
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

// Drop drops the record of a network that goes, with the routes to its peers that no other
// recorded one has. s is the record, or nil; it stays as long as a route does.
func Drop(h *host.Host, dir records.Dir, network string, s *model.Shared) error {
	if s == nil || len(s.Peers)+len(s.Leaving) == 0 {
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
	if len(s.Peers)+len(s.Leaving) == 0 {
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
	return remove(h, leaving(h, dir, none, slices.Concat(s.Leaving, s.Peers), routes))
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
		return !ours(r) || is.leads(links, r) <= stays.leads(links, r)
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

// Whether a route is that to a peer. Its interface may have been renamed meanwhile.
const (
	no = iota
	maybe
	yes
)

// leads reports whether a route is that to one of the peers.
func (d directory) leads(links *host.Lookup, r rtnl.Route) (is int) {
	for _, dev := range d[destination{r.Dst, r.Gateway}] {
		if dev == "" {
			return yes
		}
		l, err := links.Name(dev)
		switch {
		case err == nil && l.Index == r.Index:
			return yes
		case err != nil || l.Index == 0:
			is = maybe
		}
	}
	return is
}

// ours reports whether flatnet can have made a route.
func ours(r rtnl.Route) bool {
	return r.Protocol == Protocol && r.Type == unix.RTN_UNICAST && !r.Several && r.TOS == 0 && !r.Src.IsValid()
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
