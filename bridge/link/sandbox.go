package link

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"flatnet/bridge/dad"
	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/metric"
	"flatnet/internal/sysctl"
	"flatnet/ns"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// A Sandbox is a container's network namespace as flatnet works in it: through
// what was opened there, so that a thread has to go there but once. What it answers is
// the container's word.
type Sandbox struct {
	*rtnl.Conn
	netns *ns.NS
	conf6 sysctl.Dir // its net/ipv6/conf; empty if the kernel has no IPv6
	pin   *os.File   // of conf6

	deadEnds []rtnl.Route // see Withdraw
}

// Enter opens the namespace at a path, which must not be the host's own.
func Enter(file string) (*Sandbox, error) {
	own, err := ns.Current()
	if err != nil {
		return nil, err
	}
	defer own.Close()
	s := &Sandbox{}
	s.netns, err = ns.Open(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, model.Errorf(model.ErrNoContainer, "network namespace %q does not exist; is the container still running?", file)
	case errors.Is(err, ns.ErrNotNetNS):
		return nil, fmt.Errorf("%q: %w", file, model.ErrNetNS)
	case err != nil:
		return nil, err
	case s.netns.Same(own):
		s.Close()
		return nil, model.Errorf(model.ErrNetNS, "%q is the host's own network namespace; it must be the container's", file)
	}
	err = s.netns.Do(func() (err error) {
		if s.conf6, s.pin, err = sysctl.Proc.Pin("net/ipv6/conf"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if s.Conn, err = rtnl.Dial(); err == nil {
			s.Untrusted("in the container")
		}
		return err
	})
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("enter the container's network namespace: %w", err)
	}
	return s, nil
}

// Close closes what Enter opened.
func (s *Sandbox) Close() {
	s.pin.Close() // of none, too
	if s.Conn != nil {
		s.Conn.Close()
	}
	s.netns.Close()
}

// loopbackIndex is LOOPBACK_IFINDEX of net/net_namespace.h: lo has it in every
// namespace.
const loopbackIndex = 1

// Configure sets up the container's side: lo, MAC and state, addresses, routes. The
// routes of a become those that the kernel has.
func (s *Sandbox) Configure(a *model.Attachment, index int) error {
	lo := rtnl.Link{Index: loopbackIndex, Name: "lo"}
	if err := s.SetLink(lo, rtnl.LinkChange{Up: true}); err != nil || a.NoAddress {
		return err
	}
	l := inner(a, index)
	err := s.settleIPv6(a)
	if err == nil {
		err = s.SetLink(l, rtnl.LinkChange{Up: true, NoLinkLocal: !usesIPv6(a)})
	}
	if err == nil {
		err = s.addAddresses(a, l)
	}
	for i := 0; err == nil && i < len(a.Routes); i++ {
		err = s.addRoute(a, index, &a.Routes[i])
	}
	return err
}

// inner describes the container's end as ADD made it.
func inner(a *model.Attachment, index int) rtnl.Link {
	return rtnl.Link{Index: index, Name: a.Key.IfName, MAC: a.MAC[:]}
}

// addRoute adds a route, and notes its priority. Where the container has one to the same
// destination with a priority that r did not ask for, r's comes second.
func (s *Sandbox) addRoute(a *model.Attachment, index int, r *model.Route) error {
	out := rtnl.Route{
		Dst: r.Dst, Gateway: r.Gateway, Index: index,
		MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: a.MetricOf(*r), Type: r.Type,
	}
	if r.Table != nil {
		out.Table = *r.Table
	}
	switch {
	case r.Narrow():
		out.Scope = *r.Scope
	case r.Type != 0: // it is no interface's
		out.Index, out.Protocol = 0, DeadEnd
	case !r.Gateway.IsValid():
		out.Scope = unix.RT_SCOPE_LINK
	}
	err := s.AddRoute(out)
	if errors.Is(err, unix.EEXIST) && r.Priority == 0 {
		out.Priority = min(max(out.Priority, metric.Second), math.MaxInt32) + uint32(index)
		err = s.AddRoute(out)
	}
	if err == nil && out.Protocol == DeadEnd {
		s.deadEnds = append(s.deadEnds, out)
	}
	r.Priority = out.Priority
	return err
}

// DeadEnd is the protocol (RTA_PROTOCOL) of the routes by which packets go nowhere. They
// are no interface's and don't go with one; others' have another protocol.
const DeadEnd = 87

// Withdraw deletes the routes that Configure added and that would not go with the pair.
func (s *Sandbox) Withdraw() (err error) {
	for _, r := range s.deadEnds {
		err = errors.Join(err, s.DeleteRoute(r))
	}
	return err
}

// settleIPv6 makes the interface's IPv6 addresses those that it is given: none
// is tentative (accept_dad), none comes of a router advertisement, which any
// neighbour could send, and nothing forbids them (disable_ipv6, which runtimes
// and images set). See Documentation/networking/ip-sysctl.rst.
func (s *Sandbox) settleIPv6(a *model.Attachment) error {
	ensure := func(name, value string) error {
		if s.conf6 == "" {
			return fs.ErrNotExist
		}
		return s.conf6.Ensure(filepath.Join(a.Key.IfName, name), value)
	}
	var err error
	if !a.AcceptRA {
		err = host.IfPossible(ensure("accept_ra", "0"))
	}
	if err == nil && usesIPv6(a) {
		err = host.IfPossible(ensure("accept_dad", map[bool]string{false: "0", true: "1"}[a.DAD]))
	}
	if err != nil || len(ipv6(a)) == 0 {
		return err
	}
	if err = ensure("disable_ipv6", "0"); errors.Is(err, fs.ErrNotExist) {
		return model.Unsupported("CONFIG_IPV6")
	}
	return err
}

// usesIPv6 reports whether the interface is to have IPv6 addresses, if only by another
// plugin. One in an IPv4 network gets no link-local address either: the kernel would
// report its multicast group to all ports of the bridge, which costs more than all of an
// ADD where there are many.
func usesIPv6(a *model.Attachment) bool { return len(ipv6(a)) > 0 || a.LinkFirst || a.AcceptRA }

func ipv6(a *model.Attachment) []netip.Addr { return slices.DeleteFunc(a.IPs(), netip.Addr.Is4) }

// addAddresses gives the container's end its addresses, and returns when all of them
// can be used.
func (s *Sandbox) addAddresses(a *model.Attachment, l rtnl.Link) error {
	add := func() error {
		for _, addr := range a.Addresses {
			if err := s.AddAddress(l, addr.Prefix, a.DAD); err != nil {
				return err
			}
		}
		return nil
	}
	if !a.DAD || len(ipv6(a)) == 0 {
		return add()
	}
	return dad.Await(s.netns, l.Index, ipv6(a), add)
}

// Announce informs neighbours that know one of the addresses by another MAC, for
// the MAC does not follow from an address that another plugin leased.
func (s *Sandbox) Announce(a *model.Attachment, index int) error {
	return s.netns.Do(func() error {
		return announce(s.Conn, sysctl.Proc, inner(a, index), a.IPs())
	})
}

// Check compares the container's end with the result of ADD. What the container's
// namespace says is the container's word: it decides about nothing but this report.
func (s *Sandbox) Check(h *host.Host, a *model.Attachment, ends []rtnl.Link, listed []model.Route) error {
	name := a.Key.IfName
	l, err := s.LinkByName(name)
	here := true
	if err == nil && len(ends) > 0 {
		here, err = s.isPeer(h, ends[0], l.Index)
	}
	switch {
	case err != nil:
		return err
	case l.Index == 0:
		return model.Errorf(model.ErrChanged, "interface %s is missing in the container", name)
	case !here:
		return model.Errorf(model.ErrChanged, "interface %s in the container is not the one that %s leads to", name, ends[0].Name)
	}
	addrs, err := s.Addresses(l.Index)
	routes, rerr := s.Routes(unix.AF_UNSPEC, l.Index)
	if err = errors.Join(err, rerr); err != nil {
		return err
	}
	var errs []error
	changed := func(format string, args ...any) { errs = append(errs, model.Errorf(model.ErrChanged, format, args...)) }
	if !l.Up() && !a.NoAddress {
		changed("interface %s is down in the container", name)
	}
	if string(l.MAC) != string(a.MAC[:]) {
		changed("interface %s has the MAC address %s and not %s", name, l.MAC, a.MAC)
	}
	for _, addr := range a.Addresses {
		if !slices.ContainsFunc(addrs, func(h rtnl.Addr) bool { return h.Prefix == addr.Prefix }) {
			changed("address %s of interface %s is missing", addr.Prefix, name)
		}
	}
	for _, want := range a.Routes {
		// A later plugin may have taken it away, or moved it to another table, and said so.
		said := slices.ContainsFunc(listed, func(r model.Route) bool { return r.Dst == want.Dst && r.Gateway == want.Gateway })
		there := slices.ContainsFunc(routes, func(r rtnl.Route) bool { return r.Dst == want.Dst && r.Gateway == want.Gateway })
		if said && !there {
			changed("route to %s via %s is missing in the container", want.Dst, want.Gateway)
		}
	}
	return errors.Join(errs...)
}
