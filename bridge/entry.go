package bridge

import (
	"bytes"

	"flatnet/internal/nft"
)

// An entry is an element and its set. Its comment is the owner's key.
type entry struct {
	set nft.Set
	nft.Element
}

// A place is where an entry is: at most one entry is at a place.
type place struct {
	table    nft.Table
	set, key string
}

func (e entry) place() place { return place{e.set.Table, e.set.Name, string(e.Key)} }

// A view is what was found at some places.
type view map[place]nft.Element

// see looks at the places of entries. Its cost grows with their number only.
func see(c *nft.Conn, entries []entry) (view, error) {
	v := view{}
	for _, els := range bySet(entries) {
		if err := v.find(c, els); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (v view) find(c *nft.Conn, els nft.Elements) error {
	var keys [][]byte
	asked := map[string]bool{}
	for _, e := range els.List {
		if key := string(e.Key); !asked[key] {
			asked[key] = true
			keys = append(keys, e.Key)
		}
	}
	found, err := c.Find(els.Set, keys)
	for key, e := range found {
		v[place{els.Set.Table, els.Set.Name, key}] = e
	}
	return err
}

// claim puts into a batch the entries that are not there as they should be. An
// earlier owner's under their keys is replaced only in sets, whose keys are
// addresses and bridge ports: these are the attachment's own now.
func claim(c *nft.Conn, b *nft.Batch, wanted []entry) error {
	have, err := see(c, wanted)
	if err == nil {
		put(b, have, wanted, nil)
	}
	return err
}

// put is claim for places that have been looked at, in place of stale entries.
func put(b *nft.Batch, have view, wanted, stale []entry) {
	out := map[place]bool{}
	for _, e := range stale {
		out[e.place()] = true
	}
	var missing []entry
	for _, e := range wanted {
		old, found := have[e.place()]
		switch {
		case found && old.Comment == e.Comment && bytes.Equal(old.Data, e.Data):
			continue
		case found && !out[e.place()] && (e.Data == nil || old.Comment == e.Comment):
			out[e.place()] = true
			stale = append(stale, e)
		}
		missing = append(missing, e)
	}
	for _, els := range bySet(stale) {
		b.Delete(els)
	}
	for _, els := range bySet(missing) {
		b.Create(els)
	}
}

// lacking puts into a batch those entries whose places are empty; of several for
// one place, the first.
func lacking(c *nft.Conn, b *nft.Batch, wanted []entry) error {
	have, err := see(c, wanted)
	if err != nil {
		return err
	}
	var missing []entry
	for _, e := range wanted {
		if _, found := have[e.place()]; !found {
			have[e.place()] = e.Element
			missing = append(missing, e)
		}
	}
	for _, els := range bySet(missing) {
		b.Create(els)
	}
	return nil
}

// bySet puts the entries of each set into one list, in the order in which the
// sets first come.
func bySet(entries []entry) (all []nft.Elements) {
	at := map[place]int{} // without a key
	for _, e := range entries {
		set := place{table: e.set.Table, set: e.set.Name}
		i, ok := at[set]
		if !ok {
			i = len(all)
			at[set] = i
			all = append(all, nft.Elements{Set: e.set})
		}
		all[i].List = append(all[i].List, e.Element)
	}
	return all
}

// recordedOf returns those of the recorded entries that are there and key's.
func recordedOf(c *nft.Conn, key Key, recorded []entry) (mine []entry, err error) {
	have, err := see(c, recorded)
	for _, e := range recorded {
		if found, ok := have[e.place()]; ok && found.Comment == key.String() {
			mine = append(mine, entry{e.set, found})
		}
	}
	return mine, err
}

// listedOf finds key's entries by listing the sets.
func listedOf(c *nft.Conn, key Key, sets []nft.Set) (mine []entry, err error) {
	for _, set := range sets {
		all, err := c.Elements(set)
		if err != nil {
			return nil, err
		}
		for _, e := range all {
			if e.Comment == key.String() {
				mine = append(mine, entry{set, e})
			}
		}
	}
	return mine, nil
}
