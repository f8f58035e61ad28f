// Package inventory compares what a host has with what is leased, to list attachments and what
// has lost its owner.
package inventory

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"flatnet/bridge/model"
	"flatnet/bridge/remains"
	"flatnet/bridge/signs"
	"flatnet/internal/engine"
	"flatnet/internal/report"
	"flatnet/internal/rootless"
	"flatnet/ipam"
)

// An Inventory examines the host of an engine.
type Inventory struct {
	Engine engine.Engine
	Names  func() map[string]string // of containers by their IDs
	// If Aloof is set, Status does not try to write a lease, which would change the directory.
	Aloof bool
}

// A view is what one command sees.
type view struct {
	*remains.Host
	held   map[string][]ipam.Held // the leases of each network where they can be read
	leased map[model.Key]bool
	stores map[string]*ipam.Store
	names  map[string]string
}

// look reads everything about one network, or about all. The error reports what can't be read;
// the view has the rest, or is nil.
func (i Inventory) look(network string) (*view, error) {
	found, err := remains.Look(i.Engine.Warn)
	if found == nil {
		return nil, err
	}
	v := &view{found, map[string][]ipam.Held{}, map[model.Key]bool{}, map[string]*ipam.Store{}, i.Names()}
	before := sync.OnceValues(i.Engine.Host.Owners) // once for all networks
	for _, name := range v.networks() {
		if network != "" && name != network {
			continue
		}
		store := i.store(v.Networks[name], name, i.Engine.Host.Owners)
		held, serr := i.store(v.Networks[name], name, before).Held()
		if serr != nil || slices.ContainsFunc(held, func(h ipam.Held) bool { return h.Stale }) { // or its link has come since
			held, serr = store.Held()
		}
		if serr == nil {
			v.held[name] = held
		} else {
			err = errors.Join(err, fmt.Errorf("leases of network %s: %w", name, serr))
		}
		v.stores[name] = store
		for _, h := range held {
			v.leased[h.Key] = true
		}
	}
	return v, err
}

// store opens the leases of a network by its record or, without one, where they are by
// default.
func (i Inventory) store(recorded *model.Shared, network string, owners func() ([]model.Owner, error)) *ipam.Store {
	cfg := ipam.Config{Network: network, Dir: ipam.DefaultDir, Warn: i.Engine.Warn}
	if recorded != nil {
		cfg.Dir = cmp.Or(recorded.DataDir, cfg.Dir)
	}
	return ipam.New(cfg, owners)
}

// networks lists the networks that have links, records, rules, bridges or folders of leases, in
// the order of their names.
func (v *view) networks() []string {
	all := map[string]bool{"flatnet": true}
	for _, o := range v.Owners {
		all[o.Key.Network] = true
	}
	for key := range v.Recorded {
		all[key.Network] = true
	}
	for _, key := range slices.Concat(v.Ports, v.Guarded) {
		all[key.Network] = true
	}
	for name := range v.Networks {
		all[name] = true
	}
	for name := range v.Tables {
		all[name] = true
	}
	files, _ := filepath.Glob(filepath.Join(cmp.Or(rootless.Leases(nil), ipam.DefaultDir), "*", ipam.FileName))
	for _, file := range files {
		all[filepath.Base(filepath.Dir(file))] = true
	}
	maps.DeleteFunc(all, func(name string, _ bool) bool { return ipam.ValidNetwork(name) != nil })
	return slices.Sorted(maps.Keys(all))
}

// keys lists the attachments of a network that have leases or records.
func (v *view) keys(network string) (keys []model.Key) {
	for _, h := range v.held[network] {
		keys = append(keys, h.Key)
	}
	for key := range v.Recorded {
		if key.Network == network {
			keys = append(keys, key)
		}
	}
	return keys
}

// List lists the attachments of a network, or of all: those with a link, and then those
// that have a lease or record without one.
func (i Inventory) List(network string) (all []*report.Attachment, err error) {
	v, err := i.look(network)
	if v == nil {
		return nil, err
	}
	surveys, serr := i.Engine.Host.Survey(false)
	err = errors.Join(err, serr)
	for _, s := range surveys {
		for _, a := range s.Attachments {
			if network == "" || s.Name == network {
				all = append(all, v.attached(s, a))
			}
		}
	}
	all = append(all, v.unlinked(network, seenIn(surveys))...)
	for _, a := range all {
		a.Name, a.Since = v.names[a.Key.ContainerID], v.Since[a.Key]
	}
	slices.SortFunc(all, func(a, b *report.Attachment) int { return strings.Compare(place(a), place(b)) })
	return all, err
}

// seenIn returns the attachments whose links name them.
func seenIn(surveys []*model.Survey) map[model.Key]bool {
	seen := map[model.Key]bool{}
	for _, s := range surveys {
		for _, a := range s.Attachments {
			seen[a.Key] = true
		}
	}
	return seen
}

// place returns the key by which a list is sorted: by network, and in each those without a link
// last.
func place(a *report.Attachment) string {
	return fmt.Sprintf("%s %t %s", a.Key.Network, a.HostEnd == "", a.Key)
}

// attached describes an attachment that has a link.
func (v *view) attached(s *model.Survey, a *model.Attachment) *report.Attachment {
	row := &report.Attachment{Key: a.Key, Addresses: a.IPs(), Ports: a.Ports, HostEnd: a.HostEnd, State: report.Attached}
	_, known := v.held[s.Name]
	switch {
	case !s.Recorded || a.MAC == (model.HardwareAddr{}):
		row.State = report.NoRecord
	case known && !v.leased[a.Key] && len(row.Addresses) > 0:
		row.State = report.NoLease
	}
	return row
}

// judge fills in the state of an attachment whose link, if it has one, does not name it.
func (v *view) judge(row *report.Attachment) {
	l, has := v.Find(row.Key)
	change := signs.Lacks(row.Key, row.Addresses, l)
	switch {
	case has == 0:
		return
	case v.Busy(row.Key) || change == (signs.Change{}): // or it has come meanwhile
		row.State = report.Arriving
	case signs.Unfinished(l):
		row.State, row.HostEnd = report.Unfinished, l.Name
	default:
		row.State, row.HostEnd, row.Repair = report.Changed+change.String(), l.Name, change.Command(l.Name)
		if v.Recorded[row.Key] != nil && signs.Provable(has) {
			row.Repair = "flatnet reload"
		}
	}
}

// unlinked describes leases and records whose attachments have no link that names them.
func (v *view) unlinked(network string, seen map[model.Key]bool) (all []*report.Attachment) {
	add := func(row *report.Attachment) {
		if seen[row.Key] || network != "" && row.Key.Network != network {
			return
		}
		seen[row.Key] = true
		if a := v.Recorded[row.Key]; a != nil {
			row.Ports = a.Ports
		}
		v.judge(row)
		all = append(all, row)
	}
	kept := map[model.Key]bool{}
	for _, l := range v.garbage(network) {
		kept[l.Key] = kept[l.Key] || l.Kind == report.Lease && l.Kept != ""
	}
	for _, name := range slices.Sorted(maps.Keys(v.held)) {
		for _, h := range v.held[name] {
			state := report.Arriving
			switch {
			case h.Stale && kept[h.Key]:
				state = report.KeptLease
			case h.Stale:
				state = report.StaleLease
			}
			add(&report.Attachment{Key: h.Key, Addresses: h.Addresses, State: state})
		}
	}
	for key, a := range v.Recorded {
		add(&report.Attachment{Key: key, Addresses: a.IPs(), State: report.StaleRecord})
	}
	return all
}

func compare(a, b model.Key) int { return strings.Compare(a.String(), b.String()) }

// recordOf names the record of an attachment or, without one, of a network, for people.
func recordOf(key model.Key) string {
	if key.ContainerID == "" {
		return filepath.Join(key.Network, "bridge")
	}
	return filepath.Join(key.Network, key.ContainerID+":"+key.IfName)
}
