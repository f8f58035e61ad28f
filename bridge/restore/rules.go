// Package restore puts back the rules of all networks that have attachments, for a reload.
package restore

import (
	"errors"
	"fmt"
	"slices"

	"flatnet/bridge/antispoof"
	"flatnet/bridge/firewall"
	"flatnet/bridge/foreign"
	"flatnet/bridge/host"
	"flatnet/bridge/mirrored"
	"flatnet/bridge/model"
	"flatnet/bridge/ports"
	"flatnet/bridge/records"
)

// Rules restores the rules of networks in one transaction, and then route_localnet, which is
// harmless only when the rules are there. If that transaction is refused, each network gets its
// own rules, and those that have them get their published ports: what the kernel can't do for
// one network takes nothing from the others. An error without any of it, such as that rules are
// left out which networks can do without, is in lacks.
func Rules(h *host.Host, dir records.Dir, networks []*model.Shared) (lacks, err error) {
	if len(networks) == 0 {
		return nil, nil
	}
	t := transaction{Host: h, dir: dir, ports: true}
	if err = t.restore(networks); err != nil && len(networks) > 1 {
		networks, err = t.separately(networks)
	} else if err != nil {
		networks = nil
	}
	errs := []error{err}
	for _, s := range networks {
		foreign.Accept(h, s)
	}
	for _, a := range t.attachments {
		errs = append(errs, ports.OpenLoopback(h, a))
	}
	return t.lacks, errors.Join(append(errs, mirrored.Put(h, t.attachments...))...)
}

// A transaction restores rules of several networks at once.
type transaction struct {
	*host.Host
	dir   records.Dir
	ports bool // published ones are restored as well

	attachments []*model.Attachment // with all their rules and ports
	lacks       error               // why rules were left out
}

// separately restores the rules of each network alone, and then the ports of those that have
// them, which it returns: the tables of ports are shared, and the order of attachments decides
// which one gets a port.
func (t *transaction) separately(networks []*model.Shared) (restored []*model.Shared, err error) {
	t.ports = false
	for _, s := range networks {
		if serr := t.restore([]*model.Shared{s}); serr != nil {
			err = errors.Join(err, fmt.Errorf("network %s: %w", s.Name, serr))
		} else {
			restored = append(restored, s)
		}
	}
	t.ports, t.attachments = true, nil
	if len(restored) > 0 {
		err = errors.Join(err, t.restore(restored))
	}
	return restored, err
}

// restore restores the rules of networks. Records are read anew in each attempt, for a DEL
// drops its own before it removes the rules.
func (t *transaction) restore(networks []*model.Shared) error {
	var all []*model.Attachment
	fill := func(tx *host.Tx) (err error) {
		for _, s := range networks {
			if err := firewall.Put(tx, s, firewall.HasIPv6(t.Host)); err != nil {
				return err
			}
		}
		all, err = t.fill(tx, networks)
		return err
	}
	without, err := t.Transact(fill)
	if err != nil {
		return err
	}
	if without.NoOptional {
		t.lacks = errors.Join(t.lacks, without.Lacks)
	}
	t.attachments = all
	return nil
}

// fill adds to tx what the networks' attachments lack, and returns these.
func (t *transaction) fill(tx *host.Tx, networks []*model.Shared) (all []*model.Attachment, err error) {
	links, err := t.Links()
	if err != nil {
		return nil, err
	}
	var renamed []*model.Attachment
	for _, s := range networks {
		ends, _ := t.dir.Ends(s, links) // what can't be read has been reported
		for _, e := range ends {
			all = append(all, e.Attachment)
			if e.Was != "" {
				old := *e.Attachment
				old.HostEnd = e.Was
				renamed = append(renamed, &old)
				t.dir.Save(e.Attachment)
			}
		}
	}
	slices.SortFunc(all, model.ByRank)
	if t.ports {
		addrs, err := t.Addrs()
		if err != nil {
			return nil, err
		}
		if err := ports.Restore(tx, all, addrs); err != nil {
			return nil, err
		}
	}
	return all, antispoof.Put(tx, all, renamed)
}
