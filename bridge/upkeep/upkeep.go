// Package upkeep compares, and restores, what is lost less often than what ADD and STATUS
// compare, and requires further requests to the kernel: the routes that come with gateway
// addresses, MTUs, rates of limits, sysctls of the bridge, the far end of a VLAN's interface.
// CHECK, flatnet status and a reload have the time for them.
package upkeep

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"flatnet/bridge/host"
	"flatnet/bridge/link"
	"flatnet/bridge/model"
	"flatnet/bridge/records"
	"flatnet/bridge/shaping"
	"flatnet/bridge/vlan"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// A repair is a fault and what mends it.
type repair struct {
	model.Fault
	mend func() error
}

// Faults lists what a network and its attachments lack; Restore mends it.
func Faults(h *host.Host, s *model.Shared, ends []records.End) (found []model.Fault, err error) {
	repairs, err := look(h, s, ends)
	for _, r := range repairs {
		found = append(found, r.Fault)
	}
	return found, err
}

// Restore mends what Faults lists. What goes meanwhile needs no repair.
func Restore(h *host.Host, s *model.Shared, ends []records.End) error {
	repairs, err := look(h, s, ends)
	errs := []error{err}
	for _, r := range repairs {
		if err := r.mend(); !errors.Is(err, unix.ENODEV) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// look lists what is to be mended, in that order: a bridge's MTU follows its ports'.
func look(h *host.Host, s *model.Shared, ends []records.End) (found []repair, err error) {
	made, shaped := map[int]uint32{}, false // MTUs by the links' indexes
	for _, e := range ends {
		if e.MadeMTU != 0 {
			made[e.Link.Index] = e.MadeMTU
			found = append(found, mtu(h, e.Link, e.MadeMTU)...)
		}
		shaped = shaped || e.Bandwidth != model.Bandwidth{}
	}
	add := func(repairs []repair, rerr error) { found, err = append(found, repairs...), errors.Join(err, rerr) }
	if shaped {
		add(rates(h, ends))
	}
	br, berr := link.FindBridge(h, &s.Network)
	if berr != nil || br.Index == 0 { // which is a fault of its own
		return found, errors.Join(err, berr)
	}
	ports, perr := h.Ports(br.Index)
	if perr != nil { // one that is not listed is not missing
		return found, errors.Join(err, perr)
	}
	if _, ours := model.MadeFor(br.Alias); ours {
		add(bridgeMTU(h, br.Link, ports, made), nil)
		add(quiet(h, br.Name), nil)
	}
	if br.Gateway.Index != 0 && br.Gateway.Index != br.Index {
		add(lead(h, s, br, ports))
		add(quiet(h, br.Gateway.Name), nil)
	}
	add(routes(h, s, br))
	return found, err
}

// mtu compares the MTU of a link.
func mtu(h *host.Host, l rtnl.Link, want uint32) []repair {
	if l.MTU == want || l.Index == 0 {
		return nil
	}
	return []repair{{model.Fault{Thing: "MTU of " + l.Name, State: fmt.Sprintf("%d and not %d", l.MTU, want)},
		func() error { return h.SetLink(l, rtnl.LinkChange{MTU: want}) }}}
}

// bridgeMTU compares the MTU of a bridge that flatnet made: the least of its ports', which
// the kernel sees to until somebody sets another (br_mtu_auto_adjust of net/bridge/br_if.c).
// made are the MTUs that ports will have.
func bridgeMTU(h *host.Host, br rtnl.Link, ports []rtnl.Link, made map[int]uint32) []repair {
	least := uint32(0)
	for _, p := range ports {
		if at := cmp.Or(made[p.Index], p.MTU); least == 0 || at < least {
			least = at
		}
	}
	if least == 0 {
		return nil
	}
	found := mtu(h, br, least)
	for i := range found {
		found[i].mend = func() error { // unless the kernel has done it with the ports
			now, err := h.LinkByIndex(br.Index)
			if now.MTU == least || err != nil {
				return err
			}
			return h.SetLink(br, rtnl.LinkChange{MTU: least})
		}
	}
	return found
}

// rates compares the queues of limits. A queue that is missing is for package shaping.
func rates(h *host.Host, ends []records.End) (found []repair, err error) {
	have, err := h.TokenBuckets()
	if err != nil {
		return nil, err
	}
	for _, e := range ends {
		ingress, egress := shaping.Buckets(e.Attachment)
		put := func() error { return shaping.Put(h, e.Attachment, e.Link.Index) }
		differs := func(index int, want rtnl.TokenBucket) bool {
			got, ok := have[index]
			return ok && want.Rate != 0 && (got.Rate != want.Rate || got.Limit != want.Limit)
		}
		if differs(e.Link.Index, ingress) {
			found = append(found, repair{model.Fault{Thing: "the rate limit to the container on " + e.Link.Name, State: "not as it was"}, put})
		}
		if egress.Rate == 0 {
			continue
		}
		ifb, lerr := h.LinkByName(e.Key.IFBName())
		err = errors.Join(err, lerr)
		if differs(ifb.Index, egress) || ifb.Index != 0 && e.MadeMTU != 0 && ifb.MTU != e.MadeMTU {
			found = append(found, repair{model.Fault{Thing: "the rate limit from the container by " + ifb.Name, State: "not as it was"}, put})
		}
	}
	return found, err
}

// quiet compares the sysctls by which an interface of flatnet's own does not believe the
// router advertisements of containers (CVE-2020-10749), and uses its addresses at once. Where
// they can't be written, ADD has left them as they are, too.
func quiet(h *host.Host, iface string) (found []repair) {
	for _, name := range []string{"accept_ra", "accept_dad"} {
		name = filepath.Join("net/ipv6/conf", iface, name)
		v, err := h.Sysctl.Get(name)
		if err != nil || v == "0" || h.Sysctl.CanEnsure(name, "0") != nil {
			continue
		}
		found = append(found, repair{model.Fault{Thing: "sysctl " + name, State: v + " and not 0"},
			func() error { return host.IfPossible(h.Sysctl.Ensure(name, "0")) }})
	}
	return found
}

// lead compares the far end of the interface that leads into a network's VLAN.
func lead(h *host.Host, s *model.Shared, br link.Bridge, ports []rtnl.Link) (found []repair, err error) {
	thing := "the bridge port of interface " + br.Gateway.Name
	raise := func() error { return vlan.RaiseGateway(h, &s.Network, br.Link, br.Gateway) }
	i := slices.IndexFunc(ports, func(p rtnl.Link) bool { return p.Index == br.Gateway.Peer })
	if i < 0 {
		return []repair{{model.Fault{Thing: thing, State: "not on bridge " + br.Name}, raise}}, nil
	}
	far := ports[i]
	vlans, err := vlan.Ports(h, s.VLANs)
	own := model.VLANs{ID: s.VLANs.ID}
	switch {
	case err == nil && len(vlan.Faults(own, far, vlans)) > 0:
		found = append(found, repair{model.Fault{Thing: thing, State: fmt.Sprintf("not in VLAN %d", own.ID)}, raise})
	case !far.Up():
		found = append(found, repair{model.Fault{Thing: thing, State: "down"}, raise})
	}
	wide := max(br.Gateway.MTU, far.MTU) // both ends were made alike
	found = append(found, mtu(h, br.Gateway, wide)...)
	return append(found, mtu(h, far, wide)...), err
}

// routes compares the routes that the kernel makes with a gateway address, and does not make
// again. Interfaces of a VRF have them elsewhere.
func routes(h *host.Host, s *model.Shared, br link.Bridge) (found []repair, err error) {
	gw := br.Gateway
	if !gw.Up() || gw.Index == 0 || br.Master != 0 || gw.Master != 0 {
		return nil, nil
	}
	have, err := h.Routes(unix.AF_UNSPEC, gw.Index)
	if err != nil {
		return nil, err
	}
	for _, p := range s.GatewayPrefixes() {
		if !slices.ContainsFunc(br.Addrs, func(a rtnl.Addr) bool { return a.Prefix == p }) {
			continue // which is a fault of its own, and brings its routes
		}
		own, lerr := h.Local(p.Addr())
		if err = errors.Join(err, lerr); lerr == nil && own == (rtnl.Route{}) {
			found = append(found, repair{model.Fault{Thing: "the host's local route to " + p.Addr().String(), State: "missing"},
				func() error { return restoreLocal(h, gw, p) }})
		}
		leads := func(r rtnl.Route) bool { return r.Index == gw.Index && r.Dst == p.Masked() && !r.Gateway.IsValid() }
		if p.IsSingleIP() || slices.ContainsFunc(have, leads) {
			continue
		}
		found = append(found, repair{
			model.Fault{Thing: fmt.Sprintf("the host's route to %s by %s", p.Masked(), gw.Name), State: "missing"},
			func() error { return host.UnlessExists(h.AddRoute(connected(p, gw.Index))) }})
	}
	return found, err
}

// metric6 is IP6_RT_PRIO_ADDRCONF of net/ip6_route.h.
const metric6 = 256

// connected is the route to a subnet in which an interface has an address, as the kernel
// makes it: it goes with the address.
func connected(p netip.Prefix, index int) rtnl.Route {
	r := rtnl.Route{Dst: p.Masked(), Index: index, Protocol: unix.RTPROT_KERNEL, Scope: unix.RT_SCOPE_LINK, Source: p.Addr()}
	if p.Addr().Is6() {
		r.Scope, r.Source, r.Priority = unix.RT_SCOPE_UNIVERSE, netip.Addr{}, metric6
	}
	return r
}

// restoreLocal restores the route by which the host receives what is sent to an address. In
// IPv6 it belongs to the address, which is replaced. In IPv4 that could take other addresses
// and routes along.
func restoreLocal(h *host.Host, gw rtnl.Link, p netip.Prefix) error {
	if p.Addr().Is4() {
		return host.UnlessExists(h.AddRoute(rtnl.Route{
			Dst: netip.PrefixFrom(p.Addr(), 32), Index: gw.Index, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL,
			Protocol: unix.RTPROT_KERNEL, Scope: unix.RT_SCOPE_HOST, Source: p.Addr(),
		}))
	}
	if err := h.DeleteAddress(gw, p); err != nil {
		return err
	}
	return h.AddAddress(gw, p, false)
}
