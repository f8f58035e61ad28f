package link

import (
	"cmp"
	"errors"
	"fmt"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/bridge/vlan"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// A container that has CAP_NET_ADMIN in its network namespace can rename, move,
// replace and delete whatever is there at any moment, also during an ADD. So a veth
// pair is only ever looked up on the host: by name and mark, and then by index. The
// host's description of its own end also says which interface the peer is.

// MakePair makes the veth pair under the first of the owner's names that no other
// owner's link has, or under the wanted name, and returns its host end.
func MakePair(h *host.Host, inside *Sandbox, a *model.Attachment) (rtnl.Link, error) {
	mark, own := a.Key.Mark(), a.Key.HostNames()
	names := own[:]
	if a.HostEnd != "" {
		names = []string{a.HostEnd}
	}
	for _, name := range names {
		l, err := h.AddVeth(rtnl.Veth{
			Name: name, MAC: mark[:], MTU: a.MTU,
			Peer: a.Key.IfName, PeerMAC: a.MAC[:], PeerNS: inside.netns.FD(),
		})
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err = host.Lacking("CONFIG_VETH", err); err == nil && (l.Kind != "veth" || !host.Owns(a.Key, l)) {
			err = takenAway(a.Key, "deleted")
		}
		return l, err
	}
	// The container may have made an interface of that name just now.
	return rtnl.Link{}, cmp.Or(inside.CheckVacant(a.Key.IfName),
		model.Errorf(model.ErrConflict, "interfaces %v of the host belong to others", names))
}

// CheckPair reports an [model.ErrChanged] unless end is still the attachment's host end,
// its peer is in the container's namespace, and has the name and the MAC that ADD gave
// it.
func CheckPair(h *host.Host, inside *Sandbox, a *model.Attachment, end rtnl.Link) error {
	now, err := h.LinkByIndex(end.Index)
	here, herr := inside.isPeer(h, now, end.Peer)
	l, lerr := inside.LinkByIndex(end.Peer)
	switch err := errors.Join(err, herr, lerr); {
	case err != nil:
		return err
	case !host.Owns(a.Key, now), here && l.Index == 0:
		return takenAway(a.Key, "deleted")
	case !here:
		return takenAway(a.Key, "moved to another network namespace")
	case l.Name != a.Key.IfName:
		return takenAway(a.Key, fmt.Sprintf("renamed to %q", l.Name)) // whose characters are the container's
	case string(l.MAC) != string(a.MAC[:]):
		return takenAway(a.Key, "given the MAC address "+l.MAC.String())
	}
	return nil
}

// isPeer reports whether the peer of a host end is the interface with an index in
// the container's namespace.
func (s *Sandbox) isPeer(h *host.Host, end rtnl.Link, index int) (bool, error) {
	id, err := h.NetNSID(s.netns.FD())
	return end.Peer == index && end.PeerNS == id && id != unix.NETNSA_NSID_NOT_ASSIGNED, err
}

func takenAway(key model.Key, how string) error {
	return model.Errorf(model.ErrChanged, "interface %s of %s was %s in the container during the ADD", key.IfName, key, how)
}

// Connect makes the host end a port of the bridge, raises it and gives it an alias. It
// returns the network's bridge as it then is. A port of a bridge needs no address.
func Connect(h *host.Host, br Bridge, a *model.Attachment, end rtnl.Link, hairpin bool) (now rtnl.Link, err error) {
	if a.VLANs.Any() {
		err = vlan.Attach(h, a.VLANs, end, br.Index)
	}
	if err == nil {
		change := rtnl.LinkChange{Up: true, Master: br.Index, Alias: end.Alias, NoLinkLocal: !end.Up()}
		now, err = h.SetLinkAndFind(end, change, a.Bridge)
	}
	if err == nil && (a.HairpinMode || hairpin) {
		err = h.SetPort("hairpin mode", end, unix.IFLA_BRPORT_MODE)
	}
	if err == nil && a.PortIsolated {
		err = h.SetPort("isolation", end, unix.IFLA_BRPORT_ISOLATED)
	}
	return now, portError(a.Bridge, err)
}

// PortFaults lists what a host end lacks; Connect mends it. vlans are those of all
// ports.
func PortFaults(br Bridge, s *model.Shared, end rtnl.Link, hairpin bool, vlans map[int]rtnl.PortVLANs) (found []model.Fault) {
	fault := func(thing, state string) {
		found = append(found, model.Fault{Thing: thing + end.Name, State: state, Link: end.Name})
	}
	if !end.Up() {
		fault("host interface ", "down")
	}
	if end.Master != br.Index || br.Index == 0 {
		fault("host interface ", "not on bridge "+s.Bridge)
		return found
	}
	if (s.HairpinMode || hairpin) && !end.Hairpin {
		fault("hairpin mode of ", "off")
	}
	if s.PortIsolated && !end.Isolated {
		fault("port isolation of ", "off")
	}
	return append(found, vlan.Faults(s.VLANs, end, vlans)...)
}

// Result reports the attachment in a namespace.
func Result(a *model.Attachment, br Bridge, end rtnl.Link, netns string) model.Result {
	res := model.Result{Interfaces: []model.Interface{
		{Name: a.Bridge, MAC: br.MAC.String(), MTU: br.MTU},
		{Name: end.Name, MAC: a.Key.Mark().String(), MTU: end.MTU},
		{Name: a.Key.IfName, MAC: a.MAC.String(), MTU: end.MTU, Sandbox: netns},
	}, Routes: a.Routes}
	if br.Gateway.Index != br.Index && len(a.GatewayPrefixes()) > 0 {
		gw := br.Gateway
		res.Interfaces = append(res.Interfaces, model.Interface{Name: gw.Name, MAC: gw.MAC.String(), MTU: gw.MTU})
	}
	for _, addr := range a.Addresses {
		res.IPs = append(res.IPs, model.IP{Address: addr.Prefix, Gateway: addr.Gateway, Interface: 2})
	}
	return res
}

// InheritedMTU is that of the device of the default route, IPv4's before IPv6's; 0 if
// there is none. lo is none: its packets go nowhere, and its MTU is more than a veth
// can have.
func InheritedMTU(h *host.Host) (uint32, error) {
	for _, ipv6 := range []bool{false, true} {
		l, err := h.DefaultRouteLink(ipv6)
		if err != nil || l.Index != 0 && l.Flags&unix.IFF_LOOPBACK == 0 {
			return l.MTU, err
		}
	}
	return 0, nil
}

// CheckVacant rejects a name that an interface of the container has.
func (s *Sandbox) CheckVacant(name string) error {
	l, err := s.LinkByName(name)
	if err == nil && l.Index != 0 {
		return model.Errorf(model.ErrTaken, "interface %s exists already in the container (a %s, index %d); remove it (DEL), or choose another name",
			name, cmp.Or(l.Kind, "device"), l.Index)
	}
	return err
}
