package rtnl

import (
	"errors"
	"net"
	"strconv"

	"golang.org/x/sys/unix"
)

// A Link is a network interface as the kernel describes it (linux/if_link.h).
type Link struct {
	Index  int
	Flags  uint32 // IFF_*
	Name   string
	Alias  string
	Kind   string // IFLA_INFO_KIND: "veth", "bridge", ...
	Qdisc  string // IFLA_QDISC: the kind of its root qdisc, such as "tbf"
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

// Up reports whether the link is administratively up.
func (l Link) Up() bool { return l.Flags&unix.IFF_UP != 0 }

// Running reports whether the link is up and has a carrier: a bridge, some port.
func (l Link) Running() bool { return l.Flags&unix.IFF_RUNNING != 0 }

// skipStats is RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h: counters are most of a
// reply.
const skipStats = 1 << 3

// LinkByName finds a link. It returns the zero Link if there is none.
func (c *Conn) LinkByName(name string) (Link, error) {
	return c.findLink(name, ifInfo(0, 0, 0), text(unix.IFLA_IFNAME, name))
}

// LinkByIndex finds a link. It returns the zero Link if there is none.
func (c *Conn) LinkByIndex(index int) (Link, error) {
	return c.findLink(strconv.Itoa(index), ifInfo(index, 0, 0))
}

func (c *Conn) findLink(name string, parts ...[]byte) (Link, error) {
	l, err := get(c, unix.RTM_GETLINK, decodeLink, append(parts, u32(unix.IFLA_EXT_MASK, skipStats))...)
	if errors.Is(err, unix.ENODEV) {
		return Link{}, nil
	}
	return l, c.wrap(err, "find link %s", name)
}

// Links lists all links of the namespace.
func (c *Conn) Links() ([]Link, error) { return c.Ports(0) }

// Ports lists the links that have a master; with 0, all links.
func (c *Conn) Ports(master int) ([]Link, error) {
	return dump(c, "links", unix.RTM_GETLINK, decodeLink,
		ifInfo(0, 0, 0), u32(unix.IFLA_EXT_MASK, skipStats), nonzero(unix.IFLA_MASTER, uint32(master)))
}

// A LinkChange lists the properties of a link that SetLink changes; zero values
// stay as they are.
type LinkChange struct {
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
func (c *Conn) SetLink(l Link, ch LinkChange) error {
	var flags uint32
	if ch.Up {
		flags |= unix.IFF_UP
	}
	if ch.Promisc {
		flags |= unix.IFF_PROMISC
	}
	mask := flags
	if ch.Down {
		mask |= unix.IFF_UP
	}
	err := c.do(unix.RTM_SETLINK, 0, ifInfo(l.Index, flags, mask),
		octets(unix.IFLA_ADDRESS, ch.MAC),
		nonzero(unix.IFLA_MASTER, uint32(ch.Master)),
		nonzero(unix.IFLA_GROUP, ch.Group),
		octets(unix.IFLA_IFALIAS, []byte(ch.Alias)))
	return c.wrap(err, "change link %s to %+v", l.Name, ch)
}

// DeleteLink deletes a link, and with a veth its peer. It returns when the
// kernel has let go of both. A link that does not exist is no error.
func (c *Conn) DeleteLink(l Link) error {
	err := c.do(unix.RTM_DELLINK, 0, ifInfo(l.Index, 0, 0))
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return c.wrap(err, "delete link %s", l.Name)
}

// NetNSID returns the number that the socket's namespace has given to the namespace
// of a file descriptor (RTM_GETNSID), or -1 if it has given none. The kernel gives
// one when it first describes a link whose other end is there, and never reuses it
// while that namespace exists.
func (c *Conn) NetNSID(fd int) (int, error) {
	id, err := get(c, unix.RTM_GETNSID, decodeNetNSID, make([]byte, sizeofRtGenMsg), u32(unix.NETNSA_FD, uint32(fd)))
	return id, c.wrap(err, "look up a network namespace")
}

// sizeofRtGenMsg is that of struct rtgenmsg of linux/rtnetlink.h, aligned.
const sizeofRtGenMsg = 4

func decodeNetNSID(b []byte) (int, error) {
	_, r := read(b, sizeofRtGenMsg)
	return r.nsid(unix.NETNSA_NSID), *r.err
}

// ifInfo is struct ifinfomsg of linux/rtnetlink.h, of family AF_UNSPEC.
func ifInfo(index int, flags, mask uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	native.PutUint32(b[4:], uint32(index))
	native.PutUint32(b[8:], flags)
	native.PutUint32(b[12:], mask)
	return b
}

func decodeLink(b []byte) (Link, error) {
	h, r := read(b, unix.SizeofIfInfomsg)
	info := r.nest(unix.IFLA_LINKINFO)
	l := Link{
		Index:  int(int32(native.Uint32(h[4:]))),
		Flags:  native.Uint32(h[8:]),
		Name:   r.text(unix.IFLA_IFNAME),
		Alias:  r.text(unix.IFLA_IFALIAS),
		Kind:   info.text(unix.IFLA_INFO_KIND),
		Qdisc:  r.text(unix.IFLA_QDISC),
		MAC:    r.octets(unix.IFLA_ADDRESS),
		MTU:    r.u32(unix.IFLA_MTU),
		Master: int(r.u32(unix.IFLA_MASTER)),
		Group:  r.u32(unix.IFLA_GROUP),
		Peer:   int(r.u32(unix.IFLA_LINK)),
		PeerNS: r.nsid(unix.IFLA_LINK_NETNSID),
	}
	if l.Kind == "bridge" {
		data := info.nest(unix.IFLA_INFO_DATA)
		l.VLANFiltering = data.flag(unix.IFLA_BR_VLAN_FILTERING)
		// struct br_boolopt_multi: the values, and a mask of those that are meant.
		if options := data.octets(unix.IFLA_BR_MULTI_BOOLOPT); len(options) >= 8 {
			l.LearnsLinkLocal = native.Uint32(options)&noLinkLocalLearn == 0
		}
	}
	if info.text(unix.IFLA_INFO_SLAVE_KIND) == "bridge" {
		port := info.nest(unix.IFLA_INFO_SLAVE_DATA)
		l.Hairpin, l.Isolated = port.flag(unix.IFLA_BRPORT_MODE), port.flag(unix.IFLA_BRPORT_ISOLATED)
	}
	return l, *r.err
}
