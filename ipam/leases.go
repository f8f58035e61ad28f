package ipam

import (
	"net/netip"
	"slices"
	"strings"

	"flatnet/bridge/model"
)

// A lease is what the lease file says under one name.
type lease struct {
	key   model.Key
	addrs []netip.Addr
}

// leases are the leases of one network: the lease file's content. No two hold
// the same address.
//
// A name is a container ID for its first interface in the network, and
// <container ID>/<interface> for a further one.
type leases struct {
	network string
	subnet  netip.Prefix // of the first range, for other tools
	gateway netip.Addr   // of the first range, for other tools
	boot    string       // boot ID of when it was written
	last    []netip.Addr // next-fit: the address leased last, by range set; invalid: none
	byName  map[string]lease
	holder  map[netip.Addr]string // name by address

	// unsure: an ADD is in flight whose lease was lost, so that the next process
	// must compare these leases with the links once more.
	unsure bool
}

// newLeases has room for n leases.
func newLeases(network string, n int) *leases {
	return &leases{network: network, byName: make(map[string]lease, n), holder: make(map[netip.Addr]string, n)}
}

// find returns the name of key's lease.
func (l *leases) find(key model.Key) (string, bool) {
	for _, name := range []string{key.ContainerID + "/" + key.IfName, key.ContainerID} {
		if l.byName[name].key == key {
			return name, true
		}
	}
	return "", false
}

// put adds a lease, none of whose addresses is held, to a key that has none.
func (l *leases) put(key model.Key, addrs []netip.Addr) {
	name := key.ContainerID
	if _, ok := l.byName[name]; ok {
		name += "/" + key.IfName
	}
	l.byName[name] = lease{key, addrs}
	for _, a := range addrs {
		l.holder[a] = name
	}
}

func (l *leases) remove(name string) {
	for _, a := range l.byName[name].addrs {
		delete(l.holder, a)
	}
	delete(l.byName, name)
}

// adopt gives the owners of other's leases all that they have there, and
// returns how many had not. Who had one of those addresses loses it.
func (l *leases) adopt(other *leases) (changed int) {
	for _, name := range other.names() {
		o := other.byName[name]
		if name, ok := l.find(o.key); ok {
			if same(l.byName[name].addrs, o.addrs) {
				continue
			}
			l.remove(name)
		}
		changed++
		for _, a := range o.addrs {
			l.take(a)
		}
		l.put(o.key, o.addrs)
	}
	return changed
}

// take removes an address from the lease that has it.
func (l *leases) take(a netip.Addr) {
	name, ok := l.holder[a]
	if !ok {
		return
	}
	le := l.byName[name]
	l.remove(name)
	le.addrs = slices.DeleteFunc(le.addrs, func(b netip.Addr) bool { return a == b })
	if len(le.addrs) > 0 {
		l.put(le.key, le.addrs)
	}
}

// names lists the names in order.
func (l *leases) names() []string {
	names := make([]string, 0, len(l.byName))
	for name := range l.byName {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// describe sets what the file says of the network, unless sets is empty.
func (l *leases) describe(sets Sets) {
	for _, r := range sets.Ranges() {
		l.subnet, l.gateway = r.subnet, r.gateway
		return
	}
}

// keyOf is the key that a name stands for; ifName is what the details say of a
// plain container ID. A tool that knows no details means the usual name.
func keyOf(network, name, ifName string) (model.Key, error) {
	id, further, ok := strings.Cut(name, "/")
	switch {
	case ok:
		ifName = further
	case model.ValidIfName(ifName) != nil:
		ifName = usualIfName
	}
	return model.NewKey(network, id, ifName)
}
