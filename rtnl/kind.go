package rtnl

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"golang.org/x/sys/unix"
)

// AddLink makes a link of a kind, up. A name that exists is EEXIST. With a MAC of
// its own the kernel leaves that of a bridge alone; without one it would take the
// lowest of the ports', anew with each. An ifb is an intermediate functional block
// device: its qdisc can hold back what is redirected to it.
func (c *Conn) AddLink(kind, name string, mac net.HardwareAddr, mtu uint32) error {
	err := c.create(unix.RTM_NEWLINK, ifInfo(0, unix.IFF_UP, unix.IFF_UP),
		octets(unix.IFLA_ADDRESS, mac), nonzero(unix.IFLA_MTU, mtu), text(unix.IFLA_IFNAME, name), linkInfo(kind))
	return c.wrap(err, "make %s %s", kind, name)
}

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

// vethInfoPeer is VETH_INFO_PEER of linux/veth.h.
const vethInfoPeer = 1

// AddVeth makes a pair, both ends down. A name that either namespace has
// already is EEXIST, and nothing is made.
func (c *Conn) AddVeth(v Veth) error {
	end := func(mac net.HardwareAddr) []byte {
		// The default is one queue per possible CPU, which costs time and memory
		// and serves nobody: a veth has no hardware behind it.
		return slices.Concat(octets(unix.IFLA_ADDRESS, mac), nonzero(unix.IFLA_MTU, v.MTU),
			u32(unix.IFLA_NUM_TX_QUEUES, 1), u32(unix.IFLA_NUM_RX_QUEUES, 1))
	}
	// The peer can't be raised here: veth_open wants both ends.
	peer := nest(vethInfoPeer, ifInfo(0, 0, 0), end(v.PeerMAC),
		u32(unix.IFLA_NET_NS_FD, uint32(v.PeerNS)), text(unix.IFLA_IFNAME, v.Peer))
	err := c.create(unix.RTM_NEWLINK, ifInfo(0, 0, 0),
		end(v.MAC), text(unix.IFLA_IFNAME, v.Name), linkInfo("veth", peer))
	return c.wrap(err, "make veth %s with the peer %s", v.Name, v.Peer)
}

// linkInfo is IFLA_LINKINFO: a link's kind, and that kind's own data.
func linkInfo(kind string, data ...[]byte) []byte {
	return nest(unix.IFLA_LINKINFO, octets(unix.IFLA_INFO_KIND, []byte(kind)), nest(unix.IFLA_INFO_DATA, data...))
}

// HasKind reports whether the kernel can make links of a kind, loading a module
// for it if need be. It asks for one with a multicast address, which no kernel
// that has the kind makes (EADDRNOTAVAIL).
func (c *Conn) HasKind(kind string) (bool, error) {
	multicast := octets(unix.IFLA_ADDRESS, []byte{1, 0, 0, 0, 0, 0})
	return c.probe("link kind "+kind, unix.EADDRNOTAVAIL, ifInfo(0, 0, 0), multicast, linkInfo(kind))
}

// HasVLANFiltering reports whether the kernel's bridges can keep VLANs apart. It
// asks for a bridge in lo's place with an invalid protocol: kernels that can look
// at the protocol first (br_validate of net/bridge/br_netlink.c) and return
// EPROTONOSUPPORT, others find that lo exists.
func (c *Conn) HasVLANFiltering() (bool, error) {
	const lo = 1 // LOOPBACK_IFINDEX of net/net_namespace.h, in every namespace
	invalid := linkInfo("bridge", octets(unix.IFLA_BR_VLAN_PROTOCOL, []byte{0, 0}))
	return c.probe("VLAN filtering", unix.EPROTONOSUPPORT, ifInfo(lo, 0, 0), invalid)
}

// probe asks for a link that can't be made. A kernel that supports the feature
// refuses it with one error, and other kernels with another.
func (c *Conn) probe(feature string, supported unix.Errno, parts ...[]byte) (bool, error) {
	err := c.create(unix.RTM_NEWLINK, parts...)
	switch {
	case errors.Is(err, supported):
		return true, nil
	case errors.Is(err, unix.EEXIST), errors.Is(err, unix.EOPNOTSUPP):
		return false, nil
	}
	return false, fmt.Errorf("look for %s: %w", feature, err)
}

// noLinkLocalLearn is the bit BR_BOOLOPT_NO_LL_LEARN of linux/if_bridge.h.
const noLinkLocalLearn = 1 << 0

// SetNoLinkLocalLearn keeps a bridge from learning source addresses from frames to
// the addresses of link protocols, which pass by its rules (br_handle_frame of
// br_input.c).
func (c *Conn) SetNoLinkLocalLearn(bridge Link) error {
	// struct br_boolopt_multi: the values, and a mask of those that are meant.
	options := native.AppendUint32(nil, noLinkLocalLearn)
	options = native.AppendUint32(options, noLinkLocalLearn)
	return c.setBridge("no_linklocal_learn", bridge, octets(unix.IFLA_BR_MULTI_BOOLOPT, options))
}

// SetVLANFiltering makes a bridge keep VLANs apart. A kernel that can't is
// EOPNOTSUPP, here and in AddVLANs and ClearVLANs.
func (c *Conn) SetVLANFiltering(bridge Link) error {
	return c.setBridge("VLAN filtering", bridge, u8(unix.IFLA_BR_VLAN_FILTERING, 1))
}

func (c *Conn) setBridge(option string, bridge Link, data []byte) error {
	err := c.do(unix.RTM_NEWLINK, 0, ifInfo(bridge.Index, 0, 0), linkInfo("bridge", data))
	return c.wrap(err, "set %s of bridge %s", option, bridge.Name)
}

// SetHairpin lets a bridge port send frames back to where they came from
// (IFLA_BRPORT_MODE).
func (c *Conn) SetHairpin(port Link) error {
	return c.setPort("hairpin mode", port, unix.IFLA_BRPORT_MODE)
}

// IsolatePort keeps a bridge port from exchanging frames with other isolated
// ports (IFLA_BRPORT_ISOLATED).
func (c *Conn) IsolatePort(port Link) error {
	return c.setPort("isolation", port, unix.IFLA_BRPORT_ISOLATED)
}

func (c *Conn) setPort(option string, port Link, flag uint16) error {
	err := c.do(unix.RTM_SETLINK, 0, portInfo(port.Index), nest(unix.IFLA_PROTINFO, u8(flag, 1)))
	return c.wrap(err, "set %s of port %s", option, port.Name)
}

// portInfo is a struct ifinfomsg about a bridge port.
func portInfo(port int) []byte {
	b := ifInfo(port, 0, 0)
	b[0] = unix.AF_BRIDGE
	return b
}
