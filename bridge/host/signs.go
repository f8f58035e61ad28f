package host

import (
	"math/bits"
	"slices"

	"flatnet/bridge/model"
	"flatnet/rtnl"
)

// Signs show whose host end a link is. ADD gives it all of them, and root may change each.
type Signs uint8

const (
	ByName   Signs = 1 << iota // it has a name that the attachment's host end may have
	ByMAC                      // its MAC address is the mark
	ByAlias                    // its alias names the attachment
	AllSigns = ByName | ByMAC | ByAlias
)

// count returns how many signs there are.
func (s Signs) count() int { return bits.OnesCount8(uint8(s)) }

// An Index finds host ends by their signs, also those that somebody has changed.
type Index struct {
	names, marks map[string]rtnl.Link
	keys         map[model.Key]rtnl.Link
}

// NewIndex returns an index of the host's links.
func NewIndex(links []rtnl.Link) *Index {
	x := &Index{map[string]rtnl.Link{}, map[string]rtnl.Link{}, map[model.Key]rtnl.Link{}}
	for _, l := range links {
		if l.Kind != "veth" { // the device of a bandwidth limit has its link's mark, and outlives it
			continue
		}
		x.names[l.Name], x.marks[string(l.MAC)] = l, l
		if key, _, ok := model.CutAlias(l.Alias); ok {
			x.keys[key] = l
		}
	}
	return x
}

// Find returns the link that has the most signs of an attachment, and these: 0 without such
// a link. names are further ones that its host end may have, such as the recorded one.
//
// One sign is enough for what must not be taken from a container that runs: anybody who is
// root can make a link of that name, but then too much is kept, and not too little.
func (x *Index) Find(key model.Key, names ...string) (found rtnl.Link, has Signs) {
	own := key.HostNames()
	names = append(names, own[:]...)
	mark := key.Mark()
	candidates := []rtnl.Link{x.keys[key], x.marks[string(mark[:])]}
	for _, name := range names {
		candidates = append(candidates, x.names[name])
	}
	for _, l := range candidates {
		if l.Kind == "" { // most keys that are asked for have no link
			continue
		}
		if signs := signsOf(key, names, l); signs.count() > has.count() {
			found, has = l, signs
		}
	}
	return found, has
}

// signsOf returns the signs of key that a link has. A link with the MAC address and alias of
// another attachment has none: names begin alike where container IDs do.
func signsOf(key model.Key, names []string, l rtnl.Link) (has Signs) {
	for _, o := range Owners([]rtnl.Link{l}) {
		if o.Key != key && o.Key != (model.Key{}) {
			return 0
		}
	}
	mark := key.Mark()
	if string(l.MAC) == string(mark[:]) {
		has |= ByMAC
	}
	if named, _, ok := model.CutAlias(l.Alias); ok && named == key {
		has |= ByAlias
	}
	if slices.Contains(names, l.Name) && l.Name != "" {
		has |= ByName
	}
	return has
}

// Attached reports whether any link is an attachment's of the network. One whose alias is
// not readable counts if it has another sign of one of keys: of an ADD that was killed, whose
// own DEL will come, or of an attachment whose alias somebody took.
func Attached(links []rtnl.Link, network string, keys []model.Key) bool {
	var unclear []rtnl.Link // the others are no attachment's, or surely another network's
	for _, l := range links {
		key, _, named := model.CutAlias(l.Alias)
		if l.Kind == "veth" && named && key.Network == network {
			return true
		}
		if o := Owners([]rtnl.Link{l}); len(o) > 0 && o[0].Key == (model.Key{}) {
			unclear = append(unclear, l)
		}
	}
	x := NewIndex(unclear)
	return len(unclear) > 0 && slices.ContainsFunc(keys, func(key model.Key) bool { _, has := x.Find(key); return has != 0 })
}

// Living reports whether a link has a sign of any of some recorded attachments.
func Living(links []rtnl.Link, recorded map[model.Key]*model.Attachment) bool {
	x := NewIndex(links)
	for key, a := range recorded {
		if _, has := x.Find(key, a.HostEnd); has != 0 {
			return true
		}
	}
	return false
}
