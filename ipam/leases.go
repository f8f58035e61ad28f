package ipam

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/fields"
	"flatnet/internal/strictjson"
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
	last    []netip.Addr // next-fit: the address leased last, by range set; invalid: none
	byName  map[string]lease
	byAddr  map[netip.Addr]string // names
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

// adopt gives the attachments of the network exactly the addresses that their links
// show, and returns how many had others. Other leases lose these addresses. Of two
// links with one address, the first by key has it.
func (l *leases) adopt(owners []model.Owner) (changed int) {
	byKey := map[string]model.Owner{} // a key's links as one
	for _, o := range owners {
		if checkKey(l.network, o.Key) == nil {
			o.Addresses = slices.Concat(byKey[o.Key.String()].Addresses, o.Addresses)
			byKey[o.Key.String()] = o
		}
	}
	taken := map[netip.Addr]bool{}
	for _, name := range slices.Sorted(maps.Keys(byKey)) {
		var addrs []netip.Addr
		for _, a := range byKey[name].Addresses {
			if isPlain(a) && !taken[a] {
				taken[a] = true
				addrs = append(addrs, a)
			}
		}
		key := byKey[name].Key
		old := l.find(key)
		if len(addrs) == 0 || equal(l.byName[old].addrs, addrs) {
			continue
		}
		changed++
		l.remove(old)
		for _, a := range addrs {
			l.removeAddr(a)
		}
		l.put(key, addrs)
	}
	return changed
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
	missing := func(addr netip.Addr) bool { return !slices.Contains(b, addr) }
	return len(a) == len(b) && !slices.ContainsFunc(a, missing)
}

// describe sets the network's subnet and gateway, unless sets is empty.
func (l *leases) describe(sets Sets) {
	if len(sets.all) > 0 {
		l.subnet, l.gateway = sets.all[0].Subnet, sets.all[0].Gateway
	}
}

// checkKey reports a [model.ErrInvalid] unless key is a valid one of the network.
func checkKey(network string, key model.Key) error {
	if k, err := model.NewKey(network, key.ContainerID, key.IfName); err != nil || k != key {
		return model.Errorf(model.ErrInvalid, "attachment %q of network %q", key, network)
	}
	return nil
}

// usualIfName is the interface of a plain container ID that the details don't
// mention, as other tools write it.
const usualIfName = "eth0"

// bytesPerLease is about the length of a lease's line in the file.
const bytesPerLease = 90

// errBroken reports a file that neither we nor a tool that keeps to the promised
// format can have written.
var errBroken = errors.New("not a lease file")

// decode reads a lease file. Other tools read and write subnet, gateway and
// allocations; the rest is ours alone, so it may be missing or anything.
// Every error is an errBroken.
func decode(network string, data []byte) (*leases, error) {
	doc, err := strictjson.ParseLarge(data, maxFile)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	l := newLeases(network, len(data)/bytesPerLease)
	l.subnet = fields.Optional(doc, "subnet", netip.ParsePrefix)
	l.gateway = fields.Optional(doc, "gateway", parseAddr)
	allocations := doc.Object("allocations")
	if allocations == nil {
		doc.Fail("allocations", "missing")
	}
	for name, value := range allocations.All() {
		if err := l.read(name, value); err != nil {
			doc.Fail("allocations", "%w", err)
		}
	}
	if err := doc.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	l.readOurs(doc)
	return l, nil
}

// read adds one field of the allocations.
func (l *leases) read(name string, value any) error {
	text, ok := value.(string)
	if !ok {
		return fmt.Errorf("%s: not a string", name)
	}
	id, ifName, further := strings.Cut(name, "/")
	if !further {
		ifName = usualIfName // until the details are read
	}
	key, err := model.NewKey(l.network, id, ifName)
	if err != nil {
		return err
	}
	addrs := make([]netip.Addr, 0, 2)
	for s := range strings.SplitSeq(text, ",") {
		a, err := parseAddr(s)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if other, ok := l.byAddr[a]; ok {
			return fmt.Errorf("%s and %s both have %s", other, name, a)
		}
		l.byAddr[a] = name
		addrs = append(addrs, a)
	}
	l.byName[name] = lease{key, addrs}
	return nil
}

// readOurs reads what only flatnet writes, and skips what it would not write.
func (l *leases) readOurs(doc *strictjson.Object) {
	last, _ := doc.String("last")
	for s := range strings.SplitSeq(last, ",") {
		a, _ := parseAddr(s) // zero: next-fit then begins at the start
		l.last = append(l.last, a)
	}
	for name, value := range doc.Object("details").All() {
		details, _ := value.(*strictjson.Object)
		ifName, _ := details.String("ifname")
		le, ok := l.byName[name]
		if ok && name == le.key.ContainerID && model.ValidIfName(ifName) == nil {
			le.key.IfName = ifName
			l.byName[name] = le
		}
	}
}

// encode writes a lease file, one lease a line.
func (l *leases) encode() []byte {
	w := strictjson.Writer{Bytes: make([]byte, 0, 512+128*len(l.byName)), Lines: true}
	w.Begin("", '{')
	if l.subnet.IsValid() {
		w.String("subnet", l.subnet.String())
	}
	if l.gateway.IsValid() {
		w.String("gateway", l.gateway.String())
	}
	names := l.names()
	w.Begin("allocations", '{')
	for _, name := range names {
		w.String(name, model.JoinAddrs(l.byName[name].addrs))
	}
	w.End('}')
	w.String("last", model.JoinAddrs(l.last))
	w.Begin("details", '{')
	for _, name := range names {
		if key := l.byName[name].key; name == key.ContainerID && key.IfName != usualIfName {
			w.Begin(name, '{')
			w.String("ifname", key.IfName)
			w.End('}')
		}
	}
	w.End('}')
	w.End('}')
	return append(w.Bytes, '\n')
}

// parseAddr reads an address as leases have it: without zone, and IPv4 as IPv4.
func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || !isPlain(a) {
		return netip.Addr{}, fmt.Errorf("%q is not a plain IP address", s)
	}
	return a, nil
}

func isPlain(a netip.Addr) bool { return a.IsValid() && a.Zone() == "" && !a.Is4In6() }
