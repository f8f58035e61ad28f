package bridge

import (
	"errors"
	"maps"
	"net/netip"
	"path"
	"slices"

	"flatnet/internal/nft"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// A Guard lets a bridge port send only what has its container's own MAC and IP
// addresses (macspoofchk).
type Guard struct {
	Port      string // the host end's name
	MAC       HardwareAddr
	Addresses []netip.Addr
	// AnyAddress leaves the IP addresses to the container, which configures itself.
	AnyAddress bool `json:",omitempty"`
}

func (a Attachment) guardOf(port string) *Guard {
	return &Guard{Port: port, MAC: a.MAC, Addresses: a.owner().Addresses, AnyAddress: a.NoAddress}
}

// entries are what the port may use, and that it may use nothing else. DHCP and
// duplicate address detection send from the unspecified address.
func (g Guard) entries(key Key) []entry {
	t := guardsOf(key.Network)
	name := nft.Name(g.Port)
	one := func(set nft.Set, value []byte) entry {
		return entry{set, nft.Element{Key: nft.Concat(name, value), Comment: key.String()}}
	}
	all := []entry{one(t.guarded(), nil), one(t.macs(), g.MAC[:])}
	if g.AnyAddress {
		return append(all, one(t.anyAddr(), nil))
	}
	for _, a := range append(g.Addresses[:len(g.Addresses):len(g.Addresses)],
		netip.IPv4Unspecified(), netip.IPv6Unspecified(), g.MAC.linkLocal()) {
		set := t.addrs4()
		if a.Is6() {
			set = t.addrs6()
		}
		all = append(all, one(set, a.AsSlice()))
	}
	return all
}

// linkLocal is the address that the kernel gives to an interface with that MAC
// (RFC 4291, appendix A).
func (a HardwareAddr) linkLocal() netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: a[0] ^ 2, a[1], a[2], 0xff, 0xfe, a[3], a[4], a[5]})
}

// guard makes the rules of a port of that name, which is not up yet.
func (h *Host) guard(a Attachment, port string) error {
	if !a.SpoofCheck {
		return nil
	}
	// What is in the frame of a link protocol would reach the host past the bridge.
	for _, family := range []string{"ipv4", "ipv6"} {
		name := path.Join("net", family, "conf", port, "drop_unicast_in_l2_multicast")
		if err := ifPossible(h.sysctl.Ensure(name, "1")); err != nil {
			return err
		}
	}
	w := a.wish()
	w.Guard = a.guardOf(port)
	return h.withNFT(true, func(c *nft.Conn) error {
		return h.records.during(func() error {
			h.records.saveWish(w)
			return c.Transact(func(b *nft.Batch) error {
				return errors.Join(guardsOf(a.Key.Network).ensure(c, b), claim(c, b, w.Guard.entries(a.Key)))
			})
		})
	})
}

// unguard removes key's elements. The table goes with the network's last.
func (t guardTable) unguard(c *nft.Conn, key Key, recorded wish, known bool) error {
	has, err := c.Has(t.Table)
	if errors.Is(err, nft.ErrUnsupported) || errors.Is(err, unix.EAFNOSUPPORT) || err == nil && !has {
		return nil
	}
	if err != nil {
		return err
	}
	return c.Transact(func(b *nft.Batch) error {
		var mine []entry
		var err error
		switch {
		case !known:
			mine, err = t.listed(c, key)
		case recorded.Guard != nil:
			mine, err = recordedOf(c, key, recorded.Guard.entries(key))
		}
		for _, els := range bySet(mine) {
			b.Delete(els)
		}
		return err
	})
}

// listed finds key's elements by listing the sets, of which a table that an older
// version made has fewer.
func (t guardTable) listed(c *nft.Conn, key Key) (mine []entry, err error) {
	for _, set := range t.sets() {
		found, err := listedOf(c, key, []nft.Set{set})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, err
		}
		mine = append(mine, found...)
	}
	return mine, nil
}

// follow gives the guards of host ends that were renamed the present names. A port
// whose name has no guard sends what it likes.
func (h *Host) follow(c *nft.Conn, wishes []wish, owners []Owner) (err error) {
	names := map[Key]string{}
	for _, o := range owners {
		names[o.Key] = o.Link
	}
	for i, w := range wishes {
		name := names[w.Key]
		if w.Guard == nil || name == "" || name == w.Guard.Port {
			continue
		}
		if uerr := guardsOf(w.Key.Network).unguard(c, w.Key, w, true); uerr != nil {
			err = errors.Join(err, uerr)
			continue
		}
		wishes[i].Guard.Port = name
		h.records.saveWish(wishes[i])
	}
	return err
}

// checkGuards reports what the guards of the network's attachments lack.
func (h *Host) checkGuards(n Network, owners []Owner) error {
	_, wishes, _ := h.records.all() // of what can't be read, a reload tells
	var wanted []entry
	for _, w := range wishes {
		i := slices.IndexFunc(owners, func(o Owner) bool { return o.Key == w.Key })
		if w.Guard == nil || i < 0 {
			continue
		}
		g := *w.Guard
		g.Port = owners[i].Link
		wanted = append(wanted, g.entries(w.Key)...)
	}
	return h.withNFT(len(wanted) > 0, func(c *nft.Conn) error {
		return errors.Join(checkChains(c, guardsOf(n.Name).chains()), checkEntries(c, wanted))
	})
}

// checkEntries reports entries that are not there, or are another owner's.
func checkEntries(c *nft.Conn, wanted []entry) error {
	have, err := see(c, wanted)
	if err != nil {
		return err
	}
	missing := map[string]bool{}
	for _, e := range wanted {
		if have[e.place()].Comment != e.Comment {
			missing[e.Comment] = true
		}
	}
	for _, owner := range slices.Sorted(maps.Keys(missing)) {
		err = errors.Join(err, changed("macspoofchk of %s has lost elements (flatnet reload restores them)", owner))
	}
	return err
}

// tryGuard finds out whether the kernel could make the guards' rules, unless they
// are there.
func tryGuard(c *nft.Conn, network string) error {
	t := guardsOf(network)
	ok, err := t.stands(c)
	if ok || err != nil {
		return err
	}
	var b nft.Batch
	t.add(&b)
	return try(c, &b, t.Table)
}

func (h *Host) checkGuard(c *rtnl.Conn, a Attachment) error {
	links, err := hostEnds(c, a.Key)
	if err != nil || !a.SpoofCheck || len(links) == 0 {
		return err
	}
	g := a.guardOf(links[0].Name)
	w, _ := h.records.wish(a.Key)
	return h.withNFT(true, func(c *nft.Conn) error {
		if err := checkEntries(c, g.entries(a.Key)); errors.Is(err, ErrChanged) && w.Guard == nil {
			return changed("%s was attached without macspoofchk, and has it when it is attached again", a.Key)
		}
		return errors.Join(checkChains(c, guardsOf(a.Key.Network).chains()), checkEntries(c, g.entries(a.Key)))
	})
}
