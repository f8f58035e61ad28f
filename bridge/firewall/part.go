package firewall

import (
	"errors"
	"io/fs"
	"slices"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/nft"
)

// Missing returns the chains that are not as they should be, by what the network has in
// its tables. ipv6 is whether the kernel has IPv6: else there is nothing to keep apart.
func missing(c *nft.Conn, s *model.Shared, ipv6 bool) ([]nft.Ruleset, error) {
	var have []nft.Rule
	for _, family := range []nft.Family{nft.IPv4, nft.IPv6} {
		rules, err := c.Rules(host.Table(family, s.Name), "")
		if err != nil {
			return nil, err
		}
		have = append(have, rules...)
	}
	return slices.DeleteFunc(nft.Missing(chains(s, have), have), func(r nft.Ruleset) bool {
		return r.Table.Family == nft.IPv6 && !ipv6
	}), nil
}

// Put adds to tx the network's chains that are not as they should be. As a rule all
// are. The chain that only keeps bridges without addresses apart in IPv6 is left out
// where it is refused.
func Put(tx *host.Tx, s *model.Shared, ipv6 bool) error {
	chains, err := missing(tx.Conn, s, ipv6)
	for _, ch := range chains {
		optional := ch.Table.Family == nft.IPv6 && ch.Hook == nft.Forward && !s.Internal && !s.PublishedOnly
		tx.Optional = tx.Optional || optional
		if !(optional && tx.NoOptional) {
			tx.Put(ch)
		}
	}
	return err
}

// HasIPv6 reports whether the kernel has IPv6.
func HasIPv6(h *host.Host) bool {
	_, err := h.Sysctl.Get("net/ipv6/conf/all/forwarding")
	return !errors.Is(err, fs.ErrNotExist)
}

// Required reports whether the network can't do without nf_tables: else only its
// isolation from others is missing where the kernel has none.
func Required(s *model.Shared) bool { return s.IPMasq || s.Internal || s.PublishedOnly }

// Faults lists the chains that are not as they should be.
func Faults(c *nft.Conn, s *model.Shared, ipv6 bool) ([]model.Fault, error) {
	chains, err := missing(c, s, ipv6)
	return host.ChainFaults(chains), err
}

// Remove adds to tx the removal of the network's tables, with everything that depends
// on them.
func Remove(tx *host.Tx, network string) error {
	for _, family := range []nft.Family{nft.IPv4, nft.IPv6, nft.Bridge} {
		has, err := tx.Has(host.Table(family, network))
		if err != nil {
			return err
		}
		if has {
			tx.Delete(host.Table(family, network))
		}
	}
	return nil
}
