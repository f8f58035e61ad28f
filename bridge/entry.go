package bridge

import (
	"bytes"
	"errors"
	"slices"

	"flatnet/internal/nft"

	"golang.org/x/sys/unix"
)

// An entry is an element and its set. Its comment is the owner's key.
type entry struct {
	set nft.Set
	nft.Element
}

// same says whether both are at one place.
func (e entry) same(o entry) bool {
	return e.set.Table == o.set.Table && e.set.Name == o.set.Name && bytes.Equal(e.Key, o.Key)
}

// claim puts into a batch the entries that are not there as they should be, in
// place of stale ones. An earlier owner's under their keys is replaced only in
// sets, whose keys are addresses and bridge ports: these are the attachment's
// own now. If somebody else makes one of them first, the batch fails (EEXIST).
func claim(c *nft.Conn, b *nft.Batch, wanted, stale []entry) error {
	for _, e := range stale {
		b.Delete(nft.Elements{Set: e.set, List: []nft.Element{e.Element}})
	}
	var missing []entry
	for _, e := range wanted {
		old, found, err := c.Element(e.set, e.Key)
		switch {
		case err != nil:
			return err
		case found && old.Comment == e.Comment && bytes.Equal(old.Data, e.Data):
			continue
		case found && !slices.ContainsFunc(stale, e.same) && (e.Data == nil || old.Comment == e.Comment):
			b.Delete(nft.Elements{Set: e.set, List: []nft.Element{e.Element}})
		}
		missing = append(missing, e)
	}
	for _, els := range bySet(missing) {
		b.Create(els)
	}
	return nil
}

// bySet puts the entries of each set into one list, in the order in which the
// sets first come.
func bySet(entries []entry) (all []nft.Elements) {
	for _, e := range entries {
		i := slices.IndexFunc(all, func(els nft.Elements) bool {
			return els.Set.Table == e.set.Table && els.Set.Name == e.set.Name
		})
		if i < 0 {
			all = append(all, nft.Elements{Set: e.set})
			i = len(all) - 1
		}
		all[i].List = append(all[i].List, e.Element)
	}
	return all
}

// own finds key's entries in sets by their comments, and says whether there are
// others. Where the list changes all the time, those on record are asked for
// one by one.
func own(c *nft.Conn, key Key, sets []nft.Set, recorded []entry) (mine []entry, others bool, err error) {
	for _, set := range sets {
		all, err := c.Elements(set)
		if errors.Is(err, unix.EAGAIN) {
			mine, err := recordedOf(c, key, sets, recorded)
			return mine, true, err
		}
		if err != nil {
			return nil, false, err
		}
		for _, e := range all {
			if e.Comment == key.String() {
				mine = append(mine, entry{set, e})
			} else {
				others = true
			}
		}
	}
	return mine, others, nil
}

func recordedOf(c *nft.Conn, key Key, sets []nft.Set, recorded []entry) (mine []entry, err error) {
	for _, e := range recorded {
		if !slices.ContainsFunc(sets, func(s nft.Set) bool { return s.Table == e.set.Table }) {
			continue
		}
		found, ok, err := c.Element(e.set, e.Key)
		if err != nil {
			return nil, err
		}
		if ok && found.Comment == key.String() {
			mine = append(mine, entry{e.set, found})
		}
	}
	return mine, nil
}
