// Package vlan puts ports of a bridge into VLANs, and gives a network that is a VLAN
// the interface that leads into it.
package vlan

import (
	"fmt"
	"slices"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/sha256"
	"flatnet/ns"
	"flatnet/rtnl"
)

// unsupported names the option of kernels whose bridges can't keep VLANs apart.
func unsupported(err error) error { return host.Lacking("CONFIG_BRIDGE_VLAN_FILTERING", err) }

// Ready reports a kernel whose bridges can't keep VLANs apart.
func Ready(h *host.Host, n *model.Network) error {
	if !n.VLANs.Any() {
		return nil
	}
	return unsupported(h.CheckVLANFiltering())
}

// Filter makes a bridge keep VLANs apart.
func Filter(h *host.Host, br rtnl.Link) error { return unsupported(h.SetVLANFiltering(br)) }

// MakeGateway makes the interface that leads into the network's VLAN: a pair of which
// one end is a port of the bridge, as in the reference, for which no module is needed.
// Like the bridge it is shared, and stays. One that is there is no error.
func MakeGateway(h *host.Host, n *model.Network, mtu uint32) error {
	own, err := ns.Current()
	if err != nil {
		return err
	}
	defer own.Close()
	name := n.GatewayName()
	hash := sha256.Sum(name)
	mac, peer := model.LocalMAC(hash[:6]), model.LocalMAC(hash[6:12])
	_, err = h.AddVeth(rtnl.Veth{
		Name: name, MAC: mac[:], MTU: mtu,
		Peer: fmt.Sprintf("fg-%x", hash[12:18]), PeerMAC: peer[:], PeerNS: own.FD(),
	})
	return host.UnlessExists(host.Lacking("CONFIG_VETH", err))
}

// RaiseGateway makes the far end of a gateway interface a port of the bridge, and
// raises both. The end that has the addresses is raised last, so that one that is up
// is complete.
func RaiseGateway(h *host.Host, n *model.Network, br, gateway rtnl.Link) error {
	own := model.VLANs{ID: n.VLANs.ID, KeepDefault: n.VLANs.KeepDefault}
	port := rtnl.Link{Index: gateway.Peer, Name: "of " + gateway.Name}
	if err := Attach(h, own, port, br.Index); err != nil {
		return err
	}
	if err := h.SetLink(port, rtnl.LinkChange{Up: true}); err != nil {
		return err
	}
	return h.SetLink(gateway, rtnl.LinkChange{Up: true})
}

// Attach makes a link a port of the bridge in the VLANs, before it is up.
func Attach(h *host.Host, v model.VLANs, port rtnl.Link, bridge int) error {
	if err := h.SetLink(port, rtnl.LinkChange{Master: bridge}); err != nil {
		return err
	}
	if !v.KeepDefault {
		if err := h.ClearVLANs(port); err != nil {
			return unsupported(err)
		}
	}
	return unsupported(h.AddVLANs(port, v.PVID(), v.Trunk))
}

// Faults reports a port that is not in the VLANs. Others may have added more. ports are
// those of [Ports].
func Faults(v model.VLANs, port rtnl.Link, ports map[int]rtnl.PortVLANs) []model.Fault {
	have := ports[port.Index]
	in := func(vid uint16) bool { return slices.Contains(have.VIDs, vid) }
	lacks := have.PVID != v.PVID() || !in(v.PVID()) || slices.ContainsFunc(v.Trunk, func(vid uint16) bool { return !in(vid) })
	if !v.Any() || !lacks {
		return nil
	}
	return []model.Fault{{Thing: "VLAN membership of " + port.Name, State: "not as it was", Link: port.Name}}
}

// Ports lists the VLANs of all bridge ports, if they matter.
func Ports(h *host.Host, v model.VLANs) (map[int]rtnl.PortVLANs, error) {
	if !v.Any() {
		return nil, nil
	}
	return h.PortVLANs()
}
