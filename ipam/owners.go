package ipam

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"flatnet/bridge"
	"flatnet/internal/sysctl"
)

// inFlight is for how many seconds a lease without a link may be one of an ADD
// that has not made it yet. An ADD takes milliseconds, but may have to wait.
const inFlight = 120

// stale returns what says of a lease that its owner is gone: no link has its
// mark, its key or one of its addresses, and no ADD can be about to make one.
func (l *leases) stale(owners []bridge.Owner) func(lease) bool {
	marks, keys, addrs := map[bridge.HardwareAddr]bool{}, map[bridge.Key]bool{}, map[netip.Addr]bool{}
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
		return le.time == 0 && !marks[le.key.Mark()] && !keys[le.key] &&
			!slices.ContainsFunc(le.addrs, func(a netip.Addr) bool { return addrs[a] })
	}
}

// bootID tells this boot from others (random(4)); empty if the kernel doesn't.
func bootID() string {
	id, err := sysctl.Proc.Get("kernel/random/boot_id")
	if err != nil || bridge.ValidName(id) != nil {
		return ""
	}
	return id
}

// bootTime is the time since boot in seconds, at least 1.
func bootTime() (int64, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0, fmt.Errorf("clock_gettime: %w", err)
	}
	return max(1, int64(t.Sec)), nil
}
