package ports

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"flatnet/bridge/elements"
	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/nft"

	"golang.org/x/sys/unix"
)

// Replaceable reports whether the elements of an owner, a [model.Key] as text, may be
// replaced. It is asked once about each owner and family.
type Replaceable func(owner string) (bool, error)

// Put makes an attachment's ports reachable, all or none. A port that another one has is
// a [model.ErrTaken], unless its elements are replaceable, or that is of the same
// container: then the port stays there. addrs are the host's addresses. Ports that
// were taken from others are returned: see [Forget].
func Put(tx *host.Tx, a *model.Attachment, addrs []netip.Addr, r Replaceable) (replaced []model.Publication, err error) {
	for _, t := range using(a) {
		if err := t.ensure(tx, addrs); err != nil {
			return nil, err
		}
		rivals, err := t.rivals(tx.Conn, addrs)
		if err != nil {
			return nil, err
		}
		found, err := tx.Find(slices.Concat(t.wanted, rivals))
		if err != nil {
			return nil, err
		}
		keeps, err := keepers(found, a.Key, r)
		if err != nil {
			return nil, err
		}
		stale := slices.DeleteFunc(slices.Clone(found), func(e nft.Element) bool { // those of others who keep nothing
			stays, other := keeps[e.Comment]
			return e.Data == "" || stays || !other
		})
		have := elements.ViewOf(found)
		wanted := slices.DeleteFunc(t.wanted, func(e nft.Element) bool {
			return e.Data != "" && keeps[have[e.Place()].Comment]
		})
		have.Put(tx.Batch, wanted, stale)
		replaced = append(replaced, publications(stale)...)
	}
	return replaced, nil
}

// keepers returns the owners of ports that key's are in the way of, and whether they keep
// them.
func keepers(found []nft.Element, key model.Key, r Replaceable) (map[string]bool, error) {
	keeps := map[string]bool{}
	for _, e := range found {
		_, asked := keeps[e.Comment]
		if asked || e.Data == "" || e.Comment == key.String() {
			continue
		}
		old, err := r(e.Comment)
		if err != nil {
			return nil, err
		}
		if !old && !key.SharesContainer(e.Comment) {
			p, _ := publication(e)
			return nil, model.Errorf(model.ErrTaken, "%v is published by %s; choose another host port, or remove that container", p, e.Comment)
		}
		keeps[e.Comment] = !old
	}
	return keeps, nil
}

// Restore adds what the ports of attachments lack, if any are published, and takes
// nothing from others: of several attachments that want a port, the first one gets it.
// Ports that were to be withdrawn are, whose call was killed before it did.
func Restore(tx *host.Tx, all []*model.Attachment, addrs []netip.Addr) error {
	changed := Leaving{}
	for _, a := range all {
		if a.ByHand {
			changed[a.Key] = a
		}
	}
	if len(changed) > 0 {
		if _, err := Withdraw(tx, changed, all); err != nil {
			return err
		}
	}
	return Complete(tx, all, addrs)
}

// Complete is Restore that removes nothing.
func Complete(tx *host.Tx, all []*model.Attachment, addrs []netip.Addr) error {
	for _, t := range using(all...) {
		if err := t.ensure(tx, addrs); err != nil {
			return err
		}
		have, err := elements.Look(tx.Conn, t.wanted)
		if err != nil {
			return err
		}
		have.Fill(tx.Batch, t.wanted)
	}
	return nil
}

// askedUpTo is the number of places of rivals up to which all are returned. There may be
// many times the number of elements that the map has.
const askedUpTo = 4096

// rivals returns the places where elements of others would be in the way of wanted ones: on
// all addresses, of a port of one address; on any address of the host, of a port of all.
// Their number does not grow with the product of ports and addresses: if that is large, the
// map is listed, and only places of elements that it has are returned.
func (t *table) rivals(c *nft.Conn, addrs []netip.Addr) (places []nft.Element, err error) {
	own, everywhere := t.ofFamily(addrs), map[model.Publication]bool{}
	for _, e := range t.wanted {
		switch p, ok := publication(e); {
		case ok && p.Everywhere():
			everywhere[p.HostPort()] = true
		case ok:
			places = append(places, t.element(p.HostPort(), ""))
		}
	}
	if len(everywhere)*len(own) > askedUpTo {
		all, err := elements.List(c, t.somewhere)
		return append(places, slices.DeleteFunc(all, func(e nft.Element) bool {
			p, _ := publication(e)
			return !everywhere[p.HostPort()] || !slices.Contains(own, p.Host.Addr())
		})...), err
	}
	for p := range everywhere {
		for _, addr := range own {
			places = append(places, t.element(p.On(addr), ""))
		}
	}
	return places, nil
}

// someFaults is how many ports of a table are listed as faults: a list of thousands helps
// nobody.
const someFaults = 10

// Faults lists what the ports of attachments lack. A port that another attachment of
// the container has is not missing.
func Faults(c *nft.Conn, all ...*model.Attachment) (found []model.Fault, err error) {
	for _, t := range using(all...) {
		chains, _, err := t.missing(c, false)
		if err != nil {
			return nil, err
		}
		have, err := elements.Look(c, t.wanted)
		if err != nil {
			return nil, err
		}
		found = append(found, host.ChainFaults(chains)...)
		add := func(thing, state, mend string) {
			found = append(found, model.Fault{Thing: thing, State: state, Mend: mend, Table: t.String()})
		}
		lost := slices.DeleteFunc(t.wanted, func(e nft.Element) bool {
			if owner := have[e.Place()].Comment; owner != e.Comment {
				key, _ := model.ParseKey(e.Comment)
				return key.SharesContainer(owner)
			}
			return have.Has(e)
		})
		for _, e := range lost[:min(len(lost), someFaults)] {
			if p, ok := publication(e); ok {
				add(p.String(), "not forwarded to "+p.Target.String(), "is forwarded to "+p.Target.String())
			} else {
				add(e.Set.String(), "without an element of "+e.Comment, "gets an element of "+e.Comment)
			}
		}
		if more := len(lost) - someFaults; more > 0 {
			add(t.String(), fmt.Sprintf("without %d more elements", more), fmt.Sprintf("gets %d more elements", more))
		}
	}
	return found, nil
}

// Leaving has the attachments whose ports are removed, each with its record. Ports of one
// whose record is nil, or was changed by hand, are found by listing the maps, if it has any:
// the record is changed before they are.
type Leaving map[model.Key]*model.Attachment

// stays reports whether an element belongs to none of them.
func (l Leaving) stays(e nft.Element) bool {
	key, _ := model.ParseKey(e.Comment)
	_, leaves := l[key]
	return !leaves
}

// Remove removes the ports of attachments, and a table with its last ones. Heirs get ports
// that are free now and that they wanted, too: they are attachments of the same containers,
// or all those that the same transaction restores. The ports that are gone are returned:
// see [Forget].
func Remove(tx *host.Tx, l Leaving, heirs []*model.Attachment) (gone []model.Publication, err error) {
	for _, t := range tables() {
		mine, last, err := t.owned(tx.Conn, l)
		if err != nil {
			return nil, err
		}
		gone = append(gone, publications(mine)...)
		t.inherit(tx, mine, last, slices.DeleteFunc(t.elements(heirs...), func(e nft.Element) bool { return !l.stays(e) }))
	}
	return gone, nil
}

// Withdraw removes ports that attachments have beyond those of their records, which were
// changed by hand. Heirs are as for [Remove], and so are the ports that are gone.
func Withdraw(tx *host.Tx, changed Leaving, heirs []*model.Attachment) (gone []model.Publication, err error) {
	for _, t := range tables() {
		mine, last, err := t.owned(tx.Conn, changed)
		if err != nil {
			return nil, err
		}
		kept := elements.ViewOf(t.elements(slices.Collect(maps.Values(changed))...))
		mine = slices.DeleteFunc(mine, kept.Has)
		gone = append(gone, publications(mine)...)
		t.inherit(tx, mine, last && len(kept) == 0, slices.DeleteFunc(t.elements(heirs...), kept.Has))
	}
	return gone, nil
}

// inherit removes elements, and the table with the last ones. Those of wanted whose places
// are free then are added.
func (t *table) inherit(tx *host.Tx, mine []nft.Element, last bool, wanted []nft.Element) {
	if last && len(wanted) == 0 {
		tx.Delete(t.Table)
		return
	}
	freed := elements.ViewOf(mine)
	tx.Delete(nft.Elements(mine))
	wanted = slices.DeleteFunc(wanted, func(e nft.Element) bool { return freed[e.Place()].Key == "" })
	elements.View{}.Fill(tx.Batch, wanted)
}

// owned returns the elements of attachments that leave, and whether the table has no
// others. Records of a few ports are believed: then it lists only selves, which has few
// elements, as long as others have ports.
func (t *table) owned(c *nft.Conn, l Leaving) (mine []nft.Element, last bool, err error) {
	known := slices.DeleteFunc(slices.Collect(maps.Values(l)), func(a *model.Attachment) bool { return a == nil || a.ByHand })
	recorded, complete := t.elements(known...), len(known) == len(l)
	if len(recorded) == 0 && complete {
		return nil, false, nil
	}
	selves, err := c.Elements(t.selves)
	if elements.Absent(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	last = !slices.ContainsFunc(selves, l.stays)
	leaves := slices.ContainsFunc(selves, func(e nft.Element) bool { return !l.stays(e) })
	listed := last || leaves && (!complete || len(recorded) > askedUpTo)
	if listed {
		mine, err = elements.List(c, t.sets()...)
	}
	if !listed || complete && errors.Is(err, unix.EAGAIN) { // the maps change all the time
		last = false
		mine, err = c.Find(recorded)
	}
	all := len(mine)
	mine = slices.DeleteFunc(mine, l.stays)
	return mine, last && len(mine) == all, err
}

// Owners lists the attachments that have published ports, those of both families twice.
func Owners(c *nft.Conn) (keys []model.Key, err error) {
	for _, t := range tables() {
		all, err := elements.List(c, t.selves)
		if err != nil {
			return nil, err
		}
		for _, e := range all {
			if key, ok := model.ParseKey(e.Comment); ok {
				keys = append(keys, key)
			}
		}
	}
	return keys, nil
}
