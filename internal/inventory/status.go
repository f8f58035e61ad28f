package inventory

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"flatnet/bridge/model"
	"flatnet/bridge/remains"
	"flatnet/internal/engine"
	"flatnet/internal/report"
	"flatnet/ipam"
)

// Status compares networks that have attachments, one or all, with what their records say that
// they need on the host.
func (i Inventory) Status(network string) (all []*report.Network, err error) {
	v, err := i.look(network)
	if v == nil {
		return nil, err
	}
	surveys, serr := i.Engine.Host.Survey(true)
	for _, s := range surveys {
		if network == "" || s.Name == network {
			all = append(all, i.describe(v, s))
		}
	}
	for _, a := range v.unlinked(network, seenIn(surveys)) {
		if a.Repair != "" {
			all = v.reproach(all, a)
		}
	}
	lost, lerr := v.Lost()
	for _, o := range lost {
		accuse(all, o)
	}
	return all, errors.Join(err, serr, lerr)
}

// accuse adds to the row of an attachment's network that it has no record.
func accuse(all []*report.Network, o model.Owner) {
	for _, n := range all {
		if n.Name != o.Key.Network {
			continue
		}
		if n.State == "ok" {
			n.State = report.NoRecord
		}
		n.Status = strings.TrimPrefix(n.Status+"\n"+remains.Lost(o), "\n")
	}
}

// reproach adds a link that somebody has changed to the row of its network, which may be a new
// one.
func (v *view) reproach(all []*report.Network, a *report.Attachment) []*report.Network {
	i := slices.IndexFunc(all, func(n *report.Network) bool { return n.Name == a.Key.Network })
	if i < 0 {
		s := &model.Survey{Shared: model.Shared{Network: model.Network{Name: a.Key.Network}}}
		if shared := v.Networks[a.Key.Network]; shared != nil {
			s.Shared, s.Recorded = *shared, true
		}
		i, all = len(all), append(all, &report.Network{Survey: s, Pools: v.pools(s), Rules: -1})
	}
	text := fmt.Sprintf("%s: %s of host interface %q (%s)", a.Key, a.State, a.HostEnd, a.Repair)
	all[i].State, all[i].Status = "incomplete", strings.TrimPrefix(all[i].Status+"\n"+text, "\n")
	return all
}

// describe returns the row of one network.
func (i Inventory) describe(v *view, s *model.Survey) *report.Network {
	n := &report.Network{Survey: s, Pools: v.pools(s), State: "ok"}
	switch {
	case s.Faults != nil:
		n.State, n.Status = "incomplete", s.Faults.Error()
		n.Rules = missingRules(s.Faults)
		return n
	case !s.Recorded:
		n.State, n.Rules = report.NoRecord, -1
		n.Status = "no record of the network: it is not known what it needs until its next ADD"
		return n
	}
	store, err := i.storeOf(&s.Shared)
	if err == nil {
		err = i.Engine.Host.Status(&s.Network, store)
	}
	switch {
	case errors.Is(err, model.ErrLimited):
		n.State = "limited"
	case err != nil:
		n.State = "unavailable"
	}
	if err != nil {
		n.Status, n.Err = err.Error(), err
	}
	return n
}

// missingRules counts the faults that are in tables of nf_tables.
func missingRules(err error) (n int) {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			n += missingRules(e)
		}
		return n
	}
	var f model.Fault
	if errors.As(err, &f) && f.Table != "" {
		n++
	}
	return n
}

// pools counts the addresses of a network's subnets: of each, those that are leased or that
// an attachment has.
func (v *view) pools(s *model.Survey) (all []report.Pool) {
	used := map[netip.Addr]bool{}
	for _, h := range v.held[s.Name] {
		for _, a := range h.Addresses {
			used[a] = true
		}
	}
	for _, a := range s.Attachments {
		for _, ip := range a.IPs() {
			used[ip] = true
		}
	}
	subnets := s.Subnets
	if len(subnets) == 0 {
		subnets = s.Served
	}
	for _, sub := range subnets {
		pool := report.Pool{Prefix: sub.Masked()}
		for a := range used {
			if sub.Contains(a) {
				pool.Used++
			}
		}
		free := capacity(sub)
		pool.Free = free - min(free, pool.Used)
		if free == math.MaxUint64 {
			pool.Free = free
		}
		all = append(all, pool)
	}
	return all
}

// capacity returns how many addresses of a subnet containers may have: see [ipam.NewRange]. If
// they are more than 62 bits can count, it returns math.MaxUint64.
func capacity(sub model.Subnet) uint64 {
	bits := sub.Addr().BitLen() - sub.Bits()
	if bits > 62 {
		return math.MaxUint64
	}
	n := uint64(1) << bits
	if bits > 1 {
		n-- // the network's own, or the subnet-router anycast address
		if sub.Addr().Is4() {
			n-- // the broadcast address
		}
	}
	if sub.Gateway.IsValid() && sub.Contains(sub.Gateway) {
		n--
	}
	return n
}

// storeOf opens the leases of a network so that STATUS can ask for a free address: of each
// family, any will do. Limits of a range are not recorded, and neither are ranges that another
// plugin leases from.
func (i Inventory) storeOf(s *model.Shared) (alloc model.Allocator, err error) {
	var v4, v6 []model.Range
	for _, sub := range s.Subnets {
		r := model.Range{Subnet: sub.Masked(), Gateway: sub.Gateway}
		if sub.Addr().Is4() {
			v4 = append(v4, r)
		} else {
			v6 = append(v6, r)
		}
	}
	if len(s.Subnets) == 0 || i.Aloof {
		return engine.Unleased{}, nil
	}
	pools := slices.DeleteFunc([][]model.Range{v4, v6}, func(set []model.Range) bool { return len(set) == 0 })
	cfg := ipam.Config{Network: s.Name, Dir: cmp.Or(s.DataDir, ipam.DefaultDir), Warn: i.Engine.Warn}
	cfg.Sets, err = ipam.NewSets(pools)
	return ipam.New(cfg, i.Engine.Host.Owners), err
}
