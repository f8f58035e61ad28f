// Package elements works with elements of nf_tables' sets and maps that belong to
// attachments: the comment of each is its owner's key. What is done to many elements
// takes few messages.
package elements

import (
	"errors"
	"slices"

	"flatnet/internal/nft"

	"golang.org/x/sys/unix"
)

// A View has the elements that were found, by their places.
type View map[nft.Element]nft.Element

// ViewOf returns the view of elements that were found.
func ViewOf(found []nft.Element) View {
	v := View{}
	for _, e := range found {
		v[e.Place()] = e
	}
	return v
}

// Look looks at the places of elements. Its cost grows with their number only.
func Look(c *nft.Conn, at []nft.Element) (View, error) {
	found, err := c.Find(at)
	return ViewOf(found), err
}

// Has reports whether e is there, with its owner and data.
func (v View) Has(e nft.Element) bool { return v[e.Place()] == e }

// Put adds to a batch the elements that are not there as they should be, in place of
// stale ones, which the view loses. An earlier owner's under their keys is replaced only in sets, whose keys
// are addresses and bridge ports: these are the attachment's own now.
func (v View) Put(b *nft.Batch, wanted, stale []nft.Element) {
	for _, e := range stale {
		delete(v, e.Place())
	}
	missing := nft.Elements(slices.DeleteFunc(slices.Clone(wanted), v.Has))
	for _, e := range missing {
		old, found := v[e.Place()]
		if found && (e.Data == "" || old.Comment == e.Comment) {
			delete(v, e.Place())
			stale = append(stale, e)
		}
	}
	b.Delete(nft.Elements(stale))
	b.Create(missing)
}

// Fill adds to a batch those elements whose places are empty; of several for one
// place, the first.
func (v View) Fill(b *nft.Batch, wanted []nft.Element) {
	var missing nft.Elements
	for _, e := range wanted {
		if _, found := v[e.Place()]; !found {
			v[e.Place()] = e
			missing = append(missing, e)
		}
	}
	b.Create(missing)
}

// List lists the elements of sets. One that is absent has none.
func List(c *nft.Conn, sets ...nft.Set) (all []nft.Element, err error) {
	for _, set := range sets {
		found, err := c.Elements(set)
		if err != nil && !Absent(err) {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// Absent reports an error about a set or table that does not exist, or can't in this
// kernel.
func Absent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, nft.ErrUnsupported)
}
