package rtnl

import (
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"

	"flatnet/internal/nl"

	"github.com/mdlayher/netlink"
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
	Isolated        bool // of a bridge port: it exchanges no frames with others of that kind (IFLA_BRPORT_ISOLATED)
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
	return c.found(name, c.together(byName(name))[0])
}

// LinkByIndex finds a link. It returns the zero Link if there is none.
func (c *Conn) LinkByIndex(index int) (Link, error) {
	find := request(unix.RTM_GETLINK, 0, ifInfo(index, 0, 0), u32(unix.IFLA_EXT_MASK, skipStats))
	return c.found(strconv.Itoa(index), c.together(find)[0])
}

// byName is the request of LinkByName.
func byName(name string) netlink.Message {
	return request(unix.RTM_GETLINK, 0, ifInfo(0, 0, 0), nl.Text(unix.IFLA_IFNAME, name), u32(unix.IFLA_EXT_MASK, skipStats))
}

func (c *Conn) found(name string, a answer) (Link, error) {
	l, err := one(a, decodeLink)
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
	MTU     uint32

	// NoLinkLocal keeps a link that is down from getting an IPv6 link-local address when
	// it goes up (IN6_ADDR_GEN_MODE_NONE), and so from reports of multicast groups
	// to all of a bridge's ports. A kernel that can't do without is no error.
	NoLinkLocal bool
}

// SetLink changes a link at once. The kernel applies MAC, alias and master before it
// raises the link.
func (c *Conn) SetLink(l Link, ch LinkChange) error {
	answers := c.together(ch.of(l)...)
	return c.changed(l, ch, answers[len(answers)-1])
}

// SetLinkAndFind is SetLink and then, with nothing in between, LinkByName.
func (c *Conn) SetLinkAndFind(l Link, ch LinkChange, name string) (Link, error) {
	answers := c.together(append(ch.of(l), byName(name))...)
	last := len(answers) - 1
	if err := c.changed(l, ch, answers[last-1]); err != nil {
		return Link{}, err
	}
	return c.found(name, answers[last])
}

func (c *Conn) changed(l Link, ch LinkChange, a answer) error {
	return c.wrap(a.err, "change link %s (%v)", l.Name, ch)
}

// String names what is changed, as ip-link(8) does.
func (ch LinkChange) String() string {
	var words []string
	for _, w := range []struct {
		set  bool
		word string
	}{{ch.Down, "down"}, {len(ch.MAC) > 0, "address " + ch.MAC.String()}, {ch.Alias != "", "alias " + strconv.Quote(ch.Alias)},
		{ch.Master != 0, "master " + strconv.Itoa(ch.Master)}, {ch.Group != 0, "group " + strconv.Itoa(int(ch.Group))},
		{ch.MTU != 0, "mtu " + strconv.Itoa(int(ch.MTU))}, {ch.Promisc, "promisc on"}, {ch.Up, "up"}} {
		if w.set {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, " ")
}

// of returns the requests for the change of a link. The last one's answer counts.
func (ch LinkChange) of(l Link) (requests []netlink.Message) {
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
	if ch.NoLinkLocal { // the kernel would apply it after it has raised the link
		mode := nl.Nest(unix.AF_INET6, u8(unix.IFLA_INET6_ADDR_GEN_MODE, addrGenModeNone))
		requests = append(requests, request(unix.RTM_SETLINK, netlink.Acknowledge, ifInfo(l.Index, 0, 0), nl.Nest(unix.IFLA_AF_SPEC, mode)))
	}
	return append(requests, request(unix.RTM_SETLINK, netlink.Acknowledge, ifInfo(l.Index, flags, mask),
		nl.Attr(unix.IFLA_ADDRESS, ch.MAC),
		nonzero(unix.IFLA_MASTER, uint32(ch.Master)),
		nonzero(unix.IFLA_GROUP, ch.Group),
		nonzero(unix.IFLA_MTU, ch.MTU),
		nl.Attr(unix.IFLA_IFALIAS, []byte(ch.Alias))))
}

// addrGenModeNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h.
const addrGenModeNone = 1

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
	return r.nsid(unix.NETNSA_NSID), r.Err()
}

// ifInfo is struct ifinfomsg of linux/rtnetlink.h, of family AF_UNSPEC.
func ifInfo(index int, flags, mask uint32) []byte {
	return words(unix.AF_UNSPEC, uint32(index), flags, mask)
}

func decodeLink(b []byte) (Link, error) {
	h, r := read(b, unix.SizeofIfInfomsg)
	info := r.nest(unix.IFLA_LINKINFO)
	l := Link{
		Index:  int(int32(native.Uint32(h[4:]))),
		Flags:  native.Uint32(h[8:]),
		Name:   r.Text(unix.IFLA_IFNAME),
		Alias:  r.Text(unix.IFLA_IFALIAS),
		Kind:   info.Text(unix.IFLA_INFO_KIND),
		Qdisc:  r.Text(unix.IFLA_QDISC),
		MAC:    r.Octets(unix.IFLA_ADDRESS),
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
		if options := data.Octets(unix.IFLA_BR_MULTI_BOOLOPT); len(options) >= 8 {
			l.LearnsLinkLocal = native.Uint32(options)&noLinkLocalLearn == 0
		}
	}
	if info.Text(unix.IFLA_INFO_SLAVE_KIND) == "bridge" {
		port := info.nest(unix.IFLA_INFO_SLAVE_DATA)
		l.Hairpin, l.Isolated = port.flag(unix.IFLA_BRPORT_MODE), port.flag(unix.IFLA_BRPORT_ISOLATED)
	}
	return l, r.Err()
}

// AddLink makes a link of a kind, up. A name that exists is EEXIST. With a MAC of
// its own the kernel leaves that of a bridge alone; without one it would take the
// lowest of the ports', anew with each. An ifb is an intermediate functional block
// device: its qdisc can hold back what is redirected to it.
func (c *Conn) AddLink(kind, name string, mac net.HardwareAddr, mtu uint32) error {
	err := c.create(unix.RTM_NEWLINK, ifInfo(0, unix.IFF_UP, unix.IFF_UP),
		nl.Attr(unix.IFLA_ADDRESS, mac), nonzero(unix.IFLA_MTU, mtu), nl.Text(unix.IFLA_IFNAME, name), linkInfo(kind))
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
// already is EEXIST, and nothing is made. It returns what LinkByName then does.
func (c *Conn) AddVeth(v Veth) (Link, error) {
	end := func(mac net.HardwareAddr) []byte {
		// The default is one queue per possible CPU, which costs time and memory
		// and serves nobody: a veth has no hardware behind it.
		return slices.Concat(nl.Attr(unix.IFLA_ADDRESS, mac), nonzero(unix.IFLA_MTU, v.MTU),
			u32(unix.IFLA_NUM_TX_QUEUES, 1), u32(unix.IFLA_NUM_RX_QUEUES, 1))
	}
	// The peer can't be raised here: veth_open wants both ends.
	peer := nl.Nest(vethInfoPeer, ifInfo(0, 0, 0), end(v.PeerMAC),
		u32(unix.IFLA_NET_NS_FD, uint32(v.PeerNS)), nl.Text(unix.IFLA_IFNAME, v.Peer))
	answers := c.together(request(unix.RTM_NEWLINK, netlink.Create|netlink.Excl|netlink.Acknowledge, ifInfo(0, 0, 0),
		end(v.MAC), nl.Text(unix.IFLA_IFNAME, v.Name), linkInfo("veth", peer)), byName(v.Name))
	if err := answers[0].err; err != nil {
		return Link{}, c.wrap(err, "make veth %s with the peer %s", v.Name, v.Peer)
	}
	return c.found(v.Name, answers[1])
}

// linkInfo is IFLA_LINKINFO: a link's kind, and that kind's own data.
func linkInfo(kind string, data ...[]byte) []byte {
	return nl.Nest(unix.IFLA_LINKINFO, nl.Attr(unix.IFLA_INFO_KIND, []byte(kind)), nl.Nest(unix.IFLA_INFO_DATA, data...))
}

// CheckKind returns EOPNOTSUPP unless the kernel can make links of a kind, loading a
// module for it if need be. It asks for one with a multicast address, which no kernel
// that has the kind makes (EADDRNOTAVAIL).
func (c *Conn) CheckKind(kind string) error {
	multicast := nl.Attr(unix.IFLA_ADDRESS, []byte{1, 0, 0, 0, 0, 0})
	return c.probe("link kind "+kind, unix.EADDRNOTAVAIL, ifInfo(0, 0, 0), multicast, linkInfo(kind))
}

// CheckVLANFiltering returns EOPNOTSUPP unless the kernel's bridges can keep VLANs
// apart. It asks for a bridge in lo's place with an invalid protocol: kernels that can look
// at the protocol first (br_validate of net/bridge/br_netlink.c) and return
// EPROTONOSUPPORT, others find that lo exists.
func (c *Conn) CheckVLANFiltering() error {
	const lo = 1 // LOOPBACK_IFINDEX of net/net_namespace.h, in every namespace
	invalid := linkInfo("bridge", nl.Attr(unix.IFLA_BR_VLAN_PROTOCOL, []byte{0, 0}))
	return c.probe("VLAN filtering", unix.EPROTONOSUPPORT, ifInfo(lo, 0, 0), invalid)
}

// probe asks for a link that can't be made. A kernel that supports the feature
// refuses it with one error, and other kernels with EEXIST or EOPNOTSUPP.
func (c *Conn) probe(feature string, supported unix.Errno, parts ...[]byte) error {
	err := c.create(unix.RTM_NEWLINK, parts...)
	switch {
	case errors.Is(err, supported):
		return nil
	case errors.Is(err, unix.EEXIST):
		err = unix.EOPNOTSUPP
	}
	return c.wrap(err, "look for %s", feature)
}

// noLinkLocalLearn is the bit BR_BOOLOPT_NO_LL_LEARN of linux/if_bridge.h.
const noLinkLocalLearn = 1 << 0

// SetNoLinkLocalLearn keeps a bridge from learning source addresses from frames to
// the addresses of link protocols, which pass by its rules (br_handle_frame of
// br_input.c).
func (c *Conn) SetNoLinkLocalLearn(bridge Link) error {
	// struct br_boolopt_multi: the values, and a mask of those that are meant.
	options := words(noLinkLocalLearn, noLinkLocalLearn)
	return c.setBridge("no_linklocal_learn", bridge, nl.Attr(unix.IFLA_BR_MULTI_BOOLOPT, options))
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

// SetPort turns a flag (IFLA_BRPORT_*) of a bridge port on; option is its name in an
// error. IFLA_BRPORT_MODE lets the port send frames back to where they came from,
// IFLA_BRPORT_ISOLATED keeps it from exchanging frames with other isolated ports.
func (c *Conn) SetPort(option string, port Link, flag uint16) error {
	err := c.do(unix.RTM_SETLINK, 0, portInfo(port.Index), nl.Nest(unix.IFLA_PROTINFO, u8(flag, 1)))
	return c.wrap(err, "set %s of port %s", option, port.Name)
}

// portInfo is a struct ifinfomsg about a bridge port.
func portInfo(port int) []byte {
	b := ifInfo(port, 0, 0)
	b[0] = unix.AF_BRIDGE
	return b
}

// Of linux/if_bridge.h.
const (
	bridgeVLANInfo = 2 // IFLA_BRIDGE_VLAN_INFO
	vlanPVID       = 1 << 1
	vlanUntagged   = 1 << 2
	vlanRangeBegin = 1 << 3
	vlanRangeEnd   = 1 << 4
)

// AddVLANs adds a bridge port to VLANs: untagged frames belong to pvid, and those of the
// trunk's VLANs carry a tag.
func (c *Conn) AddVLANs(port Link, pvid uint16, trunk []uint16) error {
	spec := vlan(vlanPVID|vlanUntagged, pvid)
	for _, vid := range trunk {
		spec = append(spec, vlan(0, vid)...)
	}
	err := c.do(unix.RTM_SETLINK, 0, portInfo(port.Index), nl.Attr(unix.IFLA_AF_SPEC, spec))
	return c.wrap(err, "put port %s into VLANs", port.Name)
}

// ClearVLANs takes a bridge port out of all VLANs.
func (c *Conn) ClearVLANs(port Link) error {
	all := append(vlan(vlanRangeBegin, 1), vlan(vlanRangeEnd, 4094)...)
	err := c.do(unix.RTM_DELLINK, 0, portInfo(port.Index), nl.Attr(unix.IFLA_AF_SPEC, all))
	return c.wrap(err, "take port %s out of all VLANs", port.Name)
}

// vlan encodes a struct bridge_vlan_info.
func vlan(flags, vid uint16) []byte {
	return nl.Attr(bridgeVLANInfo, native.AppendUint16(native.AppendUint16(nil, flags), vid))
}

// A PortVLANs is the VLANs that a bridge port belongs to.
type PortVLANs struct {
	index int      // of the port
	PVID  uint16   // of untagged frames; 0: none
	VIDs  []uint16 // all of them, sorted
}

// PortVLANs lists the VLANs of all bridge ports, and of bridges themselves, by
// the links' indexes. Links without VLANs may be missing. The kernel lists each
// VLAN by itself, and ranges only for RTEXT_FILTER_BRVLAN_COMPRESSED.
func (c *Conn) PortVLANs() (map[int]PortVLANs, error) {
	ports, err := dump(c, "VLANs of bridge ports", unix.RTM_GETLINK, decodePortVLANs, portInfo(0), u32(unix.IFLA_EXT_MASK, filterVLANs))
	all := map[int]PortVLANs{}
	for _, p := range ports {
		all[p.index] = p
	}
	return all, err
}

// filterVLANs is RTEXT_FILTER_BRVLAN of linux/rtnetlink.h.
const filterVLANs = 1 << 1

func decodePortVLANs(b []byte) (PortVLANs, error) {
	h, r := read(b, unix.SizeofIfInfomsg)
	p := PortVLANs{index: int(int32(native.Uint32(h[4:])))}
	for _, info := range r.Nest(unix.IFLA_AF_SPEC).All(bridgeVLANInfo) {
		if len(info) < 4 {
			continue
		}
		vid := native.Uint16(info[2:])
		if native.Uint16(info)&vlanPVID != 0 {
			p.PVID = vid
		}
		p.VIDs = append(p.VIDs, vid)
	}
	return p, r.Err()
}
