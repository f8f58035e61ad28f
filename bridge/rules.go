package bridge

import (
	"errors"
	"fmt"
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
	return h.withNFT(len(wanted) > 0, func(c *nft.Conn) error {
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
	})
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
	return h.withNFT(len(wanted) > 0, func(c *nft.Conn) (err error) {
		for _, f := range wanted {
			err = errors.Join(err, checkChains(c, f.chains()))
		}
		return err
	})
}

// removeRules deletes the network's tables.
func (h *Host) removeRules(network string) error {
	err := h.withNFT(true, func(c *nft.Conn) error {
		return h.records.during(func() error {
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
			return errors.Join(c.Commit(&b), h.records.dropNetwork(network))
		})
	})
	// What is not there, or can't be, needs no removal.
	if errors.Is(err, ErrUnsupported) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

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
	if errors.Is(err, nft.ErrUnsupported) {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return err
}
