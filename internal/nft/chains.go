package nft

import (
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Chains lists the chains of all tables of a family. One of a device has a hook
// of another kind. A chain that can't be decoded is left out.
func (c *Conn) Chains(family Family) ([]Chain, error) {
	answers, err := c.ask(request{unix.NFT_MSG_GETCHAIN, 0, family, func(*codec) {}}, c.nl.Dump)
	if err != nil {
		return nil, fmt.Errorf("list chains of family %v: %w", family, err)
	}
	var chains []Chain
	for _, m := range answers {
		if ch, err := decodeChain(m); err == nil {
			chains = append(chains, ch)
		}
	}
	return chains, nil
}

func decodeChain(m netlink.Message) (ch Chain, err error) {
	ch.Table.Family, err = decodeMessage(m, func(c *codec) {
		ch.Table.Name = c.text(unix.NFTA_CHAIN_TABLE, "")
		ch.Name = c.text(unix.NFTA_CHAIN_NAME, "")
		ch.Drop = number(c, unix.NFTA_CHAIN_POLICY, Accept) == Drop
		ch.Type = ChainType(c.text(unix.NFTA_CHAIN_TYPE, ""))
		c.nest(unix.NFTA_CHAIN_HOOK, func(n *codec) {
			ch.Hook = number(n, unix.NFTA_HOOK_HOOKNUM, ch.Hook)
			ch.Priority = number(n, unix.NFTA_HOOK_PRIORITY, ch.Priority)
		})
	})
	return ch, err
}
