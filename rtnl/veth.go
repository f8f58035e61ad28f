package rtnl

import (
	"net"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// VETH_INFO_PEER of linux/veth.h.
const vethInfoPeer = 1

// A Veth is a pair to be made (veth(4)): the host end in the socket's own
// namespace, its peer born in another one.
type Veth struct {
	Name    string
	MAC     net.HardwareAddr
	MTU     uint32 // of both ends; 0 is the kernel's default
	Peer    string // the other end's name
	PeerMAC net.HardwareAddr
	PeerNS  int // file descriptor of the other end's namespace
}

// AddVeth makes a pair, both ends down. A name that either namespace has
// already is EEXIST, and nothing is made.
func (c *Conn) AddVeth(v Veth) error {
	b, err := encodeVeth(v)
	return c.ack(unix.RTM_NEWLINK, netlink.Create|netlink.Excl, b, err)
}

func encodeVeth(v Veth) ([]byte, error) {
	return encode(ifInfo(0, 0, 0), func(ae *netlink.AttributeEncoder) {
		vethEnd(ae, v.MAC, v.MTU)
		ae.String(unix.IFLA_IFNAME, v.Name)
		linkInfo(ae, "veth", func(data *netlink.AttributeEncoder) error {
			// The peer can't be raised here: veth_open wants both ends.
			data.Do(vethInfoPeer|unix.NLA_F_NESTED, func() ([]byte, error) {
				return encode(ifInfo(0, 0, 0), func(peer *netlink.AttributeEncoder) {
					vethEnd(peer, v.PeerMAC, v.MTU)
					peer.Uint32(unix.IFLA_NET_NS_FD, uint32(v.PeerNS))
					peer.String(unix.IFLA_IFNAME, v.Peer)
				})
			})
			return nil
		})
	})
}

func vethEnd(ae *netlink.AttributeEncoder, mac net.HardwareAddr, mtu uint32) {
	ae.Bytes(unix.IFLA_ADDRESS, mac)
	if mtu != 0 {
		ae.Uint32(unix.IFLA_MTU, mtu)
	}
	// The default is one queue per possible CPU, which costs time and memory
	// and serves nobody: a veth has no hardware behind it.
	ae.Uint32(unix.IFLA_NUM_TX_QUEUES, 1)
	ae.Uint32(unix.IFLA_NUM_RX_QUEUES, 1)
}
