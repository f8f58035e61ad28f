package rtnl

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h: counters are most of a reply.
const skipStats = 1 << 3

// A Link is a network interface as the kernel describes it (linux/if_link.h).
type Link struct {
	Index  int
	Flags  uint32 // IFF_*
	Name   string
	Alias  string
	Kind   string // IFLA_INFO_KIND: "veth", "bridge", ...
	Qdisc  string // IFLA_QDISC: how what it sends is queued
	MAC    net.HardwareAddr
	MTU    uint32
	Master int    // index of the bridge that it is a port of; 0: none
	Group  uint32 // IFLA_GROUP, of interfaces; 0 is the default
	Peer   int    // IFLA_LINK: for a veth the other end's index, in that end's namespace
	PeerNS int    // IFLA_LINK_NETNSID: that namespace, as [Conn.NetNSID] numbers it; -1: the link's own

	// LearnsLinkLocal is set of a bridge that learns addresses from frames of link
	// protocols, though it could do without, see SetNoLinkLocalLearn.
	LearnsLinkLocal bool
	VLANFiltering   bool // of a bridge: it keeps VLANs apart (IFLA_BR_VLAN_FILTERING)
	Hairpin         bool // of a bridge port: it may send frames back (IFLA_BRPORT_MODE)
	Isolated        bool // of a bridge port: see IsolatePort (IFLA_BRPORT_ISOLATED)
}

// Up says whether the link is administratively up.
func (l Link) Up() bool { return l.Flags&unix.IFF_UP != 0 }

// Running reports whether the link is up and has a carrier: a bridge, some port.
func (l Link) Running() bool { return l.Flags&unix.IFF_RUNNING != 0 }

// LinkByName finds a link. One that is not there is ENODEV.
func (c *Conn) LinkByName(name string) (Link, error) {
	return c.getLink(0, name)
}

// LinkByIndex finds a link. One that is not there is ENODEV.
func (c *Conn) LinkByIndex(index int) (Link, error) {
	return c.getLink(index, "")
}

func (c *Conn) getLink(index int, name string) (Link, error) {
	req, err := encode(ifInfo(index, 0, 0), func(ae *netlink.AttributeEncoder) {
		if name != "" {
			ae.String(unix.IFLA_IFNAME, name)
		}
		ae.Uint32(unix.IFLA_EXT_MASK, skipStats)
	})
	if err != nil {
		return Link{}, err
	}
	msgs, err := c.nl.Do(unix.RTM_GETLINK, 0, req)
	if err != nil {
		return Link{}, err
	}
	if len(msgs) != 1 {
		return Link{}, fmt.Errorf("%d replies to one RTM_GETLINK", len(msgs))
	}
	return decodeLink(msgs[0].Data)
}

// Links lists all links of the namespace.
func (c *Conn) Links() ([]Link, error) { return c.links(0) }

// Ports lists the links that have a master.
func (c *Conn) Ports(master int) ([]Link, error) {
	all, err := c.links(master)
	// Kernels before 4.5 list every link.
	return slices.DeleteFunc(all, func(l Link) bool { return l.Master != master }), err
}

func (c *Conn) links(master int) ([]Link, error) {
	req, err := encode(ifInfo(0, 0, 0), func(ae *netlink.AttributeEncoder) {
		ae.Uint32(unix.IFLA_EXT_MASK, skipStats)
		if master != 0 {
			ae.Uint32(unix.IFLA_MASTER, uint32(master))
		}
	})
	if err != nil {
		return nil, err
	}
	return dump(c, unix.RTM_GETLINK, req, decodeLink)
}

// HasKind says whether the kernel can make links of a kind, loading a module
// for it if need be. It asks for one with a multicast address, which no kernel
// that has the kind makes (EADDRNOTAVAIL).
func (c *Conn) HasKind(kind string) (bool, error) {
	b, err := encode(ifInfo(0, 0, 0), func(ae *netlink.AttributeEncoder) {
		ae.Bytes(unix.IFLA_ADDRESS, []byte{1, 0, 0, 0, 0, 0})
		linkInfo(ae, kind, nil)
	})
	err = c.ack(unix.RTM_NEWLINK, netlink.Create|netlink.Excl, b, err)
	switch {
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return true, nil
	case errors.Is(err, unix.EOPNOTSUPP):
		return false, nil
	}
	return false, fmt.Errorf("look for link kind %s: %w", kind, err)
}

// A LinkChange says what SetLink changes of a link; zero values stay as they are.
type LinkChange struct {
	Index   int
	Up      bool // IFF_UP
	Down    bool // no IFF_UP
	Promisc bool // IFF_PROMISC
	MAC     net.HardwareAddr
	Alias   string
	Master  int // index of a bridge
	Group   uint32
}

// SetLink changes a link in one message. The kernel applies MAC, alias and
// master before it raises the link.
func (c *Conn) SetLink(ch LinkChange) error {
	b, err := encodeLinkChange(ch)
	return c.ack(unix.RTM_SETLINK, 0, b, err)
}

func encodeLinkChange(ch LinkChange) ([]byte, error) {
	var flags, change uint32
	if ch.Up {
		flags |= unix.IFF_UP
	}
	if ch.Promisc {
		flags |= unix.IFF_PROMISC
	}
	if change = flags; ch.Down {
		change |= unix.IFF_UP
	}
	return encode(ifInfo(ch.Index, flags, change), func(ae *netlink.AttributeEncoder) {
		if ch.MAC != nil {
			ae.Bytes(unix.IFLA_ADDRESS, ch.MAC)
		}
		if ch.Master != 0 {
			ae.Uint32(unix.IFLA_MASTER, uint32(ch.Master))
		}
		if ch.Group != 0 {
			ae.Uint32(unix.IFLA_GROUP, ch.Group)
		}
		if ch.Alias != "" {
			ae.Bytes(unix.IFLA_IFALIAS, []byte(ch.Alias))
		}
	})
}

// DeleteLink deletes a link, and with a veth its peer. It returns when the
// kernel has let go of both.
func (c *Conn) DeleteLink(index int) error {
	return c.ack(unix.RTM_DELLINK, 0, ifInfo(index, 0, 0), nil)
}

// ifInfo is struct ifinfomsg of linux/rtnetlink.h, of family AF_UNSPEC.
func ifInfo(index int, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	native.PutUint32(b[4:], uint32(index))
	native.PutUint32(b[8:], flags)
	native.PutUint32(b[12:], change)
	return b
}

// linkInfo is IFLA_LINKINFO: what kind of link, and that kind's own data.
func linkInfo(ae *netlink.AttributeEncoder, kind string, data func(*netlink.AttributeEncoder) error) {
	ae.Nested(unix.IFLA_LINKINFO, func(info *netlink.AttributeEncoder) error {
		info.Bytes(unix.IFLA_INFO_KIND, []byte(kind))
		if data != nil {
			info.Nested(unix.IFLA_INFO_DATA, data)
		}
		return nil
	})
}

func decodeLink(b []byte) (Link, error) {
	h, ad, err := split(b, unix.SizeofIfInfomsg)
	if err != nil {
		return Link{}, fmt.Errorf("link: %w", err)
	}
	l := Link{Index: int(int32(native.Uint32(h[4:]))), Flags: native.Uint32(h[8:]), PeerNS: -1}
	for ad.Next() {
		switch ad.Type() {
		case unix.IFLA_IFNAME:
			l.Name = ad.String()
		case unix.IFLA_IFALIAS:
			l.Alias = ad.String()
		case unix.IFLA_ADDRESS:
			l.MAC = ad.Bytes()
		case unix.IFLA_MTU:
			l.MTU = ad.Uint32()
		case unix.IFLA_MASTER:
			l.Master = int(ad.Uint32())
		case unix.IFLA_QDISC:
			l.Qdisc = ad.String()
		case unix.IFLA_GROUP:
			l.Group = ad.Uint32()
		case unix.IFLA_LINK:
			l.Peer = int(ad.Uint32())
		case unix.IFLA_LINK_NETNSID:
			l.PeerNS = int(ad.Int32())
		case unix.IFLA_LINKINFO:
			ad.Nested(l.decodeInfo)
		}
	}
	if err := ad.Err(); err != nil {
		return Link{}, fmt.Errorf("link %d: %w", l.Index, err)
	}
	return l, nil
}

// decodeInfo decodes IFLA_LINKINFO. The kernel puts a kind before its data.
func (l *Link) decodeInfo(info *netlink.AttributeDecoder) error {
	port := ""
	for info.Next() {
		switch info.Type() {
		case unix.IFLA_INFO_KIND:
			l.Kind = info.String()
		case unix.IFLA_INFO_SLAVE_KIND:
			port = info.String()
		case unix.IFLA_INFO_DATA:
			if l.Kind == "bridge" {
				info.Nested(func(data *netlink.AttributeDecoder) error {
					for data.Next() {
						switch data.Type() {
						case brVLANFiltering:
							l.VLANFiltering = data.Uint8() != 0
						case unix.IFLA_BR_MULTI_BOOLOPT: // struct br_boolopt_multi: values, which of them count
							if o := data.Bytes(); len(o) >= 8 {
								l.LearnsLinkLocal = native.Uint32(o)&noLinkLocalLearn == 0
							}
						}
					}
					return data.Err()
				})
			}
		case unix.IFLA_INFO_SLAVE_DATA:
			if port == "bridge" {
				info.Nested(l.decodePort)
			}
		}
	}
	return info.Err()
}

func (l *Link) decodePort(data *netlink.AttributeDecoder) error {
	for data.Next() {
		switch data.Type() {
		case unix.IFLA_BRPORT_MODE:
			l.Hairpin = data.Uint8() != 0
		case unix.IFLA_BRPORT_ISOLATED:
			l.Isolated = data.Uint8() != 0
		}
	}
	return data.Err()
}
