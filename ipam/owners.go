package ipam

import (
	"net/netip"
	"slices"

	"flatnet/bridge/model"
	"flatnet/internal/sysctl"
)

// stale returns what says of a lease in f that its owner is gone: no link has
// its mark, its key or one of its addresses, and no ADD is about to make one.
func (l *leases) stale(f folder, owners []model.Owner) func(lease) bool {
	marks, keys, addrs := map[model.HardwareAddr]bool{}, map[model.Key]bool{}, map[netip.Addr]bool{}
	for _, o := range owners {
		marks[o.Mark], keys[o.Key] = true, true
		// The key alone would not do: a tool that dropped the details may have
		// made the lease that of another interface.
		if o.Key.Network == l.network {
			for _, a := range o.Addresses {
				addrs[a] = true
			}
		}
	}
	return func(le lease) bool {
		return !marks[le.key.Mark()] && !keys[le.key] &&
			!slices.ContainsFunc(le.addrs, func(a netip.Addr) bool { return addrs[a] }) && !f.flying(le.key)
	}
}

// bootID tells this boot from others (random(4)); empty if the kernel doesn't.
func bootID() string {
	id, err := sysctl.Proc.Get("kernel/random/boot_id")
	if err != nil || model.ValidName(id) != nil {
		return ""
	}
	return id
}
