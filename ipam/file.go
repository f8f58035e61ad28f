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

// usualIfName is whose a plain container ID is that the details don't mention.
const usualIfName = "eth0"

// errBroken is a lease file that can't be one of ours or of a tool that keeps
// the promised format.
var errBroken = errors.New("not a lease file")

// decode reads a lease file. Other tools read and write subnet, gateway and
// allocations; the rest is nobody else's, so it may be missing or anything.
// Every error is an errBroken.
func decode(network string, data []byte) (*leases, error) {
	doc, err := strictjson.ParseLarge(data, maxFile)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	subnet, _ := doc.String("subnet")
	gateway, _ := doc.String("gateway")
	allocations := doc.Object("allocations")
	if err := doc.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	if allocations == nil {
		return nil, fmt.Errorf("%w: no allocations", errBroken)
	}
	l := newLeases(network, allocations.Len())
	if subnet != "" {
		if l.subnet, err = netip.ParsePrefix(subnet); err != nil {
			return nil, fmt.Errorf("%w: subnet: %q is not a subnet", errBroken, subnet)
		}
	}
	if gateway != "" {
		if l.gateway, err = parseAddr(gateway); err != nil {
			return nil, fmt.Errorf("%w: gateway: %w", errBroken, err)
		}
	}
	ifNames := readDetails(doc.Object("details"))
	for name, value := range allocations.All() {
		text, ok := value.(string)
		if !ok {
			return nil, fmt.Errorf("%w: allocations: %s: not a string", errBroken, name)
		}
		if err := l.read(network, name, text, ifNames[name]); err != nil {
			return nil, fmt.Errorf("%w: allocations: %w", errBroken, err)
		}
	}
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
	return l, nil
}

// read adds one line of the allocations.
func (l *leases) read(network, name, text, ifName string) error {
	key, err := keyOf(network, name, ifName)
	if err != nil {
		return err
	}
	addrs := make([]netip.Addr, 0, 2)
	for s := range strings.SplitSeq(text, ",") {
		a, err := parseAddr(s)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if other, ok := l.holder[a]; ok {
			return fmt.Errorf("%s and %s both have %s", other, name, a)
		}
		l.holder[a] = name
		addrs = append(addrs, a)
	}
	l.byName[name] = lease{key, addrs}
	return nil
}

// readDetails takes the interface names that can be read of the details.
func readDetails(o *strictjson.Object) map[string]string {
	all := map[string]string{}
	for name, value := range o.All() {
		if d, ok := value.(*strictjson.Object); ok {
			all[name], _ = d.String("ifname")
		}
	}
	return all
}

// encode writes a lease file, one lease a line. It does so by hand because the
// file is written by every ADD and DEL, and encoding/json takes five times as
// long. All strings are printable ASCII, which Go and JSON quote alike.
func (l *leases) encode() []byte {
	b := append(make([]byte, 0, 512+128*len(l.byName)), '{')
	if l.subnet.IsValid() {
		b = fmt.Appendf(b, "\n  \"subnet\": %q,", l.subnet)
	}
	if l.gateway.IsValid() {
		b = fmt.Appendf(b, "\n  \"gateway\": %q,", l.gateway)
	}
	b = append(b, "\n  \"allocations\": "...)
	names := l.names()
	b = appendObject(b, names, func(b []byte, name string) []byte {
		return append(appendAddrs(append(b, '"'), l.byName[name].addrs), '"')
	})
	b = fmt.Appendf(b, ",\n  \"boot\": %q,\n  \"last\": \"", l.boot)
	b = appendAddrs(b, l.last)
	b = append(b, "\",\n  \"details\": "...)
	b = appendObject(b, l.detailed(names), func(b []byte, name string) []byte {
		return fmt.Appendf(b, "{\"ifname\": %q}", l.byName[name].key.IfName)
	})
	return append(b, "\n}\n"...)
}

// detailed picks the names that do not say which interface they mean.
func (l *leases) detailed(names []string) []string {
	var with []string
	for _, name := range names {
		key := l.byName[name].key
		if name == key.ContainerID && key.IfName != usualIfName {
			with = append(with, name)
		}
	}
	return with
}

func appendObject(b []byte, names []string, value func([]byte, string) []byte) []byte {
	b = append(b, '{')
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, "\n    "...)
		if strings.ContainsAny(name, `"\`) {
			b = strconv.AppendQuote(b, name)
		} else { // as nearly always, and four times as fast
			b = append(append(append(b, '"'), name...), '"')
		}
		b = append(b, ": "...)
		b = value(b, name)
	}
	if len(names) > 0 {
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

// parseAddr reads an address as a lease has it: without zone, and IPv4 as IPv4.
func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || !isPlain(a) {
		return a, fmt.Errorf("%q is not a plain IP address", s)
	}
	return a, nil
}

func isPlain(a netip.Addr) bool { return a.IsValid() && a.Zone() == "" && !a.Is4In6() }
