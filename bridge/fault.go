package bridge

import (
	"errors"
	"fmt"
	"slices"

	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// A fault is something of the host's side of an attachment that is not as ADD
// made it: CHECK and STATUS report it, and a reload mends it. It is an
// [ErrChanged].
type fault struct{ what, state string }

func (f fault) Error() string { return f.what + " is " + f.state + " (flatnet reload mends that)" }
func (fault) Unwrap() error   { return ErrChanged }

// mended is the line that a reload prints.
func (f fault) mended() string { return "mended: " + f.what + " was " + f.state }

// A laterFault is one that a reload knows nothing of yet: the configuration
// was changed after the network's last ADD, or an older version made that.
type laterFault struct{ fault }

func (f laterFault) Error() string {
	return f.what + " is " + f.state + " (flatnet reload mends that after the network's next ADD, which records it)"
}

// joinFaults is the error of faults; recorded are those that a reload would find.
func joinFaults(faults, recorded []fault) (err error) {
	for _, f := range faults {
		if slices.Contains(recorded, f) {
			err = errors.Join(err, f)
		} else {
			err = errors.Join(err, laterFault{f})
		}
	}
	return err
}

// faults lists what the bridge lacks; ensureBridge makes it good.
func (b bridgeState) faults(a Attachment) (found []fault) {
	if b.Index == 0 {
		return []fault{{"bridge " + a.Bridge, "missing"}}
	}
	if !b.Up() {
		found = append(found, fault{"bridge " + a.Bridge, "down"})
	}
	if a.PromiscMode && b.Flags&unix.IFF_PROMISC == 0 {
		found = append(found, fault{"bridge " + a.Bridge, "not promiscuous"})
	}
	if a.SpoofCheck && b.LearnsLinkLocal {
		found = append(found, fault{"no_linklocal_learn of bridge " + a.Bridge, "off"})
	}
	if a.VLANs.any() && !b.VLANFiltering {
		found = append(found, fault{"VLAN filtering of bridge " + a.Bridge, "off"})
	}
	gateway := a.VLANs.gatewayName(a.Bridge)
	switch g := b.gateway; {
	case g.Index == 0 && len(a.Gateways) > 0:
		return append(found, fault{"interface " + gateway, "missing"})
	case g.Index == 0:
		return found // a network without a gateway
	case !g.Up() && g.Index != b.Index:
		found = append(found, fault{"interface " + gateway, "down"})
	}
	if b.gateway.Group != a.Group {
		found = append(found, fault{"interface " + gateway, fmt.Sprintf("in the group %d and not %d", b.gateway.Group, a.Group)})
	}
	for _, want := range a.Gateways {
		if !b.has(want) {
			found = append(found, fault{fmt.Sprintf("address %s of %s", want, gateway), "missing"})
		}
	}
	if b.lacksLinkLocal(a) {
		found = append(found, fault{"the IPv6 link-local address of " + gateway, "missing"})
	}
	return found
}

// routeFaults lists the subnets that the host has lost its route to, which no
// address of the bridge brings back; ensureGateways makes it good.
func (b bridgeState) routeFaults(c *rtnl.Conn, a Attachment) (found []fault, err error) {
	if len(a.Routed) == 0 || b.gateway.Index == 0 {
		return nil, nil // or a fault of its own
	}
	have, err := c.Routes(true, b.gateway.Index)
	if err != nil {
		return nil, fmt.Errorf("list routes by %s: %w", b.gateway.Name, err)
	}
	for _, subnet := range a.Routed {
		if !slices.ContainsFunc(have, func(r rtnl.Route) bool { return r.Dst == subnet && !r.Gateway.IsValid() }) {
			found = append(found, fault{fmt.Sprintf("the host's route to %s by %s", subnet, b.gateway.Name), "missing"})
		}
	}
	return found, nil
}

// portFaults lists what a host end lacks; mendPort makes it good. vlans are
// those of all ports.
func (h *Host) portFaults(br bridgeState, a Attachment, l rtnl.Link, vlans map[int]rtnl.PortVLANs) (found []fault) {
	if !l.Up() {
		found = append(found, fault{"host interface " + l.Name, "down"})
	}
	if l.Master != br.Index || br.Index == 0 {
		return append(found, fault{"host interface " + l.Name, "not on bridge " + a.Bridge})
	}
	if (a.HairpinMode || h.needsHairpin(a)) && !l.Hairpin {
		found = append(found, fault{"hairpin mode of " + l.Name, "off"})
	}
	if a.PortIsolated && !l.Isolated {
		found = append(found, fault{"port isolation of " + l.Name, "off"})
	}
	if a.VLANs.any() && !a.VLANs.has(vlans[l.Index]) {
		found = append(found, fault{"VLAN membership of " + l.Name, "not as it was"})
	}
	return found
}

// ofPorts lists the VLANs of all bridge ports, if they matter.
func (v VLANs) ofPorts(c *rtnl.Conn) (map[int]rtnl.PortVLANs, error) {
	if !v.any() {
		return nil, nil
	}
	all, err := c.PortVLANs()
	if err != nil {
		return nil, fmt.Errorf("list VLANs of bridge ports: %w", err)
	}
	return all, nil
}

// has reports whether a port is in these VLANs. Others may have added more.
func (v VLANs) has(have rtnl.PortVLANs) bool {
	pvid := v.ID
	if pvid == 0 {
		pvid = defaultVLAN
	}
	in := func(vid uint16) bool { return slices.Contains(have.VIDs, vid) }
	return have.PVID == pvid && in(pvid) && !slices.ContainsFunc(v.Trunk, func(vid uint16) bool { return !in(vid) })
}

// localnetFaults reports the sysctl by which 127.0.0.1 leads to published ports.
func (h *Host) localnetFaults(a Attachment) []fault {
	name := routeLocalnet(a.VLANs.gatewayName(a.Bridge))
	if !slices.ContainsFunc(a.Ports, Publication.isLoopback) {
		return nil
	}
	if v, err := h.sysctl.Get(name); err != nil || v != "0" { // the interface may be missing
		return nil
	}
	return []fault{{"sysctl " + name, "0"}}
}
