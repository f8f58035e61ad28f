package bridge

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"flatnet/internal/nft"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// Reload restores what attachments that the host's links tell of have lost:
// first what a restart of the host's network takes, then in one transaction the
// rules, such as after nft flush ruleset. It removes published ports, and
// records, of containers that went without a DEL; what else is there it leaves
// alone. It returns a line for each thing that it mended. Attachments of which
// there is no record are named in the error.
func (h *Host) Reload() (mended []string, err error) {
	unlock, err := h.records.lock(unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer unlock()
	firewalls, wishes, rerr := h.records.all()
	c, err := h.route()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	m := &mender{Host: h, c: c, wishes: wishes}
	err = errors.Join(rerr, m.links(), m.rules(firewalls))
	return m.done, errors.Join(err, m.loopback())
}

// rules mends the rules of all networks, and sweeps.
func (m *mender) rules(firewalls []Firewall) error {
	h, c, wishes := m.Host, m.c, m.wishes
	owners, err := h.Owners()
	if err != nil {
		return err
	}
	alive := map[Key]bool{}
	for _, o := range owners {
		alive[o.Key] = true
	}
	firewalls, idle := inUse(withBridges(firewalls), owners)
	addrs, err := c.Addresses(0)
	if err != nil {
		return fmt.Errorf("list the host's addresses: %w", err)
	}
	err = h.withNFT(true, func(n *nft.Conn) error {
		dead, err := h.sweep(c, n, wishes, alive)
		wishes = slices.DeleteFunc(wishes, func(w wish) bool { return dead[w.Key] })
		err = errors.Join(err, h.follow(n, wishes, owners))
		networks := byNetwork(firewalls)
		lost := func() ([]chain, error) { return h.lost(n, networks) }
		tables, rerr := restore(n, restoring{lost, wishes, addrs, true})
		for _, t := range tables {
			m.mended(fault{t, "not as it should be"})
		}
		err = errors.Join(err, h.dropIdle(n, idle), rerr)
		for _, of := range networks {
			h.unblock(n, of)
		}
		return err
	})
	if errors.Is(err, ErrUnsupported) && len(firewalls)+len(wishes) == 0 {
		return nil // and so there is nothing to restore
	}
	return errors.Join(err, unrecorded(firewalls, owners))
}

// inUse tells the firewalls of subnets in which an attachment has an address, and
// of bridges whose network has attachments, from the others, which are not
// restored.
func inUse(all []Firewall, owners []Owner) (used, idle []Firewall) {
	for _, f := range all {
		if slices.ContainsFunc(owners, func(o Owner) bool {
			return o.Key.Network == f.Network && (!f.Subnet.IsValid() || slices.ContainsFunc(o.Addresses, f.Subnet.Contains))
		}) {
			used = append(used, f)
		} else {
			idle = append(idle, f)
		}
	}
	return used, idle
}

// withBridges adds the firewalls of bridges to those of subnets where an older
// binary has recorded only these.
func withBridges(all []Firewall) []Firewall {
	for _, f := range all {
		if !slices.ContainsFunc(all, func(o Firewall) bool { return o.Network == f.Network && !o.Subnet.IsValid() }) {
			f.Subnet, f.Gateway = netip.Prefix{}, netip.Addr{}
			all = append(all, f)
		}
	}
	return all
}

// byNetwork puts the firewalls of each network together, in the order of an ADD:
// the bridge's last.
func byNetwork(all []Firewall) (networks [][]Firewall) {
	for _, f := range all {
		i := slices.IndexFunc(networks, func(of []Firewall) bool { return of[0].Network == f.Network })
		if i < 0 {
			networks = append(networks, nil)
			i = len(networks) - 1
		}
		networks[i] = append(networks[i], f)
	}
	for _, of := range networks {
		slices.SortStableFunc(of, func(a, b Firewall) int { return b.Subnet.Bits() - a.Subnet.Bits() })
	}
	return networks
}

// lost returns the chains that are not as their firewalls' records have them.
func (h *Host) lost(n *nft.Conn, networks [][]Firewall) (chains []chain, err error) {
	for _, firewalls := range networks {
		have, err := rulesOf(n, firewalls[0].Network)
		if err != nil {
			return nil, err
		}
		chains = append(chains, h.lacking(firewalls, have)...)
	}
	return chains, nil
}

// unrecorded names the attachments with an address in no firewall's subnet.
func unrecorded(firewalls []Firewall, owners []Owner) (err error) {
	for _, o := range owners {
		for _, a := range o.Addresses {
			if o.Key != (Key{}) && !slices.ContainsFunc(firewalls, func(f Firewall) bool { return f.Network == o.Key.Network && f.Subnet.Contains(a) }) {
				err = errors.Join(err, fmt.Errorf("network %s: no record of %s of %s, whose rules and published ports are not restored", o.Key.Network, a, o.Key))
			}
		}
	}
	return err
}

// dropIdle removes records of firewalls that nobody uses, unless they have rules:
// then a DEL will come that needs them.
func (h *Host) dropIdle(n *nft.Conn, idle []Firewall) (err error) {
	for _, f := range idle {
		have, rerr := rulesOf(n, f.Network)
		if rerr == nil && !f.hasRules(have) {
			rerr = h.records.dropOld(f)
		}
		err = errors.Join(err, rerr)
	}
	return err
}

// sweep removes what attachments have that went without a DEL, and returns their
// keys.
func (h *Host) sweep(c *rtnl.Conn, n *nft.Conn, wishes []wish, alive map[Key]bool) (dead map[Key]bool, err error) {
	all, dead := map[Key]*wish{}, map[Key]bool{}
	for _, family := range []nft.Family{nft.IPv4, nft.IPv6} {
		owners, oerr := portsOf(family).owners(n)
		err = errors.Join(err, oerr)
		for _, key := range owners {
			all[key] = nil
		}
	}
	for i, w := range wishes {
		all[w.Key] = &wishes[i]
	}
	var freed []Publication
	for key, w := range all {
		if alive[key] {
			continue
		}
		gone, gerr := h.gone(c, key.String())
		err = errors.Join(err, gerr)
		if !gone {
			continue
		}
		dead[key] = true
		if w == nil {
			w = &wish{}
		}
		ports, rerr := h.removeElements(n, key, *w, w.Key == key)
		freed, err = append(freed, ports...), errors.Join(err, rerr)
	}
	h.forget(flowsTo(freed))
	return dead, err
}

// restoring is what is to be restored.
type restoring struct {
	lost   func() ([]chain, error) // chains of networks that are not as they should be
	wishes []wish
	addrs  []rtnl.Addr // the host's
	all    bool        // what needs more of the kernel, too
}

// restore adds chains in place of what is there of them, and what is missing of
// the wishes. If rules change meanwhile, it looks again. It returns the tables
// that lacked something.
func restore(c *nft.Conn, r restoring) (tables []string, err error) {
	fill := func(b *nft.Batch) (err error) {
		tables, err = r.fill(c, b)
		return err
	}
	err = c.Transact(fill)
	if errors.Is(err, nft.ErrUnsupported) {
		r.all = false
		err = c.Transact(fill)
	}
	if err != nil {
		return nil, err
	}
	return tables, nil
}

func (r restoring) fill(c *nft.Conn, b *nft.Batch) (tables []string, err error) {
	lost, err := r.lost()
	if err != nil {
		return nil, err
	}
	for _, ch := range lost {
		if !r.all && ch.isOptional() {
			continue
		}
		if name := ch.Table.String(); !slices.Contains(tables, name) {
			tables = append(tables, name)
		}
		ch.add(b)
	}
	for _, family := range []nft.Family{nft.IPv4, nft.IPv6} {
		t, before := portsOf(family), b.Len()
		if err := t.restore(c, b, r); err != nil {
			return nil, err
		}
		if b.Len() > before {
			tables = append(tables, t.Table.String())
		}
	}
	before := b.Len()
	if err := restoreGuards(c, b, r.wishes); err != nil {
		return nil, err
	}
	if b.Len() > before {
		tables = append(tables, "spoof protection")
	}
	return tables, nil
}

// restoreGuards adds the tables of guards, if any port is to be guarded, and the
// elements that they lack.
func restoreGuards(c *nft.Conn, b *nft.Batch, wishes []wish) error {
	var wanted []entry
	tables := map[string]bool{}
	for _, w := range wishes {
		if w.Guard == nil {
			continue
		}
		if network := w.Key.Network; !tables[network] {
			tables[network] = true
			if err := guardsOf(network).ensure(c, b); err != nil {
				return err
			}
		}
		wanted = append(wanted, w.Guard.entries(w.Key)...)
	}
	return lacking(c, b, wanted)
}

// restore adds the table, if any port is to be published, and the elements that
// it lacks.
func (t portsTable) restore(c *nft.Conn, b *nft.Batch, r restoring) error {
	var wanted []entry
	for _, w := range r.wishes {
		wanted = append(wanted, entries(w.Key, slices.DeleteFunc(slices.Clone(w.Ports), func(p Publication) bool { return !t.takes(p) }))...)
	}
	if len(wanted) == 0 {
		return nil
	}
	have, err := c.Rules(t.Table, "prerouting")
	if err != nil {
		return err
	}
	for _, ch := range t.chains(usesFib(have)) {
		ok, err := ch.stands(c)
		if err != nil {
			return err
		}
		if !ok && len(have) > 0 { // else ensure adds all
			ch.add(b)
		}
	}
	if err := t.ensure(c, b, r.addrs, r.all); err != nil {
		return err
	}
	return lacking(c, b, wanted)
}
