// Package antispoof lets a bridge port send only frames with its container's own MAC
// and IP addresses (macspoofchk).
//
// Rules go by the port's name (model.Attachment.HostEnd). A port that is renamed is
// not checked until Put is called with its new name.
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
	networks, wanted := needs(all)
	for _, network := range networks {
		if err := PutTable(tx, network); err != nil {
			return err
		}
	}
	_, stale := needs(renamed)
	have, err := elements.Look(tx.Conn, slices.Concat(wanted, stale))
	if err != nil {
		return err
	}
	stale = slices.DeleteFunc(stale, func(e nft.Element) bool { return !have.Has(e) })
	have.Put(tx.Batch, wanted, stale)
	return nil
}

// Remove removes an attachment's elements: those of its record or, without one, all
// that a listing of the sets finds. Its port should be gone or down by then: from then
// on it may send any frame.
func Remove(tx *host.Tx, key model.Key, recorded *model.Attachment) error {
	var mine []nft.Element
	var err error
	if recorded == nil {
		mine, err = elements.List(tx.Conn, tableOf(key.Network).sets()...)
	} else {
		_, old := needs([]*model.Attachment{recorded})
		mine, err = tx.Find(old)
	}
	mine = slices.DeleteFunc(mine, func(e nft.Element) bool { return e.Comment != key.String() })
	tx.Delete(nft.Elements(mine))
	return err
}

// Faults lists what the checks of attachments lack.
func Faults(c *nft.Conn, all []*model.Attachment) (faults []model.Fault, err error) {
	networks, wanted := needs(all)
	for _, network := range networks {
		wrong, err := tableOf(network).missing(c)
		if err != nil {
			return nil, err
		}
		faults = append(faults, host.ChainFaults(wrong)...)
	}
	have, err := elements.Look(c, wanted)
	if err != nil {
		return nil, err
	}
	for _, e := range wanted {
		if !have.Has(e) {
			faults = append(faults, model.Fault{Thing: "macspoofchk of " + e.Comment, State: "incomplete", Table: e.Set.Table.String()})
		}
	}
	return slices.Compact(faults), nil // one of each attachment
}

// Without is the fault of an attachment that was made before its network had
// macspoofchk. A reload, which goes by the record, does not mend it.
func Without(key model.Key) model.Fault {
	return model.Fault{Thing: "macspoofchk of " + key.String(), State: "off",
		Advice: key.String() + " was attached without macspoofchk, and has it when it is attached again"}
}

// needs returns the networks and the elements that attachments with macspoofchk need:
// each port may use its MAC and IP addresses, and nothing else. DHCP and duplicate
// address detection send from the unspecified address, so it is always allowed.
func needs(all []*model.Attachment) (networks []string, wanted []nft.Element) {
	for _, a := range all {
		if !a.SpoofCheck {
			continue
		}
		if !slices.Contains(networks, a.Name) {
			networks = append(networks, a.Name)
		}
		t := tableOf(a.Name)
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
	return networks, wanted
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
