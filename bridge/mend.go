package bridge

import (
	"errors"
	"fmt"
	"slices"

	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// A hostEnd is the host's side of a living attachment, with what is recorded of
// it.
type hostEnd struct {
	Attachment
	link rtnl.Link
}

// hostEndsOf finds the network's host ends among links. common is what its
// attachments have in common, the rest of each is in the wishes.
func hostEndsOf(links []rtnl.Link, common Attachment, wishes []wish) (ends []hostEnd) {
	for _, l := range links {
		for _, o := range ownersOf([]rtnl.Link{l}) {
			if o.Key.Network != common.Key.Network || o.Key == (Key{}) {
				continue
			}
			e := hostEnd{common, l}
			e.Key = o.Key
			if i := slices.IndexFunc(wishes, func(w wish) bool { return w.Key == o.Key }); i >= 0 {
				e.Ports, e.Bandwidth = wishes[i].Ports, wishes[i].Bandwidth
			}
			ends = append(ends, e)
		}
	}
	return ends
}

// A mender makes good what a restart of the host's network takes from living
// attachments: bridges and their addresses, sysctls, bridge ports. The host's
// links say what is alive, records what it needs.
type mender struct {
	*Host
	c      *rtnl.Conn
	wishes []wish
	done   []string // lines about what was mended
}

func (m *mender) mended(faults ...fault) {
	for _, f := range faults {
		m.done = append(m.done, f.mended())
	}
}

// links mends everything but route_localnet, which is harmless only when the
// rules are there.
func (m *mender) links() error {
	networks, err := m.records.networks()
	for _, a := range networks {
		links, lerr := m.c.Links()
		if lerr != nil {
			return errors.Join(err, fmt.Errorf("list links: %w", lerr))
		}
		ends := hostEndsOf(links, a, m.wishes)
		if len(ends) == 0 {
			err = errors.Join(err, m.records.dropOldFile(m.records.networkFile(a.Key.Network)))
			continue
		}
		if nerr := m.network(a, ends, links); nerr != nil {
			err = errors.Join(err, fmt.Errorf("network %s: %w", a.Key.Network, nerr))
		}
	}
	return errors.Join(err, m.older(networks), m.lowerRA())
}

// older names networks whose bridge is not as it was, and of which an older version
// has recorded only the rules. Whether the bridge had an address, and which, they
// don't tell.
func (m *mender) older(known []Attachment) (err error) {
	firewalls, _, _ := m.records.all() // of what can't be read, Reload tells
	owners, oerr := m.Owners()
	used, _ := inUse(firewalls, owners)
	for _, f := range used {
		if !f.Subnet.IsValid() || slices.ContainsFunc(known, func(a Attachment) bool { return a.Key.Network == f.Network }) {
			continue
		}
		br, berr := findBridge(m.c, f.Bridge, VLANs{})
		if berr != nil { // it leads into a VLAN, or is no bridge any more
			continue
		}
		lacks := len(br.faults(Attachment{Bridge: f.Bridge, Group: br.Group})) > 0 || f.IPMasq && f.Gateway.IsValid() &&
			!slices.ContainsFunc(br.addrs, func(a rtnl.Addr) bool { return a.Prefix.Addr() == f.Gateway })
		if lacks {
			err = errors.Join(err, fmt.Errorf("network %s: bridge %s is not as it was, and an older version made no record of it; the network's next ADD mends it", f.Network, f.Bridge))
		}
	}
	return errors.Join(oerr, err)
}

// network mends one network that has host ends.
func (m *mender) network(a Attachment, ends []hostEnd, links []rtnl.Link) error {
	br, err := findBridge(m.c, a.Bridge, a.VLANs)
	if err != nil {
		return err
	}
	faults, err := m.bridgeFaults(m.c, br, a)
	if err != nil {
		return err
	}
	if len(faults) > 0 {
		if br, err = m.bridge(br, a, links); err != nil {
			return err
		}
		m.mended(faults...)
	}
	vlans, err := a.VLANs.ofPorts(m.c)
	if err != nil {
		return err
	}
	moved := false
	for _, e := range ends {
		faults, limits := m.portFaults(br, e.Attachment, e.link, vlans), limitFaults(m.c, e.Attachment, e.link)
		var merr error
		if len(faults) > 0 {
			merr = m.mendPort(br, e.Attachment, e.link)
		}
		if len(limits) > 0 && merr == nil {
			merr = restoreLimit(m.c, e.Attachment, e.link.Index)
		}
		if errors.Is(merr, unix.ENODEV) { // its container has gone
			continue
		}
		if merr == nil {
			m.mended(append(faults, limits...)...)
			moved = moved || e.link.Master != br.Index
		}
		err = errors.Join(err, merr)
	}
	// The record does not tell what MAC they know: an ADD that made the bridge again has
	// written its own.
	if moved || string(br.MAC) != string(a.BridgeMAC[:]) {
		err = errors.Join(err, m.announceGateways(br, a))
	}
	return err
}

// bridge makes the bridge, or what it lacks.
func (m *mender) bridge(br bridgeState, a Attachment, links []rtnl.Link) (bridgeState, error) {
	made := br.Index == 0
	if i := slices.IndexFunc(links, func(l rtnl.Link) bool {
		return isMadeFor(l, a.Key.Network) && l.Name != a.Bridge
	}); i >= 0 && made {
		return br, fmt.Errorf("bridge %s is now called %s; give it its name again: %w", a.Bridge, links[i].Name, ErrConflict)
	}
	br, err := m.ensureBridge(m.c, br, a)
	if err == nil {
		err = m.restoreForward(m.c, a)
	}
	if err == nil && made { // the last DEL may have come between
		links, err = m.c.Links()
		if err == nil && len(hostEndsOf(links, a, nil)) == 0 {
			err = m.removeBridges(m.c, a.Key.Network, links, 0) // an ADD that has begun has it
			if errors.Is(err, ErrBusy) {
				err = nil
			}
		}
	}
	return br, err
}

// announceGateways tells containers, which know the gateway by the MAC of an
// earlier bridge: see announce.
func (m *mender) announceGateways(br bridgeState, a Attachment) (err error) {
	for _, gw := range a.Gateways {
		err = errors.Join(err, ifPossible(m.sysctl.Ensure(notify(br.gateway.Name, gw.Addr()), "1")))
	}
	if len(a.Gateways) == 0 { // and so, in a VLAN, no interface that could have one
		return nil
	}
	if serr := m.c.SetLink(rtnl.LinkChange{Index: br.gateway.Index, MAC: br.gateway.MAC}); serr != nil {
		err = errors.Join(err, fmt.Errorf("announce the gateways on %s: %w", br.gateway.Name, serr))
	}
	return err
}

// loopback mends route_localnet.
func (m *mender) loopback() (err error) {
	networks, _ := m.records.networks() // of what can't be read, links has told
	links, err := m.c.Links()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, a := range networks {
		for _, e := range hostEndsOf(links, a, m.wishes) {
			for _, f := range m.localnetFaults(e.Attachment) {
				serr := m.sysctl.Ensure(routeLocalnet(a.VLANs.gatewayName(a.Bridge)), "1")
				if serr == nil {
					m.mended(f)
				}
				err = errors.Join(err, serr)
			}
		}
	}
	return err
}

// lowerRA undoes what keepRouters did, if the host is no router any more: then
// accept_ra 1 means the same as 2.
func (m *mender) lowerRA() error {
	raised := m.records.raised()
	if v, err := m.sysctl.Get(forwarding6); len(raised) == 0 || err != nil || v != "0" {
		return nil
	}
	for _, name := range raised {
		if v, err := m.sysctl.Get(acceptRA(name)); err != nil || v != "2" {
			continue // somebody else has changed it, or the interface has gone
		}
		if err := m.sysctl.Ensure(acceptRA(name), "1"); err != nil {
			return err
		}
		m.done = append(m.done, fmt.Sprintf("undone: sysctl %s is 1 again, since the host does not forward IPv6", acceptRA(name)))
	}
	return m.records.dropRaised()
}

// mendPort makes a host end a port of the bridge again, with all that ADD sets.
func (m *mender) mendPort(br bridgeState, a Attachment, l rtnl.Link) error {
	if err := keepMAC(m.c, br.Link); err != nil {
		return err
	}
	return m.connect(m.c, br, a, l)
}
