// Package antispoof lets a bridge port send only frames with its container's own MAC
// and IP addresses (macspoofchk).
//
// Rules go by the port's name (model.Attachment.HostEnd). A port that is renamed is
// not checked until Put is called with its new name.
//
// A network's checks are in a table of the bridge family or, where the kernel lacks
// that, of the netdev family. The bridge family is preferred: its chains are the
// network's and not each port's, so nft can save them and load them again at any time,
// and they see frames that egress bandwidth limits have delayed. No request that
// changes nothing asks which families a kernel has. So the first table of a network is
// tried in the bridge family, and a table that is there is the choice from then on.
package antispoof

import (
	"net/netip"
	"path/filepath"
	"slices"

	"flatnet/bridge/elements"
	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/nft"
)

// Put adds to a transaction what the checks of attachments lack. An earlier owner's
// elements under their ports' names are replaced. renamed are those attachments whose
// ports were renamed, with the old names; their elements are removed.
func Put(tx *host.Tx, all, renamed []*model.Attachment) error {
	tables, err := tablesOf(tx.Conn, all, tx.NoBridge)
	for _, t := range tables {
		t.put(tx)
	}
	wanted, stale := needs(tables, all), needs(tables, renamed)
	if err != nil {
		return err
	}
	have, err := elements.Look(tx.Conn, slices.Concat(wanted, stale))
	if err != nil {
		return err
	}
	stale = slices.DeleteFunc(stale, func(e nft.Element) bool { return !have.Has(e) })
	have.Put(tx.Batch, wanted, stale)
	for _, a := range all {
		if t := tables.of(a); t != nil && t.Family == nft.Netdev {
			if err := t.putPort(tx, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// PutTable adds a network's table to a transaction, unless all of it is there. One of
// an older version keeps its elements.
func PutTable(tx *host.Tx, network string) error {
	t, err := find(tx.Conn, network, tx.NoBridge)
	if err == nil {
		t.put(tx)
	}
	return err
}

// Remove removes an attachment's checks: those of its record or, without one, all
// that a listing of the sets finds. Its port should be gone or down by then: from then
// on it may send any frame.
func Remove(tx *host.Tx, key model.Key, recorded *model.Attachment) error {
	if recorded != nil && !recorded.SpoofCheck {
		return nil
	}
	for _, family := range families() {
		t := tableOf(family, key.Network)
		mine, err := t.elementsOf(tx.Conn, key, recorded)
		if err != nil {
			return err
		}
		tx.Delete(nft.Elements(mine))
		if family == nft.Netdev {
			return t.removePort(tx, key)
		}
		if len(mine) > 0 { // of two families, a network uses one
			break
		}
	}
	return nil
}

// elementsOf returns the elements of an attachment that are there.
func (t *table) elementsOf(c *nft.Conn, key model.Key, recorded *model.Attachment) (mine []nft.Element, err error) {
	if recorded == nil {
		mine, err = elements.List(c, t.sets()...)
	} else {
		mine, err = c.Find(needs(tables{key.Network: t}, []*model.Attachment{recorded}))
	}
	return slices.DeleteFunc(mine, func(e nft.Element) bool { return e.Comment != key.String() }), err
}

// Faults lists what the checks of attachments lack.
func Faults(c *nft.Conn, all []*model.Attachment) (faults []model.Fault, err error) {
	tables, err := tablesOf(c, all, false)
	if err != nil {
		return nil, err
	}
	for _, name := range tables.networks(all) {
		faults = append(faults, host.ChainFaults(tables[name].wrong)...)
	}
	have, err := elements.Look(c, needs(tables, all))
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		t := tables.of(a)
		if t == nil {
			continue
		}
		complete := !slices.ContainsFunc(needs(tables, []*model.Attachment{a}), func(e nft.Element) bool { return !have.Has(e) })
		if complete && t.Family == nft.Netdev {
			if _, complete, err = t.port(c, a); err != nil {
				return nil, err
			}
		}
		if !complete {
			faults = append(faults, model.Fault{Thing: "macspoofchk of " + a.Key.String(), State: "incomplete", Table: t.Table.String()})
		}
	}
	return faults, nil
}

// Without is the fault of an attachment that was made before its network had
// macspoofchk. A reload, which goes by the record, does not mend it.
func Without(key model.Key) model.Fault {
	return model.Fault{Thing: "macspoofchk of " + key.String(), State: "off",
		Advice: key.String() + " was attached without macspoofchk, and has it when it is attached again"}
}

// needs returns the elements that attachments with macspoofchk need: each port may use
// its MAC and IP addresses, and nothing else. DHCP and duplicate address detection send
// from the unspecified address, so it is always allowed.
func needs(tables tables, all []*model.Attachment) (wanted []nft.Element) {
	for _, a := range all {
		t := tables.of(a)
		if t == nil {
			continue
		}
		add := func(set nft.Set, value []byte) {
			key := nft.Concat(nft.Name(a.HostEnd), value)
			wanted = append(wanted, nft.Element{Set: set, Key: key, Comment: a.Key.String()})
		}
		add(t.guarded, nil)
		add(t.macs, a.MAC[:])
		if a.NoAddress { // the container configures itself
			add(t.anyAddr, nil)
			continue
		}
		for _, addr := range append(a.IPs(), netip.IPv4Unspecified(), netip.IPv6Unspecified(), a.MAC.LinkLocal()) {
			set := t.addrs4
			if addr.Is6() {
				set = t.addrs6
			}
			add(set, addr.AsSlice())
		}
	}
	return wanted
}

// Settle sets the sysctls of a port that is not up yet: IP packets in frames of link
// protocols would otherwise reach the host past the bridge.
func Settle(h *host.Host, port string) error {
	for _, family := range []string{"ipv4", "ipv6"} {
		name := filepath.Join("net", family, "conf", port, "drop_unicast_in_l2_multicast")
		if err := host.IfPossible(h.Sysctl.Ensure(name, "1")); err != nil {
			return err
		}
	}
	return nil
}

// Has reports whether a network has a table of checks.
func Has(c *nft.Conn, network string) (has bool, err error) {
	for _, family := range families() {
		if has, err = c.Has(tableOf(family, network).Table); has || err != nil {
			break
		}
	}
	return has, err
}
