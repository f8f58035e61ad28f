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
	var served []netip.Prefix // also by another address management plugin
	for _, sub := range s.Served {
		served = append(served, sub.Prefix)
	}
	if err := peer.CheckAll(s.Peers, served); err != nil {
		return nil, model.Errorf(model.ErrInvalid, "%w", err)
	}
	lock, err := dir.Peers()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	kept := func(p peer.Peer) bool { return slices.Contains(s.Peers, p) }
	if err := remove(h, dir, s.Name, slices.DeleteFunc(slices.Clone(old), kept)); err != nil {
		return nil, err
	}
	ways, err := look(h, s.Peers)
	if err == nil {
		err = taken(h, ways)
	}
	for i := 0; i < len(ways) && err == nil; i++ {
		switch aerr := add(h, &ways[i]); {
		case errors.Is(aerr, unix.EEXIST): // it is none of those that lead anywhere
			err = model.Errorf(model.ErrTaken, "peers[%d]: the host has a route of another type to %s; delete it or leave out the peer", i, ways[i].Subnet)
		case aerr != nil:
			missing = append(missing, fmt.Errorf("peer %s can't be reached: %w", ways[i].Route(), aerr))
		}
	}
	return missing, err
}

// look finds out what the host has of peers.
func look(h *host.Host, peers []peer.Peer) ([]way, error) {
	if len(peers) == 0 {
		return nil, nil
	}
	routes, err := h.Routes(unix.AF_UNSPEC, 0)
	if err != nil {
		return nil, err
	}
	to := map[netip.Prefix][]rtnl.Route{}
	for _, r := range routes {
		if r.Table == unix.RT_TABLE_MAIN {
			to[r.Dst] = append(to[r.Dst], r)
		}
	}
	ways := make([]way, len(peers))
	for i, p := range peers {
		w := way{Peer: p}
		if p.Dev != "" {
			l, err := h.LinkByName(p.Dev)
			if err != nil {
				return nil, err
			}
			w.index = l.Index
		}
		for _, r := range to[p.Subnet] {
			if r.Gateway == p.Via && (p.Dev == "" || r.Index == w.index) {
				w.own = true
			} else {
				w.other = append(w.other, r)
			}
		}
		ways[i] = w
	}
	return ways, nil
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

// Check reports, as a [model.ErrTaken], why Put would fail.
func Check(h *host.Host, n *model.Network) error {
	ways, err := look(h, n.Peers)
	if err != nil {
		return err
	}
	return taken(h, ways)
}

// describe returns a route as ip-route(8) shows it.
func describe(h *host.Host, r rtnl.Route) string {
	p := peer.Peer{Subnet: r.Dst, Via: r.Gateway}
	if l, err := h.LinkByIndex(r.Index); err == nil {
		p.Dev = l.Name // it may have gone
	}
	origins := map[uint8]string{unix.RTPROT_KERNEL: "kernel", unix.RTPROT_BOOT: "boot", unix.RTPROT_STATIC: "static",
		unix.RTPROT_RA: "ra", unix.RTPROT_DHCP: "dhcp", unix.RTPROT_BIRD: "bird", unix.RTPROT_BGP: "bgp", Protocol: "flatnet's, " + strconv.Itoa(Protocol)}
	return p.Route() + " proto " + cmp.Or(origins[r.Protocol], strconv.Itoa(int(r.Protocol)))
}

// add adds the route to a peer, if there is none.
func add(h *host.Host, w *way) error {
	if w.own {
		return nil
	}
	if w.Dev != "" && w.index == 0 {
		return fmt.Errorf("there is no interface %s", w.Dev)
	}
	r := rtnl.Route{Dst: w.Subnet, Gateway: w.Via, Index: w.index, Protocol: Protocol}
	if !w.Via.IsValid() && w.Subnet.Addr().Is4() {
		r.Scope = unix.RT_SCOPE_LINK
	}
	return h.AddRoute(r)
}

// Faults lists the peers to which no route leads; Restore mends it unless there is
// another one.
func Faults(h *host.Host, s *model.Shared) (found []model.Fault, err error) {
	ways, err := look(h, s.Peers)
	for _, w := range ways {
		f := model.Fault{Thing: "route " + w.Route(), State: "missing"}
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

// Remove deletes the routes to peers of a network that goes, and that no other recorded
// one has. s is its record, or nil.
func Remove(h *host.Host, dir records.Dir, s *model.Shared) error {
	if s == nil || len(s.Peers) == 0 {
		return nil
	}
	lock, err := dir.Peers()
	if err != nil {
		return err
	}
	defer lock.Close()
	return remove(h, dir, s.Name, s.Peers)
}

// Sweep is Remove of a network without attachments, unless its record is still there.
func Sweep(h *host.Host, dir records.Dir, s *model.Shared) error {
	if dir.Network(s.Name) != nil {
		return nil
	}
	return Remove(h, dir, s)
}

// remove is Remove for a caller that has the lock. What can't be read of other networks
// is no reason to keep a route: a reload reports it, and mends what it can read.
func remove(h *host.Host, dir records.Dir, network string, gone []peer.Peer) error {
	if len(gone) == 0 {
		return nil
	}
	needed := map[netip.Prefix]bool{}
	others, _ := dir.Networks()
	for _, o := range others {
		for _, p := range o.Peers {
			needed[p.Subnet] = needed[p.Subnet] || o.Name != network
		}
	}
	routes, err := h.Routes(unix.AF_UNSPEC, 0)
	for _, r := range routes {
		// An interface may have been renamed meanwhile, so it is not compared.
		is := func(p peer.Peer) bool { return p.Subnet == r.Dst && p.Via == r.Gateway }
		if r.Protocol != Protocol || r.Table != unix.RT_TABLE_MAIN || needed[r.Dst] || !slices.ContainsFunc(gone, is) {
			continue
		}
		if derr := h.DeleteRoute(r); !errors.Is(derr, unix.ESRCH) { // else it went with its interface
			err = errors.Join(err, derr)
		}
	}
	return err
}
