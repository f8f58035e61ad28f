package inventory

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"flatnet/bridge/model"
	"flatnet/bridge/remains"
	"flatnet/internal/engine"
	"flatnet/internal/report"
	"flatnet/ipam"
)

// Garbage lists the leftovers of one network, or of all.
func (i Inventory) Garbage(network string) ([]*report.Leftover, error) {
	v, err := i.look(network)
	if v == nil {
		return nil, err
	}
	return v.garbage(network), errors.Join(err, v.unheardOf(network))
}

// unheardOf returns an error about a network of which the host has nothing: its name may be
// misspelt.
func (v *view) unheardOf(network string) error {
	if network == "" || slices.Contains(v.networks(), network) {
		return nil
	}
	return fmt.Errorf("network %q has nothing on this host: no link, record, rule, bridge or lease", network)
}

// garbage lists what belongs to attachments without a link, and then to networks without an
// attachment.
func (v *view) garbage(network string) (all []*report.Leftover) {
	inFlight, seen := map[model.Key]bool{}, map[report.Leftover]bool{}
	foreign := map[model.Key]bool{} // leases that may be of another network namespace's containers
	delegated := v.delegated()
	add := func(key model.Key, kind, what string) {
		l := report.Leftover{Key: key, Kind: kind, What: what, Name: v.names[key.ContainerID]}
		if foreign[key] {
			l.Kept = "its container may run in another network namespace: this one has no trace of it"
		}
		if delegated[key] && kind == report.Lease {
			l.Kept = "another IPAM plugin leased it, which takes it back with a DEL of the container, or a GC of its runtime"
		}
		if dir := v.Others[key]; dir != "" {
			l.Kept = "it is recorded in another network namespace as well: " + dir
		}
		wanted := network == "" || key.Network == network
		if wanted && !v.Linked(key) && !inFlight[key] && !seen[l] {
			seen[l] = true
			all = append(all, &l)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.held)) {
		for _, h := range v.held[name] {
			inFlight[h.Key] = !h.Stale
			foreign[h.Key] = h.ThisBoot && !v.known(h.Key)
			add(h.Key, report.Lease, model.JoinAddrs(h.Addresses))
			if name, has := v.Limits[h.Key.Mark()]; has {
				add(h.Key, report.Limit, name)
			}
		}
	}
	for key := range v.Recorded {
		add(key, report.Record, recordOf(key))
		if name, has := v.Limits[key.Mark()]; has {
			add(key, report.Limit, name)
		}
	}
	for _, key := range v.Ports {
		add(key, report.Ports, "")
	}
	for _, key := range v.Guarded {
		add(key, report.Guard, "")
	}
	slices.SortFunc(all, func(a, b *report.Leftover) int {
		return cmp.Or(compare(a.Key, b.Key), strings.Compare(a.Kind, b.Kind), strings.Compare(a.What, b.What))
	})
	all = append(all, v.unused(network, all)...)
	for _, r := range v.Routes {
		if network == "" {
			all = append(all, &report.Leftover{Kind: report.Route, What: r.Text, Kept: r.Kept})
		}
	}
	return all
}

// delegated returns the attachments whose leases are another IPAM plugin's: without that
// plugin's own, which stays, the next ADD of the container would fail.
func (v *view) delegated() map[model.Key]bool {
	all := map[model.Key]bool{}
	for _, held := range v.held {
		for _, h := range held {
			all[h.Key] = h.Delegated
		}
	}
	return all
}

// known reports whether this network namespace has more of an attachment than its lease, which
// does not show where its container is.
func (v *view) known(key model.Key) bool {
	return v.Gone[key] || v.Recorded[key] != nil || v.Limits[key.Mark()] != "" || slices.Contains(v.Ports, key) || slices.Contains(v.Guarded, key)
}

// unused lists what belongs to networks without attachments. A bridge alone is no leftover:
// with CNI, it stays for the network's next container.
func (v *view) unused(network string, of []*report.Leftover) (all []*report.Leftover) {
	for _, name := range v.networks() {
		living := slices.ContainsFunc(v.held[name], func(h ipam.Held) bool { return !h.Stale })
		kept := slices.ContainsFunc(of, func(l *report.Leftover) bool { return l.Key.Network == name && l.Kept != "" })
		if network != "" && name != network || living || kept || v.Used(name, v.keys(name)) {
			continue
		}
		before := len(all)
		for _, table := range v.Tables[name] {
			all = append(all, &report.Leftover{Key: model.Key{Network: name}, Kind: report.Rules, What: table})
		}
		if v.Networks[name] != nil {
			all = append(all, &report.Leftover{Key: model.Key{Network: name}, Kind: report.Shared, What: recordOf(model.Key{Network: name})})
		}
		lost := slices.ContainsFunc(of, func(l *report.Leftover) bool { return l.Key.Network == name })
		if bridge := v.Idle[name]; bridge != "" && (lost || len(all) > before) {
			all = append(all, &report.Leftover{Key: model.Key{Network: name}, Kind: report.BridgeOf, What: bridge})
		}
	}
	return all
}

// Collect removes what Garbage lists, and returns what it removed and what it kept. It looks at
// each attachment once more while no other call for it can begin, and keeps it if it has a link
// by then. The error names what can't be removed.
func (i Inventory) Collect(network string) (all []*report.Leftover, err error) {
	if err := remains.Lockable(i.Engine.Warn); err != nil {
		return nil, err
	}
	v, err := i.look(network)
	if v == nil {
		return nil, err
	}
	var before []*report.Leftover
	for _, l := range v.garbage(network) {
		if l.Kept == "" {
			before = append(before, l)
		} else {
			all = append(all, l)
		}
	}
	errs := []error{err, v.unheardOf(network)}
	for _, name := range slices.Sorted(maps.Keys(v.stores)) {
		of := func(l *report.Leftover) bool { return l.Key.Network != name }
		mine := slices.DeleteFunc(slices.Clone(before), of)
		var keys []model.Key
		for _, l := range mine {
			if l.Key.ContainerID != "" && !slices.Contains(keys[max(0, len(keys)-1):], l.Key) {
				keys = append(keys, l.Key)
			}
		}
		if len(mine) > 0 {
			errs = append(errs, i.clear(name, keys, collector{v.stores[name], i.Engine.Names, v.delegated()}))
		}
	}
	if slices.ContainsFunc(before, func(l *report.Leftover) bool { return l.Kind == report.Route }) {
		errs = append(errs, remains.CollectRoutes(i.Engine.Warn))
	}
	again, err := i.look(network)
	if err != nil {
		return nil, errors.Join(append(errs, fmt.Errorf("what is left can't be looked at: %w", err))...)
	}
	after := again.garbage(network)
	left := map[report.Leftover]bool{}
	for _, l := range after {
		left[*l] = true
	}
	for _, l := range before {
		if left[*l] {
			errs = append(errs, fmt.Errorf("%s of %s is left", l.Kind, cmp.Or(strings.Trim(l.Key.String(), "/"), l.What)))
		} else {
			all = append(all, l)
		}
	}
	again.Forget(again.unleased())
	return all, errors.Join(errs...)
}

// unleased lists attachments that were recorded here and have no lease any more.
func (v *view) unleased() (keys []model.Key) {
	for key := range v.Gone {
		if _, seen := v.held[key.Network]; seen && !v.leased[key] {
			keys = append(keys, key)
		}
	}
	return keys
}

func (i Inventory) clear(network string, keys []model.Key, alloc collector) error {
	err := i.Engine.Host.Clear(network, keys, alloc)
	if err != nil {
		return fmt.Errorf("network %s: %w", network, err)
	}
	return nil
}

// A collector gives back the leases of attachments that the host has found to have no link. The
// host has their turns then, so names are removed as well. Addresses are remembered: a
// container may come back after a reboot.
type collector struct {
	*ipam.Store
	names  engine.Names
	theirs map[model.Key]bool // whose leases are another plugin's, and stay
}

func (c collector) Release(keys []model.Key, _ bool) (left []model.Key, err error) {
	for _, key := range keys {
		err = errors.Join(err, c.names.Remove(key))
	}
	own := slices.DeleteFunc(slices.Clone(keys), func(key model.Key) bool { return c.theirs[key] })
	left, rerr := c.Store.Release(own, true)
	return left, errors.Join(err, rerr)
}
