package bridge

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"flatnet/internal/flock"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// Networks keep their leases apart, so several on one bridge need subnets of their
// own. The bridge's alias says which network it was made for, and whether another
// one has ever had a container behind it: as long as none has, nothing needs to be
// looked for.

// sharedMark ends the alias of a bridge that several networks use.
const sharedMark = ", shared"

// bridgeAlias is what a bridge says that was made for a network.
func bridgeAlias(network string) string { return aliasWord + " " + network }

// isMadeFor reports whether the link is the bridge that flatnet made for a network.
func isMadeFor(l rtnl.Link, network string) bool {
	made, ok := madeFor(l)
	return ok && made == network
}

// madeFor returns the network that a bridge was made for, if flatnet made it.
func madeFor(br rtnl.Link) (network string, ok bool) {
	network, ok = strings.CutPrefix(strings.TrimSuffix(br.Alias, sharedMark), aliasWord+" ")
	return network, ok && br.Kind == "bridge"
}

// checkShared reports another network that has containers behind the bridge with
// addresses in any of the prefixes. It looks only at a bridge that was made for
// another network or is shared: an ADD that goes on asks again afterwards. In a
// VLAN, addresses are in nobody's way.
func checkShared(c *rtnl.Conn, br bridgeState, n Network, prefixes []netip.Prefix) error {
	if _, ok := madeFor(br.Link); !ok || br.Alias == bridgeAlias(n.Name) || n.VLANs.ID != 0 {
		return nil
	}
	return n.checkPorts(c, br.Link, prefixes)
}

// checkSharedAgain is checkShared for an attachment whose link says which addresses
// it has. Of two networks whose containers come at one moment, the one whose link
// was there last finds the other's, or both find each other. They look one after the
// other, and whoever finds another's link takes its own away before the next one
// looks: so one network is always left. before is the bridge as it was when
// checkShared asked.
//
// A network that the bridge was not made for marks it as shared before it looks. A
// network that it was made for looks for the mark when its own link can be found:
// so one of the two sees the other. Whoever has found no bridge looks in any case. A
// bridge gets its alias in the turn in which it is made, and so before anybody looks.
func (h *Host) checkSharedAgain(c *rtnl.Conn, before bridgeState, n Network, key Key, res Result) error {
	if n.VLANs.ID != 0 {
		return nil
	}
	prefixes := n.prefixes()
	if len(prefixes) == 0 { // of another plugin; another network may have the rest of the subnet
		for _, ip := range res.IPs {
			a := ip.Address.Addr()
			prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	br, err := c.LinkByName(n.Bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", n.Bridge, err)
	}
	if br.Alias == bridgeAlias(n.Name) && before.Index != 0 {
		return nil
	}
	unlock, err := h.lookAlone(n.Bridge)
	if err != nil {
		return err
	}
	defer unlock()
	if br, err = c.LinkByName(n.Bridge); err != nil {
		return fmt.Errorf("find bridge %s: %w", n.Bridge, err)
	}
	if made, ours := madeFor(br); ours && made != n.Name && br.Alias == bridgeAlias(made) {
		if err := c.SetLink(rtnl.LinkChange{Index: br.Index, Up: br.Up(), Alias: br.Alias + sharedMark}); err != nil {
			return fmt.Errorf("mark bridge %s as shared: %w", br.Name, err)
		}
	}
	if err := n.checkPorts(c, br, prefixes); err != nil {
		return errors.Join(err, removeLinks(c, key, namedEnds))
	}
	return nil
}

// lookAlone waits until no other ADD makes the bridge, or looks for networks that
// share it.
// unlock is nil only after an error.
func (h *Host) lookAlone(bridge string) (unlock func(), err error) {
	f, err := h.records.open()
	if err == nil && f != nil {
		err = flock.LockByte(f, placeOf(sharedMark, bridge), unix.LOCK_EX, lockWait)
	}
	unlock = func() {
		if f != nil {
			f.Close() // nothing was written to it
		}
	}
	if errors.Is(err, flock.ErrHeld) {
		unlock()
		return nil, fmt.Errorf("other ADDs were busy with bridge %s for %v; try again: %w: %w", bridge, lockWait, err, ErrBusy)
	}
	if err != nil {
		h.records.say(fmt.Errorf("can't lock bridge %s (continuing; another network's ADD at the same moment may conflict): %w", bridge, err))
	}
	return unlock, nil
}

// checkPorts looks for other networks' addresses behind a bridge.
func (n Network) checkPorts(c *rtnl.Conn, br rtnl.Link, prefixes []netip.Prefix) error {
	ports, err := c.Ports(br.Index)
	if err != nil {
		return fmt.Errorf("list ports of bridge %s: %w", br.Name, err)
	}
	for _, o := range ownersOf(ports) {
		for _, a := range o.Addresses {
			i := slices.IndexFunc(prefixes, func(p netip.Prefix) bool { return p.Masked().Contains(a) })
			if o.Key.Network != n.Name && i >= 0 {
				return fmt.Errorf("%s of network %s is used by network %s on the same bridge %s: %s has %s; choose another subnet and bridge: %w",
					prefixes[i].Masked(), n.Name, o.Key.Network, br.Name, o.Key, a, ErrConflict)
			}
		}
	}
	return nil
}
