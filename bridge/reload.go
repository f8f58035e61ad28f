package bridge

import (
	"errors"
	"fmt"
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
	err = errors.Join(rerr, m.links(), h.reloadRules(c, firewalls, wishes))
	return m.done, errors.Join(err, m.loopback())
}

// reloadRules is Reload for the rules.
func (h *Host) reloadRules(c *rtnl.Conn, firewalls []Firewall, wishes []wish) error {
	owners, err := h.Owners()
	if err != nil {
		return err
	}
	alive := map[Key]bool{}
	for _, o := range owners {
		alive[o.Key] = true
	}
	firewalls, idle := inUse(firewalls, owners)
	addrs, err := c.Addresses(0)
	if err != nil {
		return fmt.Errorf("list the host's addresses: %w", err)
	}
	err = h.withNFT(true, func(n *nft.Conn) error {
		dead, err := h.sweep(c, n, wishes, alive)
		wishes = slices.DeleteFunc(wishes, func(w wish) bool { return slices.Contains(dead, w.Key) })
		networks := byNetwork(firewalls)
		lost, lerr := h.lost(n, networks)
		err = errors.Join(err, lerr, h.dropIdle(n, idle), restore(n, lost, wishes, addrs))
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
func (h *Host) sweep(c *rtnl.Conn, n *nft.Conn, wishes []wish, alive map[Key]bool) (dead []Key, err error) {
	all := map[Key]wish{}
	for _, family := range []nft.Family{nft.IPv4, nft.IPv6} {
		owners, oerr := portsOf(family).owners(n)
		err = errors.Join(err, oerr)
		for _, key := range owners {
			all[key] = wish{Key: key}
		}
	}
	for _, w := range wishes {
		all[w.Key] = w
	}
	for key := range all {
		if alive[key] {
			continue
		}
		gone, gerr := h.gone(c, key.String())
		err = errors.Join(err, gerr)
		if gone {
			dead = append(dead, key)
		}
	}
	for _, key := range dead {
		err = errors.Join(err, h.removeElements(n, key, all[key]))
	}
	return dead, err
}

// restore adds chains in place of what is there of them, and what is missing of
// the wishes.
func restore(c *nft.Conn, chains []chain, wishes []wish, addrs []rtnl.Addr) error {
	err := restoreWith(c, chains, wishes, addrs, true)
	if errors.Is(err, nft.ErrUnsupported) {
		err = restoreWith(c, slices.DeleteFunc(chains, chain.isOptional), wishes, addrs, false)
	}
	return err
}

func restoreWith(c *nft.Conn, chains []chain, wishes []wish, addrs []rtnl.Addr, fib bool) error {
	var b nft.Batch
	for _, ch := range chains {
		ch.add(&b)
	}
	for _, family := range []nft.Family{nft.IPv4, nft.IPv6} {
		if err := portsOf(family).restore(c, &b, wishes, addrs, fib); err != nil {
			return err
		}
	}
	for _, w := range wishes {
		if w.Guard == nil {
			continue
		}
		if err := errors.Join(guardsOf(w.Key.Network).ensure(c, &b), lacking(c, &b, w.Guard.entries(w.Key))); err != nil {
			return err
		}
	}
	return c.Commit(&b)
}

// restore adds the table, if any port is to be published, and the elements that
// it lacks.
func (t portsTable) restore(c *nft.Conn, b *nft.Batch, wishes []wish, addrs []rtnl.Addr, fib bool) error {
	var wanted []entry
	for _, w := range wishes {
		wanted = append(wanted, entries(w.Key, w.Ports)...)
	}
	wanted = slices.DeleteFunc(wanted, func(e entry) bool { return e.set.Table != t.Table })
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
	if err := t.ensure(c, b, addrs, fib); err != nil {
		return err
	}
	return lacking(c, b, wanted)
}

// lacking puts into the batch those entries that are not there; of several for
// one place, the first.
func lacking(c *nft.Conn, b *nft.Batch, wanted []entry) error {
	var missing []entry
	seen := map[string]bool{}
	for _, e := range wanted {
		_, found, err := c.Element(e.set, e.Key)
		if err != nil {
			return err
		}
		if place := e.set.String() + string(e.Key); !found && !seen[place] {
			seen[place] = true
			missing = append(missing, e)
		}
	}
	for _, els := range bySet(missing) {
		b.Add(els)
	}
	return nil
}
