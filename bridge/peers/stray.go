package peers

import (
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

// A Stray is a route of flatnet's number that no record has, such as after the records were
// lost.
type Stray struct {
	Text string // as ip-route(8) takes it
	Kept string // why it must not be deleted; empty: it may be
	rtnl.Route
}

// Strays lists the stray routes of the host. Where a record can't be read there are none: that
// is reported by whom it concerns.
func Strays(h *host.Host, dir records.Dir) (found []Stray, err error) {
	routes, err := mainRoutes(h) // before the records: an ADD writes its own first
	routes = slices.DeleteFunc(routes, func(r rtnl.Route) bool { return r.Protocol != Protocol })
	if err != nil || len(routes) == 0 {
		return nil, err
	}
	networks, err := dir.Networks()
	if err != nil {
		return nil, nil
	}
	var known []peer.Peer
	recorded := map[string]bool{}
	for _, s := range networks {
		known, recorded[s.Name] = slices.Concat(known, s.Peers, replaced(s)), true
	}
	to := destinations(known)
	routes = slices.DeleteFunc(routes, func(r rtnl.Route) bool { return to[destination{r.Dst, r.Gateway}] != nil })
	if len(routes) == 0 {
		return nil, nil
	}
	links, err := h.Links()
	kept := ""
	for _, o := range host.Owners(links) {
		if name := o.Key.Network; name != "" && !recorded[name] {
			kept = "network " + name + " has containers and no record, so it may be theirs; the network's next ADD records what it needs"
		}
	}
	for _, r := range routes {
		s := Stray{written(h, r), kept, r}
		if r.Type != unix.RTN_UNICAST || r.Several {
			s.Kept = "flatnet makes none like it"
		}
		found = append(found, s)
	}
	return found, err
}

// replaced returns the peers that a network leaves for another way to the same subnet. Their
// routes stay until that is there.
func replaced(s *model.Shared) []peer.Peer {
	now := map[netip.Prefix]bool{}
	for _, p := range s.Peers {
		now[p.Subnet] = true
	}
	return slices.DeleteFunc(slices.Clone(s.Leaving), func(p peer.Peer) bool { return !now[p.Subnet] })
}

// Collect deletes the stray routes that need not be kept.
func Collect(h *host.Host, dir records.Dir) error {
	lock, err := dir.Peers()
	if err != nil {
		return err
	}
	defer lock.Close()
	strays, err := Strays(h, dir)
	if err != nil {
		return err
	}
	var lost []rtnl.Route
	for _, s := range strays {
		if s.Kept == "" {
			lost = append(lost, s.Route)
		}
	}
	return remove(h, lost)
}

// Unrecorded warns of stray routes: a reload does not delete what has no recorded owner.
func Unrecorded(h *host.Host, dir records.Dir) error {
	strays, err := Strays(h, dir)
	for _, s := range strays {
		text := "flatnet gc --yes deletes it, unless a network's next ADD is to use it"
		if s.Kept != "" {
			text = s.Kept
		}
		h.Say(fmt.Errorf("the route %s is in no record; %s", describe(h, s.Route), text))
	}
	return err
}
