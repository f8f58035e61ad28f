package bridge

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"flatnet/internal/nft"

	"golang.org/x/sys/unix"
)

// A Publication is a port of the host that leads to one of a container, in one
// family.
type Publication struct {
	Protocol uint8 // IPPROTO_*
	// Host with an unspecified address is of all addresses of the host. An invalid
	// one leads nowhere: the publication only is Local.
	Host   netip.AddrPort
	Target netip.AddrPort
	// Local is a container's port that is published on the host's loopback address
	// and on no other: from outside it can't be reached by the container's address,
	// either.
	Local bool `json:",omitempty"`
}

// publications resolves port mappings: one without a host address is published
// in each family in which the container has an address.
func publications(ports []PortMapping, addrs []Address) ([]Publication, error) {
	if len(addrs) == 0 {
		return nil, nil // not leased yet
	}
	var all []Publication
	seen := map[hostPort]map[netip.Addr]Publication{}
	for _, p := range ports {
		if p.HostIP == netip.IPv6Loopback() || linkLocal6.Contains(p.HostIP) {
			return nil, fmt.Errorf("port %d can't be published on hostIP %s: Linux translates nothing that is sent to an IPv6 loopback or link-local address: %w", p.HostPort, p.HostIP, ErrInvalid)
		}
		found := false
		for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
			host := p.HostIP
			if !host.IsValid() {
				host = any
			}
			i := slices.IndexFunc(addrs, func(a Address) bool { return a.Prefix.Addr().Is4() == any.Is4() })
			if i < 0 || host.Is4() != any.Is4() {
				continue
			}
			found = true
			pub := Publication{
				Protocol: p.Protocol, Host: netip.AddrPortFrom(host, p.HostPort),
				Target: netip.AddrPortFrom(addrs[i].Prefix.Addr(), p.ContainerPort),
			}
			same := seen[pub.hostPort()]
			if same[host] == pub {
				continue
			}
			_, twice := same[host]
			_, everywhere := same[any]
			if twice || everywhere || host == any && len(same) > 0 {
				return nil, fmt.Errorf("%v is to be published twice: %w", pub, ErrInvalid)
			}
			if same == nil {
				same = map[netip.Addr]Publication{}
				seen[pub.hostPort()] = same
			}
			same[host] = pub
			all = append(all, pub)
		}
		if !found {
			return nil, fmt.Errorf("hostIP %s of host port %d: the container has no address of that family: %w", p.HostIP, p.HostPort, ErrInvalid)
		}
	}
	return closeLocal(all, addrs), nil
}

// closeLocal marks the ports that are published on the loopback address only, and
// adds them for the container's other addresses.
func closeLocal(all []Publication, addrs []Address) []Publication {
	type port struct {
		protocol uint8
		target   netip.AddrPort
	}
	known := map[port]bool{} // published otherwise, or closed already
	for _, p := range all {
		if !p.Host.Addr().IsLoopback() {
			known[port{p.Protocol, p.Target}] = true
		}
	}
	for i, p := range all {
		if !p.Host.Addr().IsLoopback() {
			continue
		}
		all[i].Local = !known[port{p.Protocol, p.Target}]
		for _, a := range addrs {
			target := netip.AddrPortFrom(a.Prefix.Addr(), p.Target.Port())
			if at := (port{p.Protocol, target}); target != p.Target && !known[at] {
				known[at] = true
				all = append(all, Publication{Protocol: p.Protocol, Target: target, Local: true})
			}
		}
	}
	return all
}

// A hostPort is what publications that exclude each other have in common, unless
// each of them is of one address.
type hostPort struct {
	protocol uint8
	port     uint16
	ipv6     bool
}

func (p Publication) hostPort() hostPort {
	return hostPort{p.Protocol, p.Host.Port(), p.Target.Addr().Is6()}
}

func (p Publication) String() string {
	name := map[uint8]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp"}[p.Protocol]
	return fmt.Sprintf("host port %s/%s", p.Host, name)
}

// on is the publication as it is on one address of the host.
func (p Publication) on(host netip.Addr) Publication {
	p.Host = netip.AddrPortFrom(host, p.Host.Port())
	return p
}

// element is where the publication is in the tables.
func (p Publication) element(owner Key) entry {
	t := portsOf(familyOf(p.Target.Addr()))
	if !p.Host.IsValid() {
		return p.closed(owner)
	}
	e := nft.Element{
		Data:    nft.Concat(p.Target.Addr().AsSlice(), bigEndian(p.Target.Port())),
		Comment: owner.String(),
	}
	if p.Host.Addr().IsUnspecified() {
		e.Key = nft.Concat([]byte{p.Protocol}, bigEndian(p.Host.Port()))
		return entry{t.everywhere(), e}
	}
	e.Key = nft.Concat([]byte{p.Protocol}, p.Host.Addr().AsSlice(), bigEndian(p.Host.Port()))
	return entry{t.somewhere(), e}
}

// closed is what keeps the target from others than the host and containers.
func (p Publication) closed(owner Key) entry {
	return entry{portsOf(familyOf(p.Target.Addr())).local(), nft.Element{
		Key:     nft.Concat([]byte{p.Protocol}, p.Target.Addr().AsSlice(), bigEndian(p.Target.Port())),
		Comment: owner.String(),
	}}
}

// itself is what lets the target reach its own published ports.
func (p Publication) itself(owner Key) entry {
	a := p.Target.Addr()
	return entry{portsOf(familyOf(a)).selves(), nft.Element{Key: nft.Concat(a.AsSlice(), a.AsSlice()), Comment: owner.String()}}
}

func bigEndian(port uint16) []byte { return binary.BigEndian.AppendUint16(nil, port) }

// entries are all that ports have in the tables.
func entries(key Key, ports []Publication) (all []entry) {
	selves, closed := map[netip.Addr]bool{}, map[place]bool{}
	for _, p := range ports {
		if p.Host.IsValid() {
			all = append(all, p.element(key))
		}
		if e := p.closed(key); p.Local && !closed[e.place()] {
			closed[e.place()] = true
			all = append(all, e)
		}
		if a := p.Target.Addr(); !selves[a] {
			selves[a] = true
			all = append(all, p.itself(key))
		}
	}
	return all
}

func (a Attachment) portFamilies() (families []nft.Family) {
	for _, p := range a.Ports {
		if f := familyOf(p.Target.Addr()); !slices.Contains(families, f) {
			families = append(families, f)
		}
	}
	return families
}

// wish is what a reload is to restore.
func (a Attachment) wish() wish {
	return wish{Key: a.Key, Ports: a.Ports, Bandwidth: a.Bandwidth, Internal: a.internal()}
}

func (a Attachment) internal() bool {
	return slices.ContainsFunc(a.Firewall, func(f Firewall) bool { return f.Internal })
}

// sharesContainer says whether a comment names an attachment of k's container.
func (k Key) sharesContainer(comment string) bool {
	other, ok := parseKey(comment)
	return ok && other.ContainerID == k.ContainerID
}

// needsHairpin says whether what a container sends to its own published port
// goes back through its bridge port: where br_netfilter is at work, a bridge
// forwards directly what is translated to an address behind itself.
func (h *Host) needsHairpin(a Attachment) bool {
	for _, family := range a.portFamilies() {
		name := "net/bridge/bridge-nf-call-iptables"
		if family == nft.IPv6 {
			name = "net/bridge/bridge-nf-call-ip6tables"
		}
		if v, err := h.sysctl.Get(name); err == nil && v != "0" {
			return true
		}
	}
	return false
}
