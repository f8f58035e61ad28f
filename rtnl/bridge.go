package rtnl

import (
	"net"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// AddBridge makes a bridge, up. With a MAC of its own the kernel leaves that
// alone; without one it would take the lowest of the ports', anew with each. A
// name that exists is EEXIST.
func (c *Conn) AddBridge(name string, mac net.HardwareAddr, mtu uint32) error {
	b, err := encodeBridge(name, mac, mtu)
	return c.ack(unix.RTM_NEWLINK, netlink.Create|netlink.Excl, b, err)
}

func encodeBridge(name string, mac net.HardwareAddr, mtu uint32) ([]byte, error) {
	return encode(ifInfo(0, unix.IFF_UP, unix.IFF_UP), func(ae *netlink.AttributeEncoder) {
		ae.Bytes(unix.IFLA_ADDRESS, mac)
		if mtu != 0 {
			ae.Uint32(unix.IFLA_MTU, mtu)
		}
		ae.String(unix.IFLA_IFNAME, name)
		linkInfo(ae, "bridge", nil)
	})
}

// noLinkLocalLearn is the bit BR_BOOLOPT_NO_LL_LEARN of linux/if_bridge.h.
const noLinkLocalLearn = 1 << 0

// SetNoLinkLocalLearn keeps a bridge from learning source addresses from frames to
// the addresses of link protocols, which pass by its rules (br_handle_frame of
// br_input.c). Kernels before 4.20 can't.
func (c *Conn) SetNoLinkLocalLearn(bridge int) error {
	b, err := encodeNoLinkLocalLearn(bridge)
	return c.ack(unix.RTM_NEWLINK, 0, b, err)
}

func encodeNoLinkLocalLearn(bridge int) ([]byte, error) {
	return encode(ifInfo(bridge, 0, 0), func(ae *netlink.AttributeEncoder) {
		linkInfo(ae, "bridge", func(data *netlink.AttributeEncoder) error {
			o := native.AppendUint32(nil, noLinkLocalLearn) // the values
			data.Bytes(unix.IFLA_BR_MULTI_BOOLOPT, native.AppendUint32(o, noLinkLocalLearn))
			return nil
		})
	})
}

// SetHairpin lets a bridge port send frames back to where they came from
// (IFLA_BRPORT_MODE).
func (c *Conn) SetHairpin(port int) error {
	b, err := encodeHairpin(port)
	return c.ack(unix.RTM_SETLINK, 0, b, err)
}

func encodeHairpin(port int) ([]byte, error) {
	h := ifInfo(port, 0, 0)
	h[0] = unix.AF_BRIDGE
	return encode(h, func(ae *netlink.AttributeEncoder) {
		ae.Nested(unix.IFLA_PROTINFO, func(p *netlink.AttributeEncoder) error {
			p.Uint8(unix.IFLA_BRPORT_MODE, 1)
			return nil
		})
	})
}
