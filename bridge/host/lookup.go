package host

import "flatnet/rtnl"

// A Lookup finds links for a caller that may have many of them to find. It asks for the first
// ones, each once, and then lists all links: so its messages are bounded. What it returns was
// so when it first asked.
type Lookup struct {
	host    *Host
	asked   int
	listed  bool
	byName  map[string]rtnl.Link
	byIndex map[int]rtnl.Link
}

// maxAsked is how many links a Lookup asks for one by one. A list of all links is long on a
// host with many containers.
const maxAsked = 8

// Lookup returns one that has asked for nothing yet.
func (h *Host) Lookup() *Lookup {
	return &Lookup{host: h, byName: map[string]rtnl.Link{}, byIndex: map[int]rtnl.Link{}}
}

// Name returns the link of a name; it is zero if there is none.
func (l *Lookup) Name(name string) (rtnl.Link, error) {
	return find(l, l.byName, name, l.host.LinkByName)
}

// Index returns the link of an index; it is zero if there is none.
func (l *Lookup) Index(index int) (rtnl.Link, error) {
	return find(l, l.byIndex, index, l.host.LinkByIndex)
}

func find[K comparable](l *Lookup, known map[K]rtnl.Link, key K, ask func(K) (rtnl.Link, error)) (rtnl.Link, error) {
	if link, found := known[key]; found || l.listed {
		return link, nil
	}
	if l.asked++; l.asked <= maxAsked {
		link, err := ask(key)
		if err == nil {
			known[key] = link
		}
		return link, err
	}
	all, err := l.host.Links()
	if err != nil {
		return rtnl.Link{}, err
	}
	l.listed = true
	for _, link := range all {
		l.byName[link.Name], l.byIndex[link.Index] = link, link
	}
	return known[key], nil
}
