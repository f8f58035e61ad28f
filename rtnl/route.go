package rtnl

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"

	"flatnet/internal/nl"

	"golang.org/x/sys/unix"
)

// A Route is an entry of a routing table (linux/rtnetlink.h).
type Route struct {
	Dst     netip.Prefix // 0.0.0.0/0 and ::/0 are the default routes
	Gateway netip.Addr   // invalid: on the link
	// Index is that of the link that it leads out of, of several (RTA_MULTIPATH) the
	// first; 0: only its nexthop object has it.
	Index     int
	Table     uint32 // RT_TABLE_*
	Priority  uint32 // RTA_PRIORITY, the metric
	Type, TOS uint8  // RTN_*; AddRoute makes RTN_UNICAST of 0
	Protocol  uint8  // RTPROT_*: its origin; AddRoute makes RTPROT_BOOT of 0
	MTU       uint32 // RTAX_MTU; 0: that of the link
	Several   bool   // next hops, or one of the other family: Gateway and Index are not the whole way
	// Src (of IPv6) and TOS (of IPv4) are of the packets that the route is for; zero: of all.
	Src netip.Prefix

	// Only for AddRoute:
	Scope  uint8      // RT_SCOPE_*
	Source netip.Addr // RTA_PREFSRC, that the host sends from; invalid: the kernel chooses
	AdvMSS uint32     // RTAX_ADVMSS
}

// Routes lists the unicast routes, see AllRoutes.
func (c *Conn) Routes(family byte, index int) ([]Route, error) {
	all, err := c.AllRoutes(family, index)
	return slices.DeleteFunc(all, func(r Route) bool { return r.Type != unix.RTN_UNICAST }), err
}

// AllRoutes lists the routes of a family, or with AF_UNSPEC of both, in all tables; or
// only those that lead out of a link unless index is 0.
func (c *Conn) AllRoutes(family byte, index int) ([]Route, error) {
	h := make([]byte, unix.SizeofRtMsg)
	h[0] = family
	return dump(c, "routes", unix.RTM_GETROUTE, decodeRoute, h, nonzero(unix.RTA_OIF, uint32(index)))
}

// DefaultRouteLink returns the link that the default route leads out of, or the zero
// Link if there is none.
func (c *Conn) DefaultRouteLink(ipv6 bool) (l Link, err error) {
	index, err := c.defaultRoute(ipv6)
	if err == nil && index != 0 {
		l, err = c.LinkByIndex(index)
	}
	return l, err
}

func (c *Conn) defaultRoute(ipv6 bool) (index int, err error) {
	// It is the route to an address that nobody has, however long the tables are.
	nobody := netip.AddrFrom4([4]byte{198, 51, 100, 1}) // RFC 5737
	if ipv6 {
		nobody = netip.AddrFrom16([16]byte{0x3f, 0xff, 15: 1}) // RFC 9637
	}
	r, err := c.routeTo(nobody, unix.RTM_F_FIB_MATCH)
	switch {
	case errors.Is(err, unix.ENETUNREACH):
		return 0, nil
	case err == nil && r.Dst.Bits() == 0 && r.Type == unix.RTN_UNICAST:
		if r.Index == 0 { // net.ipv4.nexthop_compat_mode is 0
			r, err = c.routeTo(nobody, 0)
		}
		return r.Index, err
	}
	// Somebody has a route for just that address, or a rule.
	routes, err := c.Routes(family(nobody), 0)
	routes = slices.DeleteFunc(routes, func(r Route) bool {
		return r.Dst.Bits() != 0 || r.Table != unix.RT_TABLE_MAIN || r.Index == 0
	})
	if err != nil || len(routes) == 0 {
		return 0, err
	}
	return slices.MinFunc(routes, func(a, b Route) int { return cmp.Compare(a.Priority, b.Priority) }).Index, nil
}

// Local returns the route by which the host itself receives what is sent to an
// address: one of its own (RTN_LOCAL), or a broadcast or anycast address of one
// of its subnets. The zero Route means that the host has no such address. It
// costs one message, however many addresses the host has.
func (c *Conn) Local(a netip.Addr) (Route, error) {
	r, err := c.routeTo(a, unix.RTM_F_FIB_MATCH)
	// There is no route; or it is of the type unreachable, prohibit, blackhole or
	// throw (fib_props of net/ipv4/fib_semantics.c); or the kernel lacks the family.
	var errno unix.Errno
	errors.As(err, &errno)
	switch errno {
	case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL, unix.EAGAIN,
		unix.EOPNOTSUPP, unix.EAFNOSUPPORT:
		return Route{}, nil
	}
	if err != nil || !slices.Contains([]uint8{unix.RTN_LOCAL, unix.RTN_BROADCAST, unix.RTN_ANYCAST}, r.Type) {
		return Route{}, err
	}
	return r, nil
}

// routeTo asks how packets to an address go, or with RTM_F_FIB_MATCH which route
// they take.
func (c *Conn) routeTo(a netip.Addr, flags uint32) (Route, error) {
	h := rtMsg(netip.PrefixFrom(a, a.BitLen()))
	native.PutUint32(h[8:], flags)
	r, err := get(c, unix.RTM_GETROUTE, decodeRoute, h)
	return r, c.wrap(err, "find the route to %s", a)
}

// RouteOf returns the route that packets of an address to another one take which arrive by a
// link. IPv4 also checks that they may, and does not say which table has it.
func (c *Conn) RouteOf(index int, from, to netip.Addr) (Route, error) {
	h := rtMsg(netip.PrefixFrom(to, to.BitLen()))
	h[2] = byte(from.BitLen())
	native.PutUint32(h[8:], unix.RTM_F_FIB_MATCH)
	return get(c, unix.RTM_GETROUTE, decodeRoute, h, nl.Attr(unix.RTA_SRC, from.AsSlice()), nonzero(unix.RTA_IIF, uint32(index)))
}

// AddRoute adds a route. One of the same destination, table and priority is EEXIST. One
// by which packets go nowhere must have no Index.
func (c *Conn) AddRoute(r Route) error {
	h := rtMsg(r.Dst)
	h[4], h[5], h[6], h[7] = unix.RT_TABLE_MAIN, cmp.Or(r.Protocol, unix.RTPROT_BOOT), r.Scope, cmp.Or(r.Type, unix.RTN_UNICAST)
	err := c.create(unix.RTM_NEWROUTE, h,
		nl.Attr(unix.RTA_GATEWAY, r.Gateway.AsSlice()),
		nl.Attr(unix.RTA_PREFSRC, r.Source.AsSlice()),
		nonzero(unix.RTA_PRIORITY, r.Priority),
		nonzero(unix.RTA_TABLE, r.Table), // else that of the header
		nonzero(unix.RTA_OIF, uint32(r.Index)),
		nl.Nest(unix.RTA_METRICS, nonzero(unix.RTAX_MTU, r.MTU), nonzero(unix.RTAX_ADVMSS, r.AdvMSS)))
	if r.Gateway.IsValid() {
		return c.wrap(err, "add the route to %s via %s", r.Dst, r.Gateway)
	}
	return c.wrap(err, "add the route to %s", r.Dst)
}

// DeleteRoute deletes a route of the main table by destination, type and, unless they are 0,
// priority and protocol. (IPv6 does not compare the type.) One that does not exist is ESRCH.
func (c *Conn) DeleteRoute(r Route) error {
	h := rtMsg(r.Dst)
	h[4], h[5], h[6], h[7] = unix.RT_TABLE_MAIN, r.Protocol, unix.RT_SCOPE_NOWHERE, r.Type
	return c.wrap(c.do(unix.RTM_DELROUTE, 0, h, nonzero(unix.RTA_PRIORITY, r.Priority)), "delete the route to %s", r.Dst)
}

// rtMsg is struct rtmsg of linux/rtnetlink.h, and the attribute, for a destination.
func rtMsg(dst netip.Prefix) []byte {
	b := make([]byte, unix.SizeofRtMsg)
	b[0], b[1] = family(dst.Addr()), byte(dst.Bits())
	if dst.Bits() == 0 {
		return b
	}
	return append(b, nl.Attr(unix.RTA_DST, dst.Addr().AsSlice())...)
}

func decodeRoute(b []byte) (Route, error) {
	h, r := read(b, unix.SizeofRtMsg)
	all := netip.IPv4Unspecified() // the default route has no RTA_DST
	if h[0] == unix.AF_INET6 {
		all = netip.IPv6Unspecified()
	}
	route := Route{
		Dst:      r.prefix(h, cmp.Or(r.addr(unix.RTA_DST), all)),
		Gateway:  r.addr(unix.RTA_GATEWAY),
		Index:    int(r.u32(unix.RTA_OIF)),
		Table:    cmp.Or(r.u32(unix.RTA_TABLE), uint32(h[4])),
		Priority: r.u32(unix.RTA_PRIORITY),
		Type:     h[7],
		Protocol: h[5],
		MTU:      r.nest(unix.RTA_METRICS).u32(unix.RTAX_MTU),
		Several:  r.Octets(unix.RTA_MULTIPATH) != nil || r.Octets(unix.RTA_VIA) != nil,
		Src:      netip.PrefixFrom(r.addr(unix.RTA_SRC), int(h[2])), TOS: h[3],
	}
	// struct rtnexthop: length (2), flags, hops, index (4).
	if hops := r.Octets(unix.RTA_MULTIPATH); route.Index == 0 && len(hops) >= unix.SizeofRtNexthop {
		route.Index = int(native.Uint32(hops[4:]))
	}
	return route, r.Err()
}
