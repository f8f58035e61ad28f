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

// Put lets the host forward what containers send. It reads first. The interface with
// the gateway addresses may have been made while net.ipv4.conf.default.forwarding was
// 0.
func Put(h *host.Host, s *model.Shared, m Memory) error {
	if s.Forwards(true) {
		for _, name := range []string{all4, of4(s.GatewayName())} {
			if err := h.Sysctl.Ensure(name, "1"); err != nil {
				return err
			}
		}
	}
	if !s.Forwards(false) {
		return nil
	}
	if v, err := h.Sysctl.Get(all6); err != nil || v != "0" {
		return err
	}
	if err := keepRouters(h, m); err != nil {
		return err
	}
	return h.Sysctl.Ensure(all6, "1")
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
		if errors.Is(err, unix.ENODEV) {
			continue
		}
		if err != nil {
			return fmt.Errorf("find an interface with a router: %w", err)
		}
		v, err := h.Sysctl.Get(acceptRA(l.Name))
		if errors.Is(err, fs.ErrNotExist) || err == nil && v != "1" {
			continue // somebody has decided already
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
	var names []string
	if s.Forwards(true) {
		names = append(names, all4, of4(s.GatewayName()))
	}
	if s.Forwards(false) {
		names = append(names, all6)
	}
	for _, name := range names {
		v, gerr := h.Sysctl.Get(name)
		switch {
		case v == "0":
			found = append(found, model.Fault{Thing: "sysctl " + name, State: "0"})
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
	return slices.DeleteFunc(m.Raised(), func(name string) bool {
		v, err := h.Sysctl.Get(acceptRA(name)) // the interface may have gone
		return err != nil || v != "1"
	})
}

// Restore mends what Faults lists.
func Restore(h *host.Host, s *model.Shared, m Memory) error {
	for _, name := range lowered(h, s, m) {
		if err := h.Sysctl.Ensure(acceptRA(name), "2"); err != nil {
			return err
		}
	}
	return Put(h, s, m)
}

// Undo lowers what Put has raised, if the host is no router any more: then accept_ra 1
// means the same as 2. It returns a line for each sysctl that it set back.
func Undo(h *host.Host, m Memory) (done []string, err error) {
	raised := m.Raised()
	if v, err := h.Sysctl.Get(all6); len(raised) == 0 || err != nil || v != "0" {
		return nil, nil
	}
	for _, name := range raised {
		if v, err := h.Sysctl.Get(acceptRA(name)); err != nil || v != "2" {
			continue // somebody else has changed it, or the interface has gone
		}
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
	index, err := h.DefaultRouteLink(false)
	if err != nil || index == 0 {
		return err
	}
	l, err := h.LinkByIndex(index)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the default route's device: %w", err)
	}
	for _, name := range []string{all4, of4(l.Name)} {
		v, err := h.Sysctl.Get(name)
		if errors.Is(err, fs.ErrNotExist) || name == all4 && v == "0" {
			return nil // the interface has gone, or it will be set with all others
		}
		if err != nil {
			return err
		}
		if v == "0" {
			return model.Errorf(model.ErrConflict, "sysctl %s is 0, so the host does not forward answers that containers of network %s get there; set it to 1",
				name, s.Name)
		}
	}
	return nil
}

// Ready reports why Put would fail for a gateway address of an interface, which may
// have to be made yet.
func Ready(h *host.Host, iface string, is4, exists bool) error {
	if !exists {
		iface = "default"
	}
	if is4 {
		return errors.Join(h.Sysctl.CanEnsure(all4, "1"), h.Sysctl.CanEnsure(of4(iface), "1"))
	}
	return h.Sysctl.CanEnsure(all6, "1")
}
