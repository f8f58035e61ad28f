package bridge

import (
	"errors"
	"fmt"
	"strconv"

	"flatnet/internal/sha256"
	"flatnet/ns"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// VLANs are those that a container's port on the bridge belongs to. The zero
// value is a bridge that knows of none.
type VLANs struct {
	ID          uint16   // of the container's untagged frames; 0: none is chosen
	Trunk       []uint16 // of its tagged frames, sorted
	KeepDefault bool     // the port stays in the bridge's default VLAN as well
}

func (v VLANs) any() bool { return v.ID != 0 || len(v.Trunk) > 0 }

// defaultVLAN is the one of untagged frames where a trunk is configured alone.
const defaultVLAN = 1

func vlanError(err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%w: CONFIG_BRIDGE_VLAN_FILTERING", ErrUnsupported)
	}
	return err
}

// gatewayName is the host's interface that has the gateway addresses: the
// bridge, or where the network is a VLAN one that leads into this.
func (v VLANs) gatewayName(bridge string) string {
	if v.ID == 0 {
		return bridge
	}
	return bridge + "." + strconv.Itoa(int(v.ID))
}

// ensure makes the bridge keep VLANs apart and, if the network has a gateway,
// the interface that leads into its VLAN: a pair of which one end is a port of
// the bridge, as in the reference, for which no module is needed. Like the
// bridge it is shared, and stays.
func (v VLANs) ensure(c *rtnl.Conn, br bridgeState, gateway bool) (bridgeState, error) {
	if err := c.SetVLANFiltering(br.Index); err != nil {
		return br, fmt.Errorf("VLANs of bridge %s: %w", br.Name, vlanError(err))
	}
	name := v.gatewayName(br.Name)
	switch {
	case v.ID == 0 || !gateway:
		return br, nil
	case br.gateway.Index != 0 && br.gateway.PeerNS >= 0: // where the peer's index is of another link
		return br, fmt.Errorf("interface %s leads into another network namespace: %w", name, ErrConflict)
	case br.gateway.Up():
		return br, nil
	}
	if br.gateway.Index == 0 {
		if err := makeGateway(c, name, br.MTU); err != nil {
			return br, fmt.Errorf("make %s: %w", name, err)
		}
		var err error
		if br, err = findBridge(c, br.Name, v); err != nil {
			return br, err
		}
	}
	own := VLANs{ID: v.ID, KeepDefault: v.KeepDefault}
	if err := own.attach(c, br.gateway.Peer, br); err != nil {
		return br, fmt.Errorf("attach %s to bridge %s: %w", name, br.Name, portError(br.Name, err))
	}
	// This end is raised last, so that one that is up is complete.
	for _, index := range []int{br.gateway.Peer, br.gateway.Index} {
		if err := c.SetLink(rtnl.LinkChange{Index: index, Up: true}); err != nil {
			return br, fmt.Errorf("raise %s: %w", name, err)
		}
	}
	return br, nil
}

// attach makes a link a port of the bridge in the VLANs, before it is up.
func (v VLANs) attach(c *rtnl.Conn, port int, br bridgeState) error {
	if err := c.SetLink(rtnl.LinkChange{Index: port, Master: br.Index}); err != nil {
		return err
	}
	if !v.KeepDefault {
		if err := c.ClearVLANs(port); err != nil {
			return vlanError(err)
		}
	}
	pvid := v.ID
	if pvid == 0 {
		pvid = defaultVLAN
	}
	return vlanError(c.AddVLANs(port, pvid, v.Trunk))
}

func makeGateway(c *rtnl.Conn, name string, mtu uint32) error {
	own, err := ns.Current()
	if err != nil {
		return err
	}
	defer own.Close()
	h := sha256.Sum(name)
	mac := func(b []byte) []byte {
		a := HardwareAddr(b)
		a[0] = a[0]&^0x01 | 0x02
		return a[:]
	}
	err = c.AddVeth(rtnl.Veth{
		Name: name, MAC: mac(h[:6]), MTU: mtu,
		Peer: fmt.Sprintf("fg-%x", h[12:18]), PeerMAC: mac(h[6:12]), PeerNS: own.FD(),
	})
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: CONFIG_VETH", ErrUnsupported)
	case errors.Is(err, unix.EEXIST): // somebody was faster
		return nil
	}
	return err
}
