package bridge

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"flatnet/internal/conntrack"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// forget deletes what the kernel remembers of UDP packets to published ports,
// as far as it is stale: who keeps sending from the same port would go on being
// sent to where the first packet went. Where that can't be done it is said, and
// the port works for everybody else.
func (h *Host) forget(ports []Publication, stale func(Publication, conntrack.Flow) bool) {
	ports = slices.DeleteFunc(slices.Clone(ports), func(p Publication) bool { return p.Protocol != unix.IPPROTO_UDP })
	if len(ports) == 0 {
		return
	}
	if err := forget(ports, stale); err != nil && h.warn != nil {
		h.warn(fmt.Sprintf("clients that keep sending to a published UDP port may be served wrongly: %v", err))
	}
}

func forget(ports []Publication, stale func(Publication, conntrack.Flow) bool) error {
	c, err := conntrack.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	for _, p := range ports {
		flows, ferr := c.Flows(p.Host.Addr().Is6(), p.Protocol, p.Host.Port())
		for _, f := range flows {
			if stale(p, f) {
				ferr = errors.Join(ferr, c.Delete(f))
			}
		}
		err = errors.Join(err, ferr)
	}
	return err
}

// covers says whether the publication is of one of the host's addresses.
func (p Publication) covers(dst netip.Addr, addrs []rtnl.Addr) bool {
	host := p.Host.Addr()
	if !host.IsUnspecified() {
		return dst == host
	}
	return dst.IsLoopback() || slices.ContainsFunc(addrs, func(a rtnl.Addr) bool { return a.Prefix.Addr() == dst })
}
