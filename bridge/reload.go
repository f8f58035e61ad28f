package bridge

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"flatnet/bridge/forward"
	"flatnet/bridge/link"
	"flatnet/bridge/mirrored"
	"flatnet/bridge/model"
	"flatnet/bridge/peers"
	"flatnet/bridge/ports"
	"flatnet/bridge/records"
	"flatnet/bridge/restore"
	"flatnet/bridge/shaping"
	"flatnet/bridge/signs"
	"flatnet/bridge/upkeep"
	"flatnet/bridge/vlan"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// Reload restores what attachments that the host's links show have lost: bridges and
// their addresses, sysctls and bridge ports, which a restart of the host's network
// takes, and in one transaction the rules, such as after nft flush ruleset. It removes
// published ports, and records, of containers that went without a DEL; what else is
// there it leaves alone. It returns a line for each thing that it mended. Attachments
// of which there is no record are named in the error.
func (h *Host) Reload() (mended []string, err error) {
	c, err := h.open()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.thorough = true
	recorded, rerr := c.records.Attachments("*", "*")
	mended, err = signs.Restore(c.Host, c.records, recorded) // first: the rest is found by them
	networks, nerr := c.records.Networks()
	re := &reloading{call: c}
	swept, serr := c.sweep(recorded)
	mended = append(mended, swept...)
	errs := []error{rerr, err, nerr, serr}
	defer func() {
		for _, lock := range re.arrivals {
			lock.Close()
		}
	}()
	networks = slices.DeleteFunc(networks, func(s *model.Shared) bool {
		arrival, err := re.records.Arrive(&s.Network)
		re.arrivals, errs = append(re.arrivals, arrival), append(errs, err)
		return err != nil
	})
	for _, s := range networks {
		if err := re.network(s); err != nil {
			errs = append(errs, fmt.Errorf("network %s: %w", s.Name, err))
		}
	}
	lacks, err := restore.Rules(c.Host, c.records, re.live)
	err = errors.Join(append(errs, err, mirrored.Settle(c.Host), c.records.CheckLost(c.Host), peers.Unrecorded(c.Host, c.records))...)
	mended = append(mended, re.mended(err != nil || lacks != nil)...)
	undone, uerr := forward.Undo(c.Host, c.records)
	return append(mended, undone...), errors.Join(err, uerr)
}

// A reloading is a reload under way.
type reloading struct {
	*call
	live     []*model.Shared // networks that have attachments
	found    [][]model.Fault // of each of them
	arrivals []records.Lock  // while they are held, no last DEL removes what is mended
	links    []rtnl.Link     // listed since: not for each network, for with each there are more
}

// network mends the links and sysctls of a network that has attachments, and narrows s
// down to what these need.
func (re *reloading) network(s *model.Shared) error {
	ends, err := re.records.Ends(s, re.links)
	if len(ends) == 0 { // or the list is older than an ADD
		if re.links, err = re.Links(); err != nil {
			re.links = nil // a part of them, or none
			return err
		}
		if ends, err = re.records.Ends(s, re.links); len(ends) == 0 {
			return errors.Join(err, peers.Sweep(re.Host, re.records, s))
		}
	}
	ends = placed(s, ends, re.links)
	s.Served = served(s.Served, ends)
	found, ferr := re.faults(s, ends)
	re.live, re.found = append(re.live, s), append(re.found, found)
	if ferr == nil {
		ferr = re.mendLinks(s, ends)
	}
	return errors.Join(err, ferr)
}

// placed returns those of a network's host ends that belong on its bridge. Others, which were
// attached to another one, have addresses of no subnet that is served there, and stay there.
func placed(s *model.Shared, ends []records.End, links []rtnl.Link) []records.End {
	isServed := func(a netip.Addr) bool {
		return slices.ContainsFunc(s.Served, func(sub model.Subnet) bool { return sub.Contains(a) })
	}
	return slices.DeleteFunc(slices.Clone(ends), func(e records.End) bool {
		there := slices.ContainsFunc(links, func(l rtnl.Link) bool { return l.Name == s.Bridge && l.Index == e.Link.Master })
		return !there && len(e.Addresses) > 0 && !slices.ContainsFunc(e.IPs(), isServed)
	})
}

// mended returns a line for each fault that was found and mended. If something failed or was
// left out, it looks again: what is still a fault was not mended.
func (re *reloading) mended(partly bool) (lines []string) {
	for i, s := range re.live {
		still := map[string]bool{}
		if partly {
			links, err := re.Links()
			ends, _ := re.records.Ends(s, links) // what can't be read has been reported
			now, ferr := re.faults(s, placed(s, ends, links))
			if err != nil || ferr != nil {
				continue
			}
			for _, f := range now {
				still[f.Mended()] = true
			}
		}
		for _, f := range re.found[i] {
			if line := f.Mended(); !still[line] && !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// mendLinks makes the bridge, or what it and the host as a router lack, and makes host
// ends ports of the bridge again, with all that ADD sets.
func (re *reloading) mendLinks(s *model.Shared, ends []records.End) error {
	br, err := link.FindBridge(re.Host, &s.Network)
	if err != nil {
		return err
	}
	if br.Index == 0 {
		for _, l := range re.links {
			if isMadeFor(l, s.Name) && string(l.MAC) == string(s.BridgeMAC[:]) { // else another one of the network's
				return model.Errorf(model.ErrConflict, "bridge %s is now called %s; give it its name again", s.Bridge, l.Name)
			}
		}
		lock, err := re.records.Bridge(s.Bridge)
		if err != nil {
			return err
		}
		defer lock.Close()
	}
	if br, _, err = link.Ensure(re.Host, br, s); err != nil {
		return err
	}
	if err := forward.Restore(re.Host, s, re.records); err != nil {
		return err
	}
	vlans, err := vlan.Ports(re.Host, s.VLANs)
	if err != nil {
		return err
	}
	moved, errs := false, []error(nil)
	for _, e := range ends {
		now, err := re.LinkByIndex(e.Link.Index)
		if errs = append(errs, err); now.Index == 0 { // what is recorded may be another link's by now
			continue
		}
		hairpin := ports.NeedsHairpin(re.Host, e.Attachment)
		if len(link.PortFaults(br, s, e.Link, hairpin, vlans)) > 0 {
			kept := link.KeepMAC(re.Host, br)
			_, err = link.Connect(re.Host, br, e.Attachment, e.Link, hairpin)
			err = errors.Join(kept, err)
			moved = moved || e.Link.Master != br.Index
		}
		if err == nil && len(shaping.Faults(re.Host, e.Attachment, e.Link)) > 0 {
			err = shaping.Put(re.Host, e.Attachment, e.Link.Index)
		}
		if !errors.Is(err, unix.ENODEV) { // else its container has gone
			errs = append(errs, err)
		}
	}
	// The record does not show their neighbour entries: an ADD that made the bridge again has
	// written its own.
	if moved || string(br.MAC) != string(s.BridgeMAC[:]) {
		errs = append(errs, link.AnnounceGateways(re.Host, br, s))
	}
	return errors.Join(append(errs, upkeep.Restore(re.Host, s, ends), peers.Restore(re.Host, re.records, s))...)
}

// sweep removes what attachments have that went without a DEL: those of all, which are
// recorded, or others that have published ports, and no link. It returns a line for each.
func (c *call) sweep(all map[model.Key]*model.Attachment) (swept []string, err error) {
	if rules, rerr := c.Rules(); rerr == nil {
		owners, oerr := ports.Owners(rules)
		err = errors.Join(err, oerr)
		for _, key := range owners {
			if _, recorded := all[key]; !recorded {
				all[key] = nil
			}
		}
	}
	turns, derr := c.records.Dead(c.Host, all)
	if err = errors.Join(err, derr); len(all) == 0 {
		return nil, err
	}
	defer turns.Close()
	if rerr := c.removeElements(all); rerr != nil {
		return nil, errors.Join(err, rerr)
	}
	c.records.Trace(all)
	for key := range all {
		swept = append(swept, "removed: the record and rules of "+key.String()+", which has no link")
	}
	slices.Sort(swept)
	return swept, err
}
