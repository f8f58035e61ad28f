package ipam

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/fields"
	"flatnet/internal/strictjson"
	"flatnet/ipam/memory"
)

// A lease is the addresses that an attachment has. It is as a file of a thousand has it:
// what an ADD does not look at stays text.
type lease struct {
	name  string // the container ID, or for a further interface <container ID>/<interface>
	addrs string // separated by commas
	text  string // the lease's field in the file
}

// list returns the lease's addresses; of nil there are none.
func (le *lease) list() (addrs []netip.Addr) {
	if le == nil {
		return nil
	}
	for s := range strings.SplitSeq(le.addrs, ",") {
		a, _ := parseAddr(s) // it was an address
		addrs = append(addrs, a)
	}
	return addrs
}

// leases are the leases of one network: the lease file's content. No two have
// the same address.
type leases struct {
	network  string
	subnet   netip.Prefix          // of the first range, for other tools
	gateway  netip.Addr            // of the first range, for other tools
	last     []netip.Addr          // next-fit: the address leased last, by range set; invalid: none
	all      []lease               // ordered by name
	details  map[string]string     // by name: the interfaces that have another name than usual
	byAddr   map[netip.Addr]uint32 // indexes of all; nil: not made since all changed
	released memory.Memory         // what was given back
	room     []byte                // what encode writes to
}

// search returns where the lease of a name is, or would be.
func (l *leases) search(name string) (at int, ok bool) {
	return slices.BinarySearchFunc(l.all, name, func(le lease, name string) int { return strings.Compare(le.name, name) })
}

// find returns where key's lease is, -1 if it has none.
func (l *leases) find(key model.Key) int {
	for _, name := range [...]string{key.ContainerID + "/" + key.IfName, key.ContainerID} {
		if at, ok := l.search(name); ok && l.key(&l.all[at]) == key {
			return at
		}
	}
	return -1
}

// of returns key's lease, nil if it has none.
func (l *leases) of(key model.Key) *lease {
	if at := l.find(key); at >= 0 {
		return &l.all[at]
	}
	return nil
}

func (l *leases) key(le *lease) model.Key {
	id, ifName, further := strings.Cut(le.name, "/")
	if !further {
		ifName = cmp.Or(l.details[id], usualIfName)
	}
	return model.Key{Network: l.network, ContainerID: id, IfName: ifName}
}

// put adds a lease, none of whose addresses is leased, for a key that has none.
func (l *leases) put(key model.Key, addrs []netip.Addr) {
	name := key.ContainerID
	at, further := l.search(name)
	if further {
		name += "/" + key.IfName
		at, _ = l.search(name)
	} else if key.IfName != usualIfName {
		if l.details == nil {
			l.details = map[string]string{}
		}
		l.details[name] = key.IfName
	}
	text := model.JoinAddrs(addrs)
	w := strictjson.Writer{Lines: true}
	w.String(name, text)
	l.all = slices.Insert(l.all, at, lease{name, text, string(w.Bytes)})
	l.byAddr = nil
}

// remove removes the lease that find found, if it did, and returns its addresses.
func (l *leases) remove(at int) []netip.Addr {
	if at < 0 {
		return nil
	}
	addrs := l.all[at].list()
	delete(l.details, l.all[at].name)
	l.all = slices.Delete(l.all, at, at+1)
	l.byAddr = nil
	return addrs
}

// removeKeys removes the leases of keys, in one pass: there may be thousands.
func (l *leases) removeKeys(keys []model.Key) {
	gone := map[string]bool{}
	for _, key := range keys {
		if le := l.of(key); le != nil {
			gone[le.name] = true
			delete(l.details, le.name)
		}
	}
	l.all = slices.DeleteFunc(l.all, func(le lease) bool { return gone[le.name] })
	l.byAddr = nil
}

// removeAddr removes an address from the lease that has it, if any.
func (l *leases) removeAddr(a netip.Addr) {
	le := l.owner(a)
	if le == nil {
		return
	}
	key := l.key(le)
	rest := slices.DeleteFunc(l.remove(l.find(key)), func(b netip.Addr) bool { return a == b })
	if len(rest) > 0 {
		l.put(key, rest)
	}
}

// owner returns the lease that has an address, nil if none has.
func (l *leases) owner(a netip.Addr) *lease {
	if l.byAddr == nil {
		_ = l.index() // none of the addresses was doubled when they were put here
	}
	if i, ok := l.byAddr[a]; ok {
		return &l.all[i]
	}
	return nil
}

// index makes byAddr. It returns an error if there is no address where one should be,
// or two leases have the same.
func (l *leases) index() error {
	l.byAddr = make(map[netip.Addr]uint32, len(l.all))
	for i := range l.all {
		for s := range strings.SplitSeq(l.all[i].addrs, ",") {
			a, err := parseAddr(s)
			if err != nil {
				return fmt.Errorf("%s: %w", l.all[i].name, err)
			}
			if other, ok := l.byAddr[a]; ok {
				return fmt.Errorf("%s and %s both have %s", l.all[other].name, l.all[i].name, a)
			}
			l.byAddr[a] = uint32(i)
		}
	}
	return nil
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
	taken, moved := map[netip.Addr]model.Key{}, map[model.Key]bool{}
	var put []model.Owner
	for _, name := range slices.Sorted(maps.Keys(byKey)) {
		o := byKey[name]
		o.Addresses = slices.DeleteFunc(o.Addresses, func(a netip.Addr) bool {
			_, twice := taken[a]
			taken[a] = cmp.Or(taken[a], o.Key)
			return !isPlain(a) || twice
		})
		if len(o.Addresses) > 0 && !equal(l.of(o.Key).list(), o.Addresses) {
			moved[o.Key] = true
			put = append(put, o)
		}
	}
	changed = len(put)
	l.all = slices.DeleteFunc(l.all, func(le lease) bool { // in one pass: there may be thousands
		key, has := l.key(&le), le.list()
		left := slices.DeleteFunc(slices.Clone(has), func(a netip.Addr) bool { return cmp.Or(taken[a], key) != key })
		if !moved[key] && len(left) == len(has) {
			return false
		}
		delete(l.details, le.name)
		if !moved[key] && len(left) > 0 {
			put = append(put, model.Owner{Key: key, Addresses: left})
		}
		return true
	})
	for _, o := range put {
		l.put(o.Key, o.Addresses)
	}
	return changed
}

func (l *leases) keys() []model.Key {
	keys := make([]model.Key, len(l.all))
	for i := range l.all {
		keys[i] = l.key(&l.all[i])
	}
	return keys
}

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
	l := &leases{network: network, all: make([]lease, 0, len(data)/bytesPerLease+1)}
	var wrong error
	doc, err := strictjson.ParseEach(data, maxFile, "allocations", func(name, addrs, text string) {
		wrong = cmp.Or(wrong, l.read(lease{name, addrs, text}))
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	l.subnet = fields.Optional(doc, "subnet", netip.ParsePrefix)
	l.gateway = fields.Optional(doc, "gateway", parseAddr)
	if doc.Object("allocations") == nil {
		doc.Fail("allocations", "missing")
	}
	if wrong == nil {
		wrong = l.settle()
	}
	if wrong != nil {
		doc.Fail("allocations", "%w", wrong)
	}
	if err := doc.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	l.readOurs(doc)
	return l, nil
}

// read adds one field of the allocations.
func (l *leases) read(le lease) error {
	id, ifName, further := strings.Cut(le.name, "/")
	if !further {
		ifName = usualIfName
	}
	if model.ValidContainerID(id) != nil || further && model.ValidIfName(ifName) != nil {
		_, err := model.NewKey(l.network, id, ifName)
		return err
	}
	l.all = append(l.all, le)
	return nil
}

// settle compares the leases that were read with each other, and orders them if flatnet
// has not written them.
func (l *leases) settle() error {
	ordered := true
	for i := 1; i < len(l.all); i++ {
		ordered = ordered && l.all[i-1].name < l.all[i].name
	}
	if !ordered {
		slices.SortFunc(l.all, func(a, b lease) int { return strings.Compare(a.name, b.name) })
		for i := 1; i < len(l.all); i++ {
			if l.all[i-1].name == l.all[i].name {
				return fmt.Errorf("%s is given twice", l.all[i].name)
			}
		}
	}
	return l.index()
}

// readOurs reads what only flatnet writes, and skips what it would not write.
func (l *leases) readOurs(doc *strictjson.Object) {
	last, _ := doc.String("last")
	for s := range strings.SplitSeq(last, ",") {
		a, _ := parseAddr(s) // zero: next-fit then begins at the start
		l.last = append(l.last, a)
	}
	l.details = map[string]string{}
	released, _ := doc.String("released")
	l.released = memory.Parse(released)
	for name, value := range doc.Object("details").All() {
		details, _ := value.(*strictjson.Object)
		ifName, _ := details.String("ifname")
		_, ok := l.search(name)
		if ok && !strings.Contains(name, "/") && model.ValidIfName(ifName) == nil && ifName != usualIfName {
			l.details[name] = ifName
		}
	}
}

// encode writes a lease file, one lease a line. The bytes are valid until the next call.
func (l *leases) encode() []byte {
	size := 512
	for i := range l.all {
		size += len(l.all[i].text) + len(",\n    ")
	}
	w := strictjson.Writer{Bytes: slices.Grow(l.room[:0], size), Lines: true}
	w.Begin("", '{')
	if l.subnet.IsValid() {
		w.String("subnet", l.subnet.String())
	}
	if l.gateway.IsValid() {
		w.String("gateway", l.gateway.String())
	}
	w.Begin("allocations", '{')
	for i := range l.all {
		w.Copy(l.all[i].text)
	}
	w.End('}')
	w.String("last", model.JoinAddrs(l.last))
	w.Begin("details", '{')
	for _, name := range slices.Sorted(maps.Keys(l.details)) {
		w.Begin(name, '{')
		w.String("ifname", l.details[name])
		w.End('}')
	}
	w.End('}')
	if len(l.released) > 0 {
		w.String("released", l.released.String())
	}
	w.End('}')
	l.room = append(w.Bytes, '\n')
	return l.room
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
