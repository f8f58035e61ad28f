package bridge

import (
	"errors"
	"fmt"
	"net/netip"

	"flatnet/internal/conntrack"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// stale is what the kernel remembers of UDP packets to published ports and should
// forget: a client that keeps sending from the same port would go on being served
// by the server that its first packet went to.
type stale struct {
	queries []conntrack.Query
	is      func(conntrack.Flow) bool
}

// forget deletes what is stale. If that fails, there is a warning: the port works
// for all other clients.
func (h *Host) forget(s stale) {
	if err := s.forget(); err != nil {
		h.say(fmt.Sprintf("clients that keep sending to a published UDP port may be served wrongly: %v", err))
	}
}

func (s stale) forget() error {
	if len(s.queries) == 0 {
		return nil
	}
	c, err := conntrack.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	var old []conntrack.Flow
	for _, q := range s.queries {
		flows, ferr := c.Flows(q)
		err = errors.Join(err, ferr)
		for _, f := range flows {
			if s.is(f) {
				old = append(old, f)
			}
		}
	}
	return errors.Join(err, c.Delete(old))
}

// flowsTo are those that lead to where the ports led.
func flowsTo(ports []Publication) stale {
	led := map[hostPort]map[netip.AddrPort]bool{}
	asked := map[netip.Addr]bool{}
	var s stale
	for _, p := range ports {
		if p.Protocol != unix.IPPROTO_UDP || !p.Host.IsValid() {
			continue
		}
		if led[p.hostPort()] == nil {
			led[p.hostPort()] = map[netip.AddrPort]bool{}
		}
		led[p.hostPort()][p.Target] = true
		if server := p.Target.Addr(); !asked[server] {
			asked[server] = true
			s.queries = append(s.queries, conntrack.Query{Protocol: p.Protocol, IPv6: server.Is6(), Server: server})
		}
	}
	s.is = func(f conntrack.Flow) bool { return led[flowPort(f)][f.Server] }
	if len(s.queries) > fewPorts {
		s.queries = allPorts(s.queries)
	}
	return s
}

func flowPort(f conntrack.Flow) hostPort {
	return hostPort{f.Protocol, f.Dst.Port(), f.Dst.Addr().Is6()}
}

// fewPorts is up to how many ports or servers are asked for one by one: the kernel then
// returns only their flows. It goes through all that it has in any case.
const fewPorts = 4

// flowsPast are those to the ports that lead elsewhere.
func flowsPast(ports []Publication, addrs []rtnl.Addr) stale {
	local := map[netip.Addr]bool{}
	for _, a := range addrs {
		local[a.Prefix.Addr()] = true
	}
	lead := map[hostPort]map[netip.Addr]Publication{}
	var s stale
	for _, p := range ports {
		if p.Protocol != unix.IPPROTO_UDP || !p.Host.IsValid() {
			continue
		}
		if lead[p.hostPort()] == nil {
			lead[p.hostPort()] = map[netip.Addr]Publication{}
			s.queries = append(s.queries, conntrack.Query{Protocol: p.Protocol, IPv6: p.Host.Addr().Is6(), Port: p.Host.Port()})
		}
		lead[p.hostPort()][p.Host.Addr()] = p
	}
	s.is = func(f conntrack.Flow) bool {
		to := f.Dst.Addr()
		p, ok := lead[flowPort(f)][to]
		if !ok && (local[to] || to.IsLoopback()) {
			p, ok = lead[flowPort(f)][unspecified(to)]
		}
		return ok && f.Server != p.Target
	}
	if len(s.queries) > fewPorts {
		s.queries = allPorts(s.queries)
	}
	return s
}

// allPorts asks for all ports at once, in each family that queries are about.
func allPorts(queries []conntrack.Query) (all []conntrack.Query) {
	asked := map[bool]bool{}
	for _, q := range queries {
		if !asked[q.IPv6] {
			asked[q.IPv6] = true
			all = append(all, conntrack.Query{Protocol: q.Protocol, IPv6: q.IPv6})
		}
	}
	return all
}
