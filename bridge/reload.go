package bridge

import (
	"errors"
	"fmt"
	"slices"

	"flatnet/internal/nft"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// Reload restores in one transaction the rules of all attachments that the
// host's links tell of, such as after nft flush ruleset. It removes published
// ports, and records, of containers that went without a DEL; what else is there
// it leaves alone.
func (h *Host) Reload() error {
	unlock, err := h.records.lock(unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	firewalls, wishes, rerr := h.records.all()
	c, err := h.route()
	if err != nil {
		return err
	}
	defer c.Close()
	owners, err := h.Owners()
	if err != nil {
		return err
	}
	alive := map[Key]bool{}
	networks := map[string]bool{}
	for _, o := range owners {
		alive[o.Key], networks[o.Key.Network] = true, true
	}
	// What is left of containers that went without a DEL is not restored.
	firewalls = slices.DeleteFunc(firewalls, func(f Firewall) bool { return !networks[f.Network] })
	addrs, err := c.Addresses(0)
	if err != nil {
		return fmt.Errorf("list the host's addresses: %w", err)
	}
	err = h.withNFT(true, func(n *nft.Conn) error {
		dead, err := h.sweep(c, n, wishes, alive)
		wishes = slices.DeleteFunc(wishes, func(w wish) bool { return slices.Contains(dead, w.Key) })
		err = errors.Join(err, restore(n, firewalls, wishes, addrs))
		for _, f := range firewalls {
			err = errors.Join(err, h.unblock(n, []Firewall{f}))
		}
		return err
	})
	if errors.Is(err, ErrUnsupported) && len(firewalls)+len(wishes) == 0 {
		err = nil
	}
	return errors.Join(rerr, err)
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

// restore adds what is missing.
func restore(c *nft.Conn, firewalls []Firewall, wishes []wish, addrs []rtnl.Addr) error {
	err := restoreWith(c, firewalls, wishes, addrs, true)
	if errors.Is(err, nft.ErrUnsupported) {
		err = restoreWith(c, firewalls, wishes, addrs, false)
	}
	return err
}

func restoreWith(c *nft.Conn, firewalls []Firewall, wishes []wish, addrs []rtnl.Addr, fib bool) error {
	var b nft.Batch
	for _, f := range firewalls {
		ok, err := f.stands(c)
		if err != nil {
			return err
		}
		if !ok {
			if err := f.add(c, &b); err != nil {
				return err
			}
		}
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

// stands says whether all chains are as they should be.
func (f Firewall) stands(c *nft.Conn) (bool, error) {
	for _, ch := range f.chains() {
		if ok, err := ch.stands(c); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
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
