package ports

import (
	"errors"
	"io/fs"
	"slices"

	"flatnet/bridge/host"
	"flatnet/bridge/model"

	"golang.org/x/sys/unix"
)

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

// LoopbackFaults lists what [OpenLoopback] mends.
func LoopbackFaults(h *host.Host, a *model.Attachment) []model.Fault {
	if !leadsThere(a) {
		return nil
	}
	name := routeLocalnet(a.GatewayName())
	if v, err := h.Sysctl.Get(name); err != nil || v != "0" { // the interface may be missing
		return nil
	}
	return []model.Fault{{Thing: "sysctl " + name, State: "0"}}
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
		if !slices.ContainsFunc(a.Ports, t.takes) {
			return false
		}
		v, err := h.Sysctl.Get("net/bridge/bridge-nf-call-" + t.Family.String() + "tables")
		return err == nil && v != "0"
	})
}
