package antispoof

import (
	"fmt"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/nft"
)

// chainOf returns the chain of an attachment's port in the netdev family.
func (t *table) chainOf(key model.Key, port string) nft.Ruleset {
	mark := key.Mark()
	r := t.enter(fmt.Sprintf("port-%x", mark[:]), nft.Ingress)
	r.Device = port
	return r
}

// port returns the chain of an attachment's port as the kernel has it, and whether that
// is as it should be, with its rule and at its port.
func (t *table) port(c *nft.Conn, a *model.Attachment) (found nft.Chain, complete bool, err error) {
	want := t.chainOf(a.Key, a.HostEnd)
	found, err = c.Chain(want.Chain)
	if err != nil || found != want.Chain {
		return found, false, err
	}
	rules, err := c.Rules(t.Table, want.Name)
	return found, len(nft.Missing([]nft.Ruleset{want}, rules)) == 0, err
}

// putPort adds the chain of an attachment's port to a transaction, in place of one that
// is not as it should be. The new one checks frames before the old one stops.
func (t *table) putPort(tx *host.Tx, a *model.Attachment) error {
	if a.Bandwidth.Egress.Rate > 0 {
		return model.Errorf(model.ErrUnsupported, "macspoofchk with a limit of what the container sends needs CONFIG_NF_TABLES_BRIDGE: "+
			"the frames that the limit has delayed pass by the chains of %s", t.Table)
	}
	found, complete, err := t.port(tx.Conn, a)
	if err != nil || complete {
		return err
	}
	if found.Name != "" {
		t.delete(tx, found)
	}
	r := t.chainOf(a.Key, a.HostEnd)
	tx.Add(r.Chain)
	for _, rule := range r.Rules {
		tx.Add(rule)
	}
	return nil
}

// removePort adds the removal of the chain of an attachment's port to a transaction, if
// there is one.
func (t *table) removePort(tx *host.Tx, key model.Key) error {
	ch := t.chainOf(key, "").Chain
	has, err := tx.Has(ch)
	if has {
		t.delete(tx, ch)
	}
	return err
}

func (*table) delete(tx *host.Tx, ch nft.Chain) {
	tx.Flush(ch)
	tx.Delete(ch)
}
