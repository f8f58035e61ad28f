package bridge

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"flatnet/internal/nft"
	"flatnet/rtnl"

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

// rulesOf reads the rules of the network's own tables.
func rulesOf(c *nft.Conn, network string) (have []nft.Rule, err error) {
	for _, family := range []nft.Family{nft.IPv4, nft.IPv6} {
		rules, err := c.Rules(table(family, network), "")
		if err != nil {
			return nil, err
		}
		have = append(have, rules...)
	}
	return have, nil
}

// lacking returns the chains of one network's firewalls whose rules are not those
// that have holds.
func (h *Host) lacking(firewalls []Firewall, have []nft.Rule) (missing []chain) {
	for _, f := range firewalls {
		missing = append(missing, f.lacking(firewalls, have)...)
	}
	if slices.ContainsFunc(missing, chain.isIPv6) && !h.hasIPv6() {
		missing = slices.DeleteFunc(missing, chain.isIPv6)
	}
	return missing
}

// lacking is [Host.lacking] for one of the firewalls.
func (f Firewall) lacking(all []Firewall, have []nft.Rule) []chain {
	return slices.DeleteFunc(f.chains(all, have), func(ch chain) bool { return ch.isIn(have) })
}

// isOptional says whether a network that is not internal may do without.
func (ch chain) isOptional() bool { return ch.isIPv6() && ch.Hook == nft.Forward }

func (ch chain) isIPv6() bool { return ch.Table.Family == nft.IPv6 }

// hasIPv6 says whether the kernel has IPv6: else there is nothing to keep apart.
func (h *Host) hasIPv6() bool {
	_, err := h.sysctl.Get(forwarding6)
	return !errors.Is(err, fs.ErrNotExist)
}

// stands says whether the chain holds its rules and nothing else.
func (ch chain) stands(c *nft.Conn) (bool, error) {
	have, err := c.Rules(ch.Table, ch.Name)
	return err == nil && ch.isIn(have), err
}

// isIn is [chain.stands] by the rules of several chains.
func (ch chain) isIn(have []nft.Rule) bool {
	i := 0
	for _, r := range have {
		if r.Table != ch.Table || r.Chain != ch.Name {
			continue
		}
		if i >= len(ch.rules) || !r.Equal(ch.rules[i]) {
			return false
		}
		i++
	}
	return i == len(ch.rules)
}

// add puts the chain with its rules into a batch, in place of the rules that are
// there. One that is to have none goes.
func (ch chain) add(b *nft.Batch) {
	if len(ch.rules) == 0 {
		b.Flush(ch.Chain)
		b.Delete(ch.Chain)
		return
	}
	b.Add(ch.Table, ch.Chain)
	b.Flush(ch.Chain)
	for _, r := range ch.rules {
		b.Add(r)
	}
}

// firewall makes the rules that are not there as they should be. As a rule all
// are, and then nothing is sent but the question.
func (h *Host) firewall(wanted []Firewall) error {
	return h.unlessNeeded(wanted, h.withNFT(len(wanted) > 0, func(c *nft.Conn) error {
		have, err := rulesOf(c, wanted[0].Network)
		if err != nil {
			return err
		}
		if len(h.lacking(wanted, have)) == 0 {
			return nil
		}
		return h.records.during(func() error { return h.makeRules(c, wanted) })
	}))
}

// makeRules makes the rules of a network, and gives the network's other subnets
// the same settings. Accept rules in foreign chains come first: an ADD finds the
// network's own rules only when those are there.
func (h *Host) makeRules(c *nft.Conn, wanted []Firewall) error {
	network := wanted[0].Network
	recorded := h.records.firewalls(network)
	if !wanted[0].ForwardAccept && slices.ContainsFunc(recorded, func(f Firewall) bool { return f.ForwardAccept }) {
		h.block(c, network)
	}
	for _, f := range wanted {
		h.records.saveFirewall(f)
	}
	h.unblock(c, wanted)
	err := c.Transact(func(b *nft.Batch) error { return h.fillRules(c, b, wanted, recorded, nil) })
	strict := wanted[0].Internal || wanted[0].PublishedOnly
	if !errors.Is(err, nft.ErrUnsupported) || strict {
		return err
	}
	// What only keeps bridges without addresses apart may be left out.
	if rerr := c.Transact(func(b *nft.Batch) error { return h.fillRules(c, b, wanted, recorded, chain.isOptional) }); rerr != nil {
		return err
	}
	h.records.say(fmt.Errorf("network %s is not isolated from others in IPv6: %w", network, err))
	return nil
}

// fillRules puts into a batch what is missing of a network's rules, without the
// chains that are left out.
func (h *Host) fillRules(c *nft.Conn, b *nft.Batch, wanted, recorded []Firewall, without func(chain) bool) error {
	have, err := rulesOf(c, wanted[0].Network)
	if err != nil {
		return err
	}
	all := slices.Clone(wanted)
	for _, old := range recorded {
		if old.Bridge == wanted[0].Bridge && !slices.ContainsFunc(wanted, old.samePlace) && old.hasRules(have) {
			old = old.set(wanted[0])
			h.records.saveFirewall(old)
			all = append(all, old)
		}
	}
	for _, ch := range h.lacking(all, have) {
		if without == nil || !without(ch) {
			ch.add(b)
		}
	}
	return nil
}

// unlessNeeded lets a kernel without nf_tables pass, and says so, for networks
// that only miss their isolation by it.
func (h *Host) unlessNeeded(wanted []Firewall, err error) error {
	if !errors.Is(err, ErrUnsupported) || slices.ContainsFunc(wanted, func(f Firewall) bool { return f.IPMasq || f.Internal || f.PublishedOnly }) {
		return err
	}
	h.records.say(fmt.Errorf("network %s is not isolated from others: %w", wanted[0].Network, err))
	return nil
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

// checkFirewall compares one network's rules with those that an ADD would make,
// and says what puts a difference right.
func (h *Host) checkFirewall(wanted []Firewall) error {
	return h.unlessNeeded(wanted, h.withNFT(len(wanted) > 0, func(c *nft.Conn) error {
		have, err := rulesOf(c, wanted[0].Network)
		if err != nil || len(h.lacking(wanted, have)) == 0 {
			return err
		}
		recorded := h.records.firewalls(wanted[0].Network)
		for _, f := range wanted {
			for _, ch := range f.lacking(wanted, have) {
				err = errors.Join(err, changed("rules of %v are not as they should be (%s)", ch, f.remedy(recorded)))
			}
		}
		return err
	}))
}

// remedy says what restores the firewall's rules.
func (f Firewall) remedy(recorded []Firewall) string {
	i := slices.IndexFunc(recorded, f.samePlace)
	if i < 0 {
		return "the network's next ADD restores them"
	}
	if keys := f.changed(recorded[i]); len(keys) > 0 {
		return "they were made with another " + strings.Join(keys, ", ") + "; the network's next ADD applies the change"
	}
	return "flatnet reload restores them"
}

// removeRules deletes the network's tables, with everything that depends on
// them. links are the host's.
func (h *Host) removeRules(network string, links []rtnl.Link) error {
	remove := func() error {
		err := h.withNFT(true, func(c *nft.Conn) error {
			if slices.ContainsFunc(h.records.firewalls(network), func(f Firewall) bool { return f.ForwardAccept }) {
				h.block(c, network)
			}
			return removeTables(c, network)
		})
		if err != nil && !errors.Is(err, ErrUnsupported) { // and then there are none
			return err
		}
		return errors.Join(h.forgetDead(network), h.closeLoopback(network, links), h.records.dropNetwork(network))
	}
	if !h.records.know(network) { // and so nothing that a reload could restore
		return remove()
	}
	return h.records.during(remove)
}

// removeTables deletes the network's tables.
func removeTables(c *nft.Conn, network string) error {
	return c.Transact(func(b *nft.Batch) error {
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
		return nil
	})
}

// closeLoopback sets route_localnet back on the network's bridges: the rules
// that made it harmless are gone. Where /proc/sys is read-only somebody else has
// set it, and it is only said.
func (h *Host) closeLoopback(network string, links []rtnl.Link) error {
	used := map[string]bool{} // by other networks
	for _, f := range h.records.firewalls("*") {
		used[f.Bridge] = used[f.Bridge] || f.Network != network
	}
	for _, l := range links { // records may have been lost
		if isMadeFor(l, network) && !hasPorts(links, l) {
			used[l.Name] = false
		}
	}
	var err error
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
		return Errorf(ErrUnsupported, "%w", err)
	case errors.Is(err, nft.ErrChanging):
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return err
}
