package ports

import (
	"errors"
	"maps"
	"slices"

	"flatnet/bridge/elements"
	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/nft"

	"golang.org/x/sys/unix"
)

// Leaving has the attachments whose ports are removed, each with its record. Ports of one
// whose record is nil are found by listing the maps, if it has any.
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
		gone = append(gone, t.publications(mine)...)
		wanted := slices.DeleteFunc(t.elements(heirs...), func(e nft.Element) bool { return !l.stays(e) })
		if last && len(wanted) == 0 {
			tx.Delete(t.Table)
			continue
		}
		freed := elements.ViewOf(mine)
		tx.Delete(nft.Elements(mine))
		wanted = slices.DeleteFunc(wanted, func(e nft.Element) bool { return freed[e.Place()].Key == "" })
		elements.View{}.Fill(tx.Batch, wanted)
	}
	return gone, nil
}

// owned returns the elements of attachments that leave, and whether the table has no
// others. Records of a few ports are believed: then it lists only selves, which has few
// elements, as long as others have ports.
func (t *table) owned(c *nft.Conn, l Leaving) (mine []nft.Element, last bool, err error) {
	known := slices.DeleteFunc(slices.Collect(maps.Values(l)), func(a *model.Attachment) bool { return a == nil })
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
