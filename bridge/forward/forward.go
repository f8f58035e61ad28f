// Package forward makes the host a router, and keeps it listening to routers itself.
//
// The kernel forwards IPv6 packets only if the sysctl for all interfaces is set
// (ip6_forward of net/ipv6/ip6_output.c); those of single interfaces merely choose
// between a host's and a router's manners there. For IPv4 it is the receiving
// interface's own that counts (ip_route_input_slow of net/ipv4/route.c), and
// net.ipv4.ip_forward sets all of them.
package forward

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/advice"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

const (
	all4 = "net/ipv4/ip_forward"
	all6 = "net/ipv6/conf/all/forwarding"
)

func of4(iface string) string      { return filepath.Join("net/ipv4/conf", iface, "forwarding") }
func acceptRA(iface string) string { return filepath.Join("net/ipv6/conf", iface, "accept_ra") }

// A Memory has the interfaces whose accept_ra was raised from 1 to 2.
type Memory interface {
	Raised() []string
	SaveRaised([]string)
	DropRaised() error
}

// A setting is a sysctl that must not be 0 for the host to forward what containers send.
type setting struct {
	name   string
	family byte
	index  int // of the interface that it is of; 0 if that is not known
}

// off reports whether a setting is 0.
func (s setting) off(h *host.Host) (bool, error) {
	if s.index != 0 {
		if on, err := h.Forwards(s.family, s.index); err == nil {
			return !on, nil
		}
	}
	v, err := h.Sysctl.Get(s.name)
	return v == "0", err
}

// settings lists those of a network. The interface with the gateway addresses, whose index
// is 0 if that is not known, may have been made while net.ipv4.conf.default.forwarding
// was 0.
func settings(s *model.Shared, iface string, index int) (all []setting) {
	if s.Forwards(true) {
		all = append(all, setting{all4, unix.AF_INET, rtnl.AllInterfaces}, setting{of4(iface), unix.AF_INET, index})
	}
	if s.Forwards(false) {
		all = append(all, setting{all6, unix.AF_INET6, rtnl.AllInterfaces})
	}
	return all
}

// Put lets the host forward what containers send. It asks first. gateway is the index of
// the interface with the gateway addresses.
func Put(h *host.Host, s *model.Shared, gateway int, m Memory) error {
	for _, of := range settings(s, s.GatewayName(), gateway) {
		off, err := of.off(h)
		if off && of.name == all6 {
			err = keepRouters(h, m)
		}
		if off && err == nil {
			err = h.Sysctl.Ensure(of.name, "1")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// keepRouters lets the interfaces on which the host listens to router advertisements
// go on listening when it becomes a router itself. With accept_ra 1 it would not: the
// kernel drops the default routes that it has learned there at once
// (rt6_purge_dflt_routers of net/ipv6/route.c), and the addresses when they expire.
func keepRouters(h *host.Host, m Memory) error {
	learned, err := h.Advertised()
	if err != nil {
		return err
	}
	for _, index := range learned {
		l, err := h.LinkByIndex(index)
		if err != nil {
			return err
		}
		v, err := h.Sysctl.Get(acceptRA(l.Name))
		if errors.Is(err, fs.ErrNotExist) || err == nil && v != "1" {
			continue // it has gone, or somebody has decided already
		}
		if err != nil {
			return err
		}
		m.SaveRaised(append(m.Raised(), l.Name))
		if err := h.Sysctl.Ensure(acceptRA(l.Name), "2"); err != nil {
			return err
		}
		h.Warn(fmt.Sprintf("the host forwards IPv6 from now on, so accept_ra of %s is raised from 1 to 2: "+
			"the host keeps the routes that a router advertises there", l.Name))
	}
	return nil
}

// Faults lists what keeps the host from forwarding for the network, or from listening
// to routers since it does; Restore mends it.
func Faults(h *host.Host, s *model.Shared, m Memory) (found []model.Fault, err error) {
	for _, of := range settings(s, s.GatewayName(), 0) {
		off, gerr := of.off(h)
		switch {
		case off:
			found = append(found, model.Fault{Thing: "sysctl " + of.name, State: "0", Mend: "is set to 1"})
		case !errors.Is(gerr, fs.ErrNotExist): // else the interface is missing, which is a fault of its own
			err = errors.Join(err, gerr)
		}
	}
	for _, name := range lowered(h, s, m) {
		found = append(found, model.Fault{Thing: "sysctl " + acceptRA(name), State: "1 and not 2"})
	}
	return found, err
}

// lowered lists the interfaces whose accept_ra is no longer raised.
func lowered(h *host.Host, s *model.Shared, m Memory) (names []string) {
	if !s.Forwards(false) {
		return nil
	}
	return raised(h, m, "1")
}

// raised lists the interfaces whose accept_ra was raised and has a value now. Others may
// have gone.
func raised(h *host.Host, m Memory, value string) []string {
	return slices.DeleteFunc(m.Raised(), func(name string) bool {
		v, err := h.Sysctl.Get(acceptRA(name))
		return err != nil || v != value
	})
}

// Restore mends what Faults lists.
func Restore(h *host.Host, s *model.Shared, m Memory) error {
	for _, name := range lowered(h, s, m) {
		if err := h.Sysctl.Ensure(acceptRA(name), "2"); err != nil {
			return err
		}
	}
	return Put(h, s, 0, m)
}

// Undo lowers what Put has raised, if the host is no router any more: then accept_ra 1
// means the same as 2. It returns a line for each sysctl that it set back.
func Undo(h *host.Host, m Memory) (done []string, err error) {
	if v, err := h.Sysctl.Get(all6); len(m.Raised()) == 0 || err != nil || v != "0" {
		return nil, nil
	}
	for _, name := range raised(h, m, "2") { // else somebody else has changed it
		if err := h.Sysctl.Ensure(acceptRA(name), "1"); err != nil {
			return done, err
		}
		done = append(done, fmt.Sprintf("undone: sysctl %s is 1 again, since the host does not forward IPv6", acceptRA(name)))
	}
	return done, m.DropRaised()
}

// CheckUplink reports that the host does not forward what arrives at the interface of
// its default route, which is not flatnet's to change: answers to containers are lost.
func CheckUplink(h *host.Host, s *model.Shared) error {
	if s.Internal || !s.Forwards(true) {
		return nil
	}
	l, err := h.DefaultRouteLink(false)
	if err != nil || l.Index == 0 {
		return err
	}
	all, err := h.Sysctl.Get(all4)
	own, oerr := h.Sysctl.Get(of4(l.Name))
	if own == "0" && all != "0" && err == nil { // else it will be set with all others
		err := model.Errorf(model.ErrConflict, "sysctl %s is 0, so the host does not forward answers that containers of network %s get there; set it to 1",
			of4(l.Name), s.Name)
		return advice.Repair(err, advice.Forwarding, "echo 1 >/proc/sys/"+of4(l.Name))
	}
	return host.IfPossible(errors.Join(err, oerr)) // the interface may have gone
}

// Ready reports why Put would fail. The interface with the gateway addresses may have to be
// made yet.
func Ready(h *host.Host, s *model.Shared, exists bool) (err error) {
	iface := "default"
	if exists {
		iface = s.GatewayName()
	}
	for _, of := range settings(s, iface, 0) {
		err = errors.Join(err, h.Sysctl.CanEnsure(of.name, "1"))
	}
	return err
}
