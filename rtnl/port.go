package rtnl

import (
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// IsolatePort keeps a bridge port from exchanging frames with other isolated
// ports (IFLA_BRPORT_ISOLATED, Linux 4.18).
func (c *Conn) IsolatePort(port int) error {
	b, err := encodeIsolatePort(port)
	return c.ack(unix.RTM_SETLINK, 0, b, err)
}

func encodeIsolatePort(port int) ([]byte, error) {
	h := ifInfo(port, 0, 0)
	h[0] = unix.AF_BRIDGE
	return encode(h, func(ae *netlink.AttributeEncoder) {
		ae.Nested(unix.IFLA_PROTINFO, func(p *netlink.AttributeEncoder) error {
			p.Uint8(unix.IFLA_BRPORT_ISOLATED, 1)
			return nil
		})
	})
}
