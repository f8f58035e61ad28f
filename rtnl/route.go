package rtnl

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Route is an entry of a routing table (linux/rtnetlink.h).
type Route struct {
	Dst      netip.Prefix // 0.0.0.0/0 and ::/0 are the default routes
	Gateway  netip.Addr   // invalid: on the link
	Index    int          // of the link that it leads out of; of several (RTA_MULTIPATH) the first; 0: only its nexthop object says it
	Table    uint32       // RT_TABLE_*
	Scope    uint8        // RT_SCOPE_*
	Priority uint32       // RTA_PRIORITY, the metric
	MTU      uint32       // RTAX_MTU
	AdvMSS   uint32       // RTAX_ADVMSS
	Type     uint8        // RTN_*
	Protocol uint8        // RTPROT_*: what made it
}

// Routes lists the unicast routes of one family in all tables, or only those that
// lead out of a link unless index is 0.
func (c *Conn) Routes(ipv6 bool, index int) ([]Route, error) {
	req, err := encodeRoutes(ipv6, index)
	if err != nil {
		return nil, err
	}
	all, err := dump(c, unix.RTM_GETROUTE, req, decodeRoute)
	if err != nil {
		return nil, err
	}
	unicast := all[:0]
	for _, r := range all {
		// Kernels before 4.20 list those of every link.
		if r.Type == unix.RTN_UNICAST && (index == 0 || r.Index == index) {
			unicast = append(unicast, r)
		}
	}
	return unicast, nil
}

func encodeRoutes(ipv6 bool, index int) ([]byte, error) {
	h := make([]byte, unix.SizeofRtMsg)
	h[0] = unix.AF_INET
	if ipv6 {
		h[0] = unix.AF_INET6
	}
	return encode(h, func(ae *netlink.AttributeEncoder) {
		if index != 0 {
			ae.Uint32(unix.RTA_OIF, uint32(index))
		}
	})
}

// DefaultRouteLink is the index of the link that the default route leads out
// of; 0 if there is none.
func (c *Conn) DefaultRouteLink(ipv6 bool) (int, error) {
	// It is the route to an address that nobody has, be the tables ever so long.
	nobody := "198.51.100.1" // RFC 5737
	if ipv6 {
		nobody = "3fff::1" // RFC 9637
	}
	to := netip.MustParseAddr(nobody)
	r, err := c.routeTo(to, unix.RTM_F_FIB_MATCH)
	switch {
	case errors.Is(err, unix.ENETUNREACH):
		return 0, nil
	case err == nil && r.Dst.Bits() == 0 && r.Type == unix.RTN_UNICAST:
		if r.Index == 0 { // net.ipv4.nexthop_compat_mode is 0
			r, err = c.routeTo(to, 0)
		}
		return r.Index, err
	}
	// Somebody has a route for just that address, or a rule; or the kernel is
	// older than 4.13 and does not say which route it took.
	routes, err := c.Routes(ipv6, 0)
	best := Route{}
	for _, r := range routes {
		if r.Dst.Bits() == 0 && r.Table == unix.RT_TABLE_MAIN && r.Index != 0 &&
			(best.Index == 0 || r.Priority < best.Priority) {
			best = r
		}
	}
	return best.Index, err
}

// routeTo asks how packets to an address go, or with RTM_F_FIB_MATCH which route
// they take.
func (c *Conn) routeTo(a netip.Addr, flags uint32) (Route, error) {
	h := make([]byte, unix.SizeofRtMsg)
	h[0], h[1] = family(a), byte(a.BitLen())
	native.PutUint32(h[8:], flags)
	b, err := encode(h, func(ae *netlink.AttributeEncoder) { ae.Bytes(unix.RTA_DST, a.AsSlice()) })
	if err != nil {
		return Route{}, err
	}
	msgs, err := c.nl.Do(unix.RTM_GETROUTE, 0, b)
	if err != nil {
		return Route{}, err
	}
	if len(msgs) != 1 {
		return Route{}, fmt.Errorf("route to %s: %d answers", a, len(msgs))
	}
	return decodeRoute(msgs[0].Data)
}

// AddRoute adds a unicast route. One of the same destination, table and
// priority is EEXIST.
func (c *Conn) AddRoute(r Route) error {
	b, err := encodeRoute(r)
	return c.ack(unix.RTM_NEWROUTE, netlink.Create|netlink.Excl, b, err)
}

func encodeRoute(r Route) ([]byte, error) {
	h := make([]byte, unix.SizeofRtMsg)
	h[0], h[1] = family(r.Dst.Addr()), byte(r.Dst.Bits())
	h[5], h[6], h[7] = unix.RTPROT_BOOT, r.Scope, unix.RTN_UNICAST
	switch {
	case r.Table == 0:
		h[4] = unix.RT_TABLE_MAIN
	case r.Table <= 255: // others don't fit and go into RTA_TABLE
		h[4] = byte(r.Table)
	}
	return encode(h, func(ae *netlink.AttributeEncoder) {
		if r.Dst.Bits() > 0 {
			ae.Bytes(unix.RTA_DST, r.Dst.Addr().AsSlice())
		}
		if r.Gateway.IsValid() {
			ae.Bytes(unix.RTA_GATEWAY, r.Gateway.AsSlice())
		}
		if r.Priority != 0 {
			ae.Uint32(unix.RTA_PRIORITY, r.Priority)
		}
		if r.Table > 255 {
			ae.Uint32(unix.RTA_TABLE, r.Table)
		}
		ae.Uint32(unix.RTA_OIF, uint32(r.Index))
		if r.MTU != 0 || r.AdvMSS != 0 {
			ae.Nested(unix.RTA_METRICS, func(m *netlink.AttributeEncoder) error {
				if r.MTU != 0 {
					m.Uint32(unix.RTAX_MTU, r.MTU)
				}
				if r.AdvMSS != 0 {
					m.Uint32(unix.RTAX_ADVMSS, r.AdvMSS)
				}
				return nil
			})
		}
	})
}

func decodeRoute(b []byte) (Route, error) {
	h, ad, err := split(b, unix.SizeofRtMsg)
	if err != nil {
		return Route{}, fmt.Errorf("route: %w", err)
	}
	if !isIP(h[0]) {
		return Route{}, fmt.Errorf("route of family %d", h[0])
	}
	r := Route{Table: uint32(h[4]), Protocol: h[5], Scope: h[6], Type: h[7]}
	dst := netip.IPv4Unspecified()
	if h[0] == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	for ad.Next() {
		switch ad.Type() {
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(ad.Bytes())
		case unix.RTA_GATEWAY:
			r.Gateway, _ = netip.AddrFromSlice(ad.Bytes())
		case unix.RTA_OIF:
			r.Index = int(ad.Uint32())
		case unix.RTA_TABLE:
			r.Table = ad.Uint32()
		case unix.RTA_PRIORITY:
			r.Priority = ad.Uint32()
		case unix.RTA_MULTIPATH:
			// struct rtnexthop: length (2), flags, hops, index (4).
			if hops := ad.Bytes(); r.Index == 0 && len(hops) >= unix.SizeofRtNexthop {
				r.Index = int(native.Uint32(hops[4:]))
			}
		case unix.RTA_METRICS:
			ad.Nested(func(m *netlink.AttributeDecoder) error {
				for m.Next() {
					switch m.Type() {
					case unix.RTAX_MTU:
						r.MTU = m.Uint32()
					case unix.RTAX_ADVMSS:
						r.AdvMSS = m.Uint32()
					}
				}
				return m.Err()
			})
		}
	}
	if err := ad.Err(); err != nil {
		return Route{}, fmt.Errorf("route: %w", err)
	}
	r.Dst = netip.PrefixFrom(dst, int(h[1]))
	if !r.Dst.IsValid() || family(dst) != h[0] {
		return Route{}, fmt.Errorf("route: no valid destination with length %d", h[1])
	}
	return r, nil
}
