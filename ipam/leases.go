package ipam

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"flatnet/bridge/model"
)

// A lease is an attachment and the addresses that it has.
type lease struct {
	key   model.Key
	addrs []netip.Addr
}

// leases are the leases of one network: the lease file's content. No two have
// the same address.
//
// A lease's name is the container ID for the container's first interface in the
// network, and <container ID>/<interface> for a further one.
type leases struct {
	network string
	subnet  netip.Prefix // of the first range, for other tools
	gateway netip.Addr   // of the first range, for other tools
	boot    string       // boot ID at the time of writing
	last    []netip.Addr // next-fit: the address leased last, by range set; invalid: none
	byName  map[string]lease
	byAddr  map[netip.Addr]string // names

	// unsure: an ADD is in flight whose lease was lost, so that the next process
	// must compare these leases with the links once more.
	unsure bool
}

// newLeases has room for n leases.
func newLeases(network string, n int) *leases {
	return &leases{network: network, byName: make(map[string]lease, n), byAddr: make(map[netip.Addr]string, n)}
}

// find returns the name of key's lease, empty if it has none.
func (l *leases) find(key model.Key) string {
	for _, name := range [...]string{key.ContainerID + "/" + key.IfName, key.ContainerID} {
		if l.byName[name].key == key {
			return name
		}
	}
	return ""
}

// put adds a lease, none of whose addresses is leased, for a key that has none.
func (l *leases) put(key model.Key, addrs []netip.Addr) {
	name := key.ContainerID
	if _, ok := l.byName[name]; ok {
		name += "/" + key.IfName
	}
	l.byName[name] = lease{key, addrs}
	for _, a := range addrs {
		l.byAddr[a] = name
	}
}

// remove removes the lease of that name, if there is one, and returns its
// addresses.
func (l *leases) remove(name string) []netip.Addr {
	addrs := l.byName[name].addrs
	for _, a := range addrs {
		delete(l.byAddr, a)
	}
	delete(l.byName, name)
	return addrs
}

// removeAddr removes an address from the lease that has it, if any.
func (l *leases) removeAddr(a netip.Addr) {
	name := l.byAddr[a]
	key := l.byName[name].key
	rest := slices.DeleteFunc(l.remove(name), func(b netip.Addr) bool { return a == b })
	if len(rest) > 0 {
		l.put(key, rest)
	}
}

// adopt gives the owners of live leases exactly the addresses that they have
// there, and returns how many had others. Other leases lose these addresses.
func (l *leases) adopt(live *leases) (changed int) {
	for _, name := range live.names() {
		le := live.byName[name]
		old := l.find(le.key)
		if old != "" && equal(l.byName[old].addrs, le.addrs) {
			continue
		}
		changed++
		l.remove(old)
		for _, a := range le.addrs {
			l.removeAddr(a)
		}
		l.put(le.key, le.addrs)
	}
	return changed
}

// check reports a [model.ErrChanged] unless key has exactly addrs.
func (l *leases) check(key model.Key, addrs []netip.Addr) error {
	if name := l.find(key); name != "" {
		if has := l.byName[name].addrs; !equal(has, addrs) {
			return model.Errorf(model.ErrChanged, "%s has leased %v, not %v", key, has, addrs)
		}
		return nil
	}
	for _, a := range addrs {
		if name, ok := l.byAddr[a]; ok {
			return model.Errorf(model.ErrChanged, "address %s of %s is leased to %s", a, key, l.byName[name].key)
		}
	}
	return model.Errorf(model.ErrChanged, "lease of %s is missing", key)
}

func (l *leases) keys() (keys []model.Key) {
	for _, name := range l.names() {
		keys = append(keys, l.byName[name].key)
	}
	return keys
}

func (l *leases) names() []string { return slices.Sorted(maps.Keys(l.byName)) }

// equal compares two lists of addresses regardless of their order.
func equal(a, b []netip.Addr) bool {
	return slices.Equal(
		slices.SortedFunc(slices.Values(a), netip.Addr.Compare),
		slices.SortedFunc(slices.Values(b), netip.Addr.Compare))
}

// rebuild returns the leases of the network that the host's links show. Of two
// owners with one address, the first by key has it.
func rebuild(network string, owners []model.Owner) *leases {
	l := newLeases(network, 0)
	for _, o := range slices.SortedStableFunc(slices.Values(owners), func(a, b model.Owner) int {
		return cmp.Compare(a.Key.String(), b.Key.String())
	}) {
		if checkKey(network, o.Key) != nil {
			continue
		}
		var addrs []netip.Addr
		for _, a := range o.Addresses {
			if isPlain(a) && l.byAddr[a] == "" && !slices.Contains(addrs, a) {
				addrs = append(addrs, a)
			}
		}
		addrs = append(addrs, l.remove(l.find(o.Key))...) // those of a further link
		if len(addrs) > 0 {
			l.put(o.Key, addrs)
		}
	}
	return l
}

// checkKey reports a [model.ErrInvalid] unless key is a valid one of the network.
func checkKey(network string, key model.Key) error {
	if k, err := model.NewKey(network, key.ContainerID, key.IfName); err != nil || k != key {
		return model.Errorf(model.ErrInvalid, "attachment %q of network %q", key, network)
	}
	return nil
}
