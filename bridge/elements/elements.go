// Package elements works with elements of nf_tables' sets and maps that belong to
// attachments: the comment of each is its owner's key. What is done to many elements
// takes few messages.
package elements

import (
	"bytes"
	"errors"
	"slices"

	"flatnet/bridge/model"
	"flatnet/internal/nft"

	"golang.org/x/sys/unix"
)

// An Element is an element with its set.
type Element struct {
	Set nft.Set
	nft.Element
}

// A Place is where an element is: at most one element is at a place.
type Place struct {
	table    nft.Table
	set, key string
}

// Place returns the element's place.
func (e Element) Place() Place { return Place{e.Set.Table, e.Set.Name, string(e.Key)} }

// A View is what was found at some places.
type View map[Place]nft.Element

// Look looks at the places of elements. Its cost grows with their number only.
func Look(c *nft.Conn, at []Element) (View, error) {
	v := View{}
	for _, els := range bySet(at) {
		var keys [][]byte
		asked := map[string]bool{}
		for _, e := range els.List {
			if key := string(e.Key); !asked[key] {
				asked[key] = true
				keys = append(keys, e.Key)
			}
		}
		found, err := c.Find(els.Set, keys)
		if err != nil {
			return nil, err
		}
		for key, e := range found {
			v[Place{els.Set.Table, els.Set.Name, key}] = e
		}
	}
	return v, nil
}

// Has reports whether e is there, with its owner and data.
func (v View) Has(e Element) bool {
	have, found := v[e.Place()]
	return found && have.Comment == e.Comment && bytes.Equal(have.Data, e.Data)
}

// Put adds to a batch the elements that are not there as they should be, in place of
// stale ones. An earlier owner's under their keys is replaced only in sets, whose keys
// are addresses and bridge ports: these are the attachment's own now.
func (v View) Put(b *nft.Batch, wanted, stale []Element) {
	removed := map[Place]bool{}
	for _, e := range stale {
		removed[e.Place()] = true
	}
	var missing []Element
	for _, e := range wanted {
		old, found := v[e.Place()]
		if v.Has(e) {
			continue
		}
		if found && !removed[e.Place()] && (e.Data == nil || old.Comment == e.Comment) {
			removed[e.Place()] = true
			stale = append(stale, e)
		}
		missing = append(missing, e)
	}
	Delete(b, stale)
	create(b, missing)
}

// Fill adds to a batch those elements whose places are empty; of several for one
// place, the first.
func (v View) Fill(b *nft.Batch, wanted []Element) {
	var missing []Element
	for _, e := range wanted {
		if _, found := v[e.Place()]; !found {
			v[e.Place()] = e.Element
			missing = append(missing, e)
		}
	}
	create(b, missing)
}

func create(b *nft.Batch, all []Element) {
	for _, els := range bySet(all) {
		b.Create(els)
	}
}

// Delete adds the removal of elements to a batch. They must exist.
func Delete(b *nft.Batch, all []Element) {
	for _, els := range bySet(all) {
		b.Delete(els)
	}
}

// bySet puts the elements of each set into one list, in the order in which the
// sets first come.
func bySet(all []Element) (lists []nft.Elements) {
	at := map[Place]int{} // without a key
	for _, e := range all {
		set := Place{table: e.Set.Table, set: e.Set.Name}
		i, ok := at[set]
		if !ok {
			i = len(lists)
			at[set] = i
			lists = append(lists, nft.Elements{Set: e.Set})
		}
		lists[i].List = append(lists[i].List, e.Element)
	}
	return lists
}

// Owned returns key's elements: of those that are recorded of it, or without any, at a
// cost that grows with the sets, of all in the sets.
func Owned(c *nft.Conn, key model.Key, recorded []Element, sets ...nft.Set) (mine []Element, err error) {
	if mine, err = Find(c, recorded); len(recorded) == 0 {
		mine, err = List(c, sets...)
	}
	return slices.DeleteFunc(mine, func(e Element) bool { return e.Comment != key.String() }), err
}

// List lists the elements of sets. A set that does not exist has none.
func List(c *nft.Conn, sets ...nft.Set) (all []Element, err error) {
	for _, set := range sets {
		found, err := c.Elements(set)
		if err != nil && !Absent(err) {
			return nil, err
		}
		for _, e := range found {
			all = append(all, Element{set, e})
		}
	}
	return all, nil
}

// Find returns the elements that are at places, each once, whoever owns them.
func Find(c *nft.Conn, at []Element) (all []Element, err error) {
	v, err := Look(c, at)
	for _, e := range at {
		if there, found := v[e.Place()]; found {
			delete(v, e.Place())
			all = append(all, Element{e.Set, there})
		}
	}
	return all, err
}

// Absent reports an error about a set or table that does not exist, or can't in this
// kernel.
func Absent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, nft.ErrUnsupported)
}
