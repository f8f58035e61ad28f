package rtnl

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Local returns the route by which the host itself receives what is sent to an
// address: one of its own (RTN_LOCAL), or a broadcast or anycast address of one
// of its subnets. The zero Route means that the host has no such address. It
// costs one message, however many addresses the host has.
func (c *Conn) Local(a netip.Addr) (Route, error) {
	r, err := c.routeTo(a, unix.RTM_F_FIB_MATCH)
	switch {
	case leadsNowhere(err):
		return Route{}, nil
	case err != nil:
		return Route{}, err
	case r.Type == unix.RTN_LOCAL || r.Type == unix.RTN_BROADCAST || r.Type == unix.RTN_ANYCAST:
		return r, nil
	}
	return Route{}, nil
}

// leadsNowhere reports whether a look-up ended without a route: there is none,
// or it is of the type unreachable, prohibit, blackhole or throw (fib_props of
// net/ipv4/fib_semantics.c), or the kernel lacks the family.
func leadsNowhere(err error) bool {
	for _, errno := range [...]unix.Errno{
		unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL, unix.EAGAIN,
		unix.EOPNOTSUPP, unix.EAFNOSUPPORT,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
