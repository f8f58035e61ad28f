package model

import (
	"cmp"
	"fmt"
	"net/netip"
)

// Protocols whose ports can be published (IANA's protocol numbers, IPPROTO_* of
// linux/in.h).
const (
	TCP  = 6
	UDP  = 17
	SCTP = 132
)

// A Publication is a port of the host that leads to one of a container, in one
// family.
type Publication struct {
	Protocol uint8 // TCP, UDP or SCTP
	// Host with an unspecified address is of all addresses of the host. An invalid
	// one leads nowhere: the publication only is Local.
	Host   netip.AddrPort
	Target netip.AddrPort
	// Local is a container's port that is published on the host's loopback address
	// and on no other: from outside it can't be reached by the container's address,
	// either.
	Local bool
}

// HostPort returns the port on all addresses of the host, without a target. Publications
// that have it in common exclude each other, unless each of them is of one address.
func (p Publication) HostPort() Publication {
	return Publication{Protocol: p.Protocol, Host: netip.AddrPortFrom(Unspecified(p.Host.Addr()), p.Host.Port())}
}

// Everywhere reports whether the port is of all addresses of the host.
func (p Publication) Everywhere() bool { return p.Host.Addr().IsUnspecified() }

// Loopback reports whether 127.0.0.1 leads there, too.
func (p Publication) Loopback() bool {
	a := p.Host.Addr()
	return a.Is4() && (a.IsUnspecified() || a.IsLoopback())
}

// On is the publication as it is on one address of the host.
func (p Publication) On(host netip.Addr) Publication {
	p.Host = netip.AddrPortFrom(host, p.Host.Port())
	return p
}

func (p Publication) String() string {
	return fmt.Sprintf("host port %s/%s", p.Host, ProtocolName(p.Protocol))
}

// ProtocolName returns the name of a protocol whose ports can be published.
func ProtocolName(protocol uint8) string {
	return map[uint8]string{TCP: "tcp", UDP: "udp", SCTP: "sctp"}[protocol]
}

// linkLocal6 is RFC 4291's.
var linkLocal6 = netip.MustParsePrefix("fe80::/10")

// Publications resolves port mappings: one without a host address is published
// in each family in which the container has an address. Without addresses, which are
// not leased yet, there are none.
func Publications(ports []PortMapping, addrs []Address) (all []Publication, err error) {
	if len(addrs) == 0 {
		return nil, nil
	}
	seen := map[Publication]Publication{} // by place, and any of a port by that on all addresses
	for _, p := range ports {
		if p.HostIP == netip.IPv6Loopback() || linkLocal6.Contains(p.HostIP) {
			return nil, Errorf(ErrInvalid, "port %d can't be published on hostIP %s: Linux translates nothing "+
				"that is sent to an IPv6 loopback or link-local address; choose another, such as 127.0.0.1", p.HostPort, p.HostIP)
		}
		found := false
		for _, unspecified := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
			host, to := cmp.Or(p.HostIP, unspecified), firstOf(addrs, unspecified.Is4()).Addr()
			if !to.IsValid() || host.Is4() != to.Is4() {
				continue
			}
			found = true
			place := Publication{Protocol: p.Protocol, Host: netip.AddrPortFrom(host, p.HostPort)}
			pub, port := place, place.HostPort()
			pub.Target = netip.AddrPortFrom(to, p.ContainerPort)
			old, twice := seen[place]
			if old == pub {
				continue
			}
			if twice || seen[port].Everywhere() {
				return nil, Errorf(ErrInvalid, "%v is to be published twice", pub)
			}
			seen[place], seen[port] = pub, pub
			all = append(all, pub)
		}
		if !found {
			return nil, Errorf(ErrInvalid, "hostIP %s of host port %d: the container has no address of that family", p.HostIP, p.HostPort)
		}
	}
	return closeLocal(all, addrs), nil
}

// closeLocal marks the ports that are published on the loopback address only, and
// adds them for the container's other addresses.
func closeLocal(all []Publication, addrs []Address) []Publication {
	closed := func(p Publication, a netip.Addr) Publication {
		return Publication{Protocol: p.Protocol, Target: netip.AddrPortFrom(a, p.Target.Port()), Local: true}
	}
	done := map[Publication]bool{} // published otherwise, or closed already
	for _, p := range all {
		if !p.Host.Addr().IsLoopback() {
			done[closed(p, p.Target.Addr())] = true
		}
	}
	for i, p := range all {
		if !p.Host.Addr().IsLoopback() {
			continue
		}
		for _, a := range addrs {
			switch local := closed(p, a.Addr()); {
			case local.Target == p.Target:
				all[i].Local = !done[local]
			case !done[local]:
				done[local] = true
				all = append(all, local)
			}
		}
	}
	return all
}
