package bridge

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"flatnet/internal/nft"

	"golang.org/x/sys/unix"
)

// Each network has a table of its own in each family, made with its first
// attachment and deleted with its last: no rule of one network can be lost to
// another's removal.

// table is the network's table: "flatnet" for the network of that name.
func table(family nft.Family, network string) nft.Table {
	if network == "flatnet" {
		return nft.Table{Family: family, Name: network}
	}
	return nft.Table{Family: family, Name: "flatnet-" + network}
}

// firewall makes the rules that are not there as they should be. As a rule all
// are, and then nothing is sent but the question.
func (h *Host) firewall(wanted []Firewall) error {
	return h.unlessNeeded(wanted, h.withNFT(len(wanted) > 0, func(c *nft.Conn) error {
		var missing []Firewall
		for _, f := range wanted {
			ok, err := f.postrouting().stands(c)
			if err != nil {
				return err
			}
			if !ok {
				missing = append(missing, f)
			}
		}
		if len(missing) == 0 {
			return nil
		}
		return h.records.during(func() error {
			var b nft.Batch
			for _, f := range missing {
				if err := f.add(c, &b); err != nil {
					return err
				}
				h.records.saveFirewall(f)
			}
			if err := c.Commit(&b); err != nil {
				return err
			}
			return h.unblock(c, missing)
		})
	}))
}

// unlessNeeded lets a kernel without nf_tables pass, and says so, for networks
// that only miss their isolation by it.
func (h *Host) unlessNeeded(wanted []Firewall, err error) error {
	if !errors.Is(err, ErrUnsupported) || slices.ContainsFunc(wanted, func(f Firewall) bool { return f.IPMasq || f.Internal }) {
		return err
	}
	h.records.say(fmt.Errorf("network %s is not isolated from others: %w", wanted[0].Network, err))
	return nil
}

// add puts all that a firewall needs into a batch, in place of what is there.
func (f Firewall) add(c *nft.Conn, b *nft.Batch) error {
	chains := []chain{f.postrouting(), f.prerouting()}
	fw := f.forward()
	if !f.Internal { // no more
		old, err := c.Rules(fw.Table, fw.Name)
		if err != nil {
			return err
		}
		if len(old) > 0 {
			b.Flush(fw)
		}
	} else {
		chains = append(chains, fw)
	}
	for _, ch := range chains {
		ch.add(b)
	}
	return nil
}

func (ch chain) add(b *nft.Batch) {
	b.Add(ch.Table, ch.Chain)
	b.Flush(ch.Chain)
	for _, r := range ch.rules {
		b.Add(r)
	}
}

// stands says whether the chain holds its rules and nothing else.
func (ch chain) stands(c *nft.Conn) (bool, error) {
	have, err := c.Rules(ch.Table, ch.Name)
	return slices.EqualFunc(have, ch.rules, nft.Rule.Equal), err
}

// checkChains reports chains that are not as they should be.
func checkChains(c *nft.Conn, chains []chain) (err error) {
	for _, ch := range chains {
		ok, serr := ch.stands(c)
		if serr == nil && !ok {
			serr = changed("rules of %v are not as they should be (flatnet reload restores them)", ch)
		}
		err = errors.Join(err, serr)
	}
	return err
}

func (h *Host) checkFirewall(wanted []Firewall) error {
	return h.unlessNeeded(wanted, h.withNFT(len(wanted) > 0, func(c *nft.Conn) (err error) {
		for _, f := range wanted {
			err = errors.Join(err, checkChains(c, f.chains()))
		}
		return err
	}))
}

// removeRules deletes the network's tables.
func (h *Host) removeRules(network string) error {
	err := h.withNFT(true, func(c *nft.Conn) error {
		remove := func() error {
			var b nft.Batch
			for _, family := range []nft.Family{nft.IPv4, nft.IPv6, nft.Bridge} {
				t := table(family, network)
				has, err := c.Has(t)
				if err != nil {
					return err
				}
				if has {
					b.Delete(t)
				}
			}
			if err := block(c, &b, network); err != nil {
				return err
			}
			if err := c.Commit(&b); err != nil {
				return err
			}
			return errors.Join(h.closeLoopback(network), h.records.dropNetwork(network))
		}
		if !h.records.know(network) { // and so nothing that a reload could restore
			return remove()
		}
		return h.records.during(remove)
	})
	// What is not there, or can't be, needs no removal.
	if errors.Is(err, ErrUnsupported) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// closeLoopback sets route_localnet back on the network's bridges: the rules
// that made it harmless are gone. Where /proc/sys is read-only somebody else has
// set it, and it is only said.
func (h *Host) closeLoopback(network string) error {
	firewalls, _, _ := h.records.all() // of what can't be read, a reload tells
	var err error
	used := map[string]bool{} // by other networks
	for _, f := range firewalls {
		used[f.Bridge] = used[f.Bridge] || f.Network != network
	}
	for bridge, used := range used {
		name := routeLocalnet(bridge)
		if v, gerr := h.sysctl.Get(name); !used && gerr == nil && v != "0" {
			eerr := h.sysctl.Ensure(name, "0")
			if errors.Is(eerr, unix.EROFS) || errors.Is(eerr, unix.EACCES) || errors.Is(eerr, unix.EPERM) {
				h.records.say(eerr)
				eerr = nil
			}
			err = errors.Join(err, eerr)
		}
	}
	return err
}

func routeLocalnet(bridge string) string { return path.Join("net/ipv4/conf", bridge, "route_localnet") }

// withNFT runs fn with a socket to nf_tables, if there is need of one.
func (h *Host) withNFT(need bool, fn func(*nft.Conn) error) error {
	if !need {
		return nil
	}
	c, err := h.nft()
	if err == nil {
		defer c.Close()
		err = fn(c)
	}
	switch {
	case errors.Is(err, nft.ErrUnsupported):
		return unsupported{err}
	case errors.Is(err, nft.ErrChanging):
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return err
}

// transact changes rules by what fill finds, see [nft.Conn.Transact]: fill asks
// and puts the changes into the batch, and is called again if rules change before
// the batch is committed.
func (h *Host) transact(fill func(*nft.Conn, *nft.Batch) error) error {
	return h.withNFT(true, func(c *nft.Conn) error {
		return c.Transact(func(b *nft.Batch) error { return fill(c, b) })
	})
}
