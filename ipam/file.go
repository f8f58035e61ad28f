package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/strictjson"
)

// usualIfName is the interface of a plain container ID that the details don't
// mention, as other tools write it.
const usualIfName = "eth0"

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
	var subnet netip.Prefix
	if s, _ := doc.String("subnet"); s != "" {
		if subnet, err = netip.ParsePrefix(s); err != nil {
			doc.Fail("subnet", "%q is not a subnet", s)
		}
	}
	var gateway netip.Addr
	if s, _ := doc.String("gateway"); s != "" {
		if gateway, err = parseAddr(s); err != nil {
			doc.Fail("gateway", "%w", err)
		}
	}
	allocations := doc.Object("allocations")
	if allocations == nil {
		doc.Fail("allocations", "missing")
	}
	if err := doc.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	l := newLeases(network, allocations.Len())
	l.subnet, l.gateway = subnet, gateway
	for name, value := range allocations.All() {
		if err := l.read(name, value); err != nil {
			return nil, fmt.Errorf("%w: allocations: %w", errBroken, err)
		}
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
	if boot, _ := doc.String("boot"); model.ValidName(boot) == nil {
		l.boot = boot
	}
	last, _ := doc.String("last")
	for s := range strings.SplitSeq(last, ",") {
		a, err := parseAddr(s)
		if err != nil {
			a = netip.Addr{} // next-fit then begins at the start
		}
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

// encode writes a lease file, one lease a line. It does so by hand because the
// file is written by every ADD and DEL. All strings are printable ASCII, which Go
// and JSON quote alike.
func (l *leases) encode() []byte {
	allocations, details := make([]byte, 0, 128*len(l.byName)), []byte(nil)
	for _, name := range l.names() {
		le := l.byName[name]
		allocations = append(appendAddrs(append(appendKey(allocations, name), '"'), le.addrs), '"')
		if name == le.key.ContainerID && le.key.IfName != usualIfName {
			details = fmt.Appendf(appendKey(details, name), "{\"ifname\": %q}", le.key.IfName)
		}
	}
	b := append(make([]byte, 0, 512+len(allocations)+len(details)), '{')
	if l.subnet.IsValid() {
		b = fmt.Appendf(b, "\n  \"subnet\": %q,", l.subnet)
	}
	if l.gateway.IsValid() {
		b = fmt.Appendf(b, "\n  \"gateway\": %q,", l.gateway)
	}
	b = appendObject(append(b, "\n  \"allocations\": "...), allocations)
	b = fmt.Appendf(b, ",\n  \"boot\": %q,\n  \"last\": \"%s\"", l.boot, appendAddrs(nil, l.last))
	b = appendObject(append(b, ",\n  \"details\": "...), details)
	return append(b, "\n}\n"...)
}

// appendKey begins a field of allocations or details on a line of its own.
func appendKey(b []byte, name string) []byte {
	if len(b) > 0 {
		b = append(b, ',')
	}
	return append(strconv.AppendQuote(append(b, "\n    "...), name), ": "...)
}

func appendObject(b, fields []byte) []byte {
	b = append(append(b, '{'), fields...)
	if len(fields) > 0 {
		b = append(b, "\n  "...)
	}
	return append(b, '}')
}

func appendAddrs(b []byte, addrs []netip.Addr) []byte {
	for i, a := range addrs {
		if i > 0 {
			b = append(b, ',')
		}
		b = a.AppendTo(b)
	}
	return b
}

// parseAddr reads an address as leases have it: without zone, and IPv4 as IPv4.
func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || !isPlain(a) {
		return a, fmt.Errorf("%q is not a plain IP address", s)
	}
	return a, nil
}

func isPlain(a netip.Addr) bool { return a.IsValid() && a.Zone() == "" && !a.Is4In6() }
