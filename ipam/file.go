package ipam

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"flatnet/bridge"
)

// usualIfName is whose a plain container ID is that the details don't mention.
const usualIfName = "eth0"

// errBroken is a lease file that can't be one of ours or of a tool that keeps
// the promised format.
var errBroken = errors.New("not a lease file")

// A document is the lease file's JSON. Other tools read and write the first
// three; the rest is nobody else's, so it may be missing or anything.
type document struct {
	Subnet      string  `json:"subnet"`
	Gateway     string  `json:"gateway"`
	Allocations members `json:"allocations"`

	Boot    json.RawMessage `json:"boot"`    // string
	Last    json.RawMessage `json:"last"`    // string, addresses as in a lease, or none
	Details json.RawMessage `json:"details"` // map[string]detail
}

// A detail is kept for a lease only while it says something: an interface name
// that is not the usual one, or a time that may still matter.
type detail struct {
	IfName string `json:"ifname"`
	Time   int64  `json:"time,omitempty"`
}

// decode reads a lease file. Every error is an errBroken.
func decode(network string, data []byte) (*leases, error) {
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	if d.Allocations == nil {
		return nil, fmt.Errorf("%w: no allocations", errBroken)
	}
	l := newLeases(network, len(d.Allocations))
	var err error
	if d.Subnet != "" {
		if l.subnet, err = netip.ParsePrefix(d.Subnet); err != nil {
			return nil, fmt.Errorf("%w: subnet: %w", errBroken, err)
		}
	}
	if d.Gateway != "" {
		if l.gateway, err = parseAddr(d.Gateway); err != nil {
			return nil, fmt.Errorf("%w: gateway: %w", errBroken, err)
		}
	}
	details := optional[map[string]detail](d.Details)
	for _, m := range d.Allocations {
		name := m.name
		key, err := keyOf(network, name, details[name].IfName)
		if err != nil {
			return nil, fmt.Errorf("%w: allocations: %w", errBroken, err)
		}
		if _, ok := l.byName[name]; ok {
			return nil, fmt.Errorf("%w: allocations: %s is there twice", errBroken, name)
		}
		addrs := make([]netip.Addr, 0, 2)
		for s := range strings.SplitSeq(m.value, ",") {
			a, err := parseAddr(s)
			if err != nil {
				return nil, fmt.Errorf("%w: allocations: %s: %w", errBroken, name, err)
			}
			if other, ok := l.holder[a]; ok {
				return nil, fmt.Errorf("%w: allocations: %s and %s both have %s", errBroken, other, name, a)
			}
			l.holder[a] = name
			addrs = append(addrs, a)
		}
		l.byName[name] = lease{key, addrs, max(0, details[name].Time)}
	}
	if boot := optional[string](d.Boot); bridge.ValidName(boot) == nil {
		l.boot = boot
	}
	for s := range strings.SplitSeq(optional[string](d.Last), ",") {
		a, err := parseAddr(s)
		if err != nil {
			a = netip.Addr{} // next-fit then begins at the start
		}
		l.last = append(l.last, a)
	}
	return l, nil
}

// optional reads what may be missing or another tool's: the zero value then.
func optional[T any](raw json.RawMessage) T {
	var v, zero T
	if raw == nil || json.Unmarshal(raw, &v) != nil {
		return zero
	}
	return v
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
		b = fmt.Appendf(b, "{\"ifname\": %q", l.byName[name].key.IfName)
		if t := l.byName[name].time; t > 0 {
			b = fmt.Appendf(b, ", \"time\": %d", t)
		}
		return append(b, '}')
	})
	return append(b, "\n}\n"...)
}

// detailed picks the names of leases that have more to say than their address.
func (l *leases) detailed(names []string) []string {
	var with []string
	for _, name := range names {
		lease := l.byName[name]
		if lease.time > 0 || name == lease.key.ContainerID && lease.key.IfName != usualIfName {
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
	if err == nil && !isPlain(a) {
		err = fmt.Errorf("%q is not a plain address", s)
	}
	return a, err
}

func isPlain(a netip.Addr) bool { return a.IsValid() && a.Zone() == "" && !a.Is4In6() }
