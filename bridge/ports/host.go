package ports

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/conntrack"

	"golang.org/x/sys/unix"
)

// Forget makes the kernel forget connections of UDP clients, to ports that are gone and
// to published ports: one that keeps sending from the same port would go on being served
// by the server that its first packet went to. addrs are the host's addresses,
// needed for published ports only. If it fails, there is a warning: the ports work for
// all other clients. The kernel goes through all connections that it has each time, so
// ports of many attachments should be forgotten at once.
func Forget(h *host.Host, gone, published []model.Publication, addrs []netip.Addr) {
	queries, stale := staleFlows(gone, published, addrs)
	if err := conntrack.Forget(slices.Collect(maps.Keys(queries)), stale); err != nil {
		h.Warn(fmt.Sprintf("clients that keep sending to a published UDP port may be served wrongly: %v", err))
	}
}

// fewQueries is up to how many ports and servers are asked for one by one: the kernel
// then returns only their flows.
const fewQueries = 4

// staleFlows returns queries for flows, and which of those are to be forgotten: where
// ports that are gone led, and those to published ports that lead elsewhere.
func staleFlows(gone, published []model.Publication, addrs []netip.Addr) (map[conntrack.Query]bool, func(conntrack.Flow) bool) {
	queries, all := map[conntrack.Query]bool{}, map[conntrack.Query]bool{}
	ask := func(p model.Publication, q conntrack.Query) bool {
		if p.Protocol != model.UDP || !p.Host.IsValid() {
			return false
		}
		q.Protocol, q.IPv6 = p.Protocol, p.Target.Addr().Is6()
		queries[q] = true
		all[conntrack.Query{Protocol: q.Protocol, IPv6: q.IPv6}] = true
		return true
	}
	led, leads := map[[2]netip.AddrPort]bool{}, map[netip.AddrPort]netip.AddrPort{}
	for _, p := range gone {
		if ask(p, conntrack.Query{Server: p.Target.Addr()}) {
			led[[2]netip.AddrPort{everywhere(p.Host), p.Target}] = true
		}
	}
	for _, p := range published {
		if ask(p, conntrack.Query{Port: p.Host.Port()}) {
			leads[p.Host] = p.Target
		}
	}
	if len(queries) > fewQueries {
		queries = all
	}
	local := map[netip.Addr]bool{}
	for _, a := range addrs {
		local[a] = true
	}
	return queries, func(f conntrack.Flow) bool {
		target, ok := leads[f.Dst]
		if to := f.Dst.Addr(); !ok && (local[to] || to.IsLoopback()) {
			target, ok = leads[everywhere(f.Dst)]
		}
		return led[[2]netip.AddrPort{everywhere(f.Dst), f.Server}] || ok && f.Server != target
	}
}

// everywhere returns the port on all addresses of the family.
func everywhere(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(model.Unspecified(a.Addr()), a.Port())
}

// routeLocalnet is the sysctl by which 127.0.0.1 leads to published ports.
func routeLocalnet(ifName string) string { return "net/ipv4/conf/" + ifName + "/route_localnet" }

// leadsThere reports whether 127.0.0.1 is to lead to any of the ports.
func leadsThere(a *model.Attachment) bool {
	return slices.ContainsFunc(a.Ports, model.Publication.Loopback)
}

// OpenLoopback makes published ports reachable by 127.0.0.1. It must be called only when
// the rules of package firewall are there, which make that harmless.
func OpenLoopback(h *host.Host, a *model.Attachment) error {
	if !leadsThere(a) {
		return nil
	}
	return h.Sysctl.Ensure(routeLocalnet(a.GatewayName()), "1")
}

// LoopbackFaults lists what [OpenLoopback] mends for attachments of one network.
func LoopbackFaults(h *host.Host, all []*model.Attachment) []model.Fault {
	i := slices.IndexFunc(all, leadsThere)
	if i < 0 {
		return nil
	}
	iface := all[i].GatewayName()
	if !LoopbackClosed(h, iface) { // it may be missing
		return nil
	}
	return []model.Fault{{Thing: "sysctl " + routeLocalnet(iface), State: "0", Mend: "is set to 1"}}
}

// LoopbackClosed reports whether [CloseLoopback] would change nothing.
func LoopbackClosed(h *host.Host, ifName string) bool {
	v, err := h.Sysctl.Get(routeLocalnet(ifName))
	return err == nil && v == "0"
}

// CloseLoopback undoes [OpenLoopback] for an interface, which may be gone, and which no
// network with rules uses any more. Where /proc/sys is read-only somebody else has set the
// sysctl, and there is only a warning.
func CloseLoopback(h *host.Host, ifName string) error {
	err := h.Sysctl.Ensure(routeLocalnet(ifName), "0")
	if errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) {
		h.Say(err)
		return nil
	}
	return host.IfPossible(err)
}

// NeedsHairpin reports whether packets of a container to its own published port leave by
// the bridge port that they came by: where br_netfilter is at work, a bridge itself
// forwards packets that are translated to an address behind it.
func NeedsHairpin(h *host.Host, a *model.Attachment) bool {
	return slices.ContainsFunc(tables(), func(t *table) bool {
		return slices.ContainsFunc(a.Ports, t.takes) && h.Bridged(t.Family)
	})
}

// CheckIsolated reports published ports that the network's own containers don't reach:
// where [NeedsHairpin], the bridge forwards from one isolated port to another, which it
// refuses.
func CheckIsolated(h *host.Host, a *model.Attachment) error {
	if !a.PortIsolated || !NeedsHairpin(h, a) {
		return nil
	}
	return model.Errorf(model.ErrConflict, "portIsolation: containers of network %s don't reach the ports that %s publishes, while everybody else does, "+
		"for sysctl net.bridge.bridge-nf-call-iptables or -ip6tables is 1 (br_netfilter); with 0 they do", a.Name, a.Key)
}
