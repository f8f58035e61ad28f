package ipam

import (
	"net/netip"

	"flatnet/bridge/model"
)

// avoidLocal calls choose until it returns none of the host's own addresses, and
// passes it those that it returned before, and those of want. An error ends it.
//
// So the host is asked about a few addresses and not about each candidate, and
// while choose has locked nothing.
func avoidLocal(want []netip.Addr, locals model.Locals, choose func(local []model.Local) ([]netip.Addr, error)) error {
	var local []model.Local
	asked := map[netip.Addr]bool{}
	addrs := want
	for first := true; ; first = false {
		known := len(local)
		for _, a := range addrs {
			if asked[a] {
				continue
			}
			asked[a] = true
			l, err := locals(a)
			if err != nil {
				return err
			}
			if l.Prefix.IsValid() {
				local = append(local, l)
			}
		}
		if !first && len(local) == known {
			return nil
		}
		var err error
		if addrs, err = choose(local); err != nil {
			return err
		}
	}
}
