// Package fields reads the values that are written in the same way at both doors:
// addresses, subnets, names of interfaces, ports.
//
// As with the getters of strictjson, an error is recorded with its key and value in
// the document, and the function then returns the zero value. The value of a key
// that is absent is the zero value, too, unless the function requires one.
package fields

import (
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/strictjson"
)

// Limits of an interface's MTU: ETH_MIN_MTU and ETH_MAX_MTU of linux/if_ether.h.
const (
	minMTU = 68
	MaxMTU = 65535
)

// MaxPorts bounds the published ports of one container: all of each protocol.
const MaxPorts = 3 * math.MaxUint16

// Text returns the string of key as parse reads it.
func Text[T any](o *strictjson.Object, key string, parse func(string) (T, error)) (v T) {
	if _, ok := o.String(key); ok {
		v = Required(o, key, parse)
	}
	return v
}

// Optional is Text for a key whose empty string means that it is absent.
func Optional[T any](o *strictjson.Object, key string, parse func(string) (T, error)) (v T) {
	if s, _ := o.String(key); s != "" {
		v = Required(o, key, parse)
	}
	return v
}

// Required is Text for a key that must be present.
func Required[T any](o *strictjson.Object, key string, parse func(string) (T, error)) T {
	s, _ := o.String(key)
	v, err := parse(s)
	if err != nil {
		o.Fail(key, "%w", err)
		return *new(T)
	}
	return v
}

// Texts returns the strings of a list as parse reads them.
func Texts[T any](o *strictjson.Object, key string, parse func(string) (T, error)) (all []T) {
	for i, s := range o.Strings(key) {
		v, err := parse(s)
		if err != nil {
			o.Fail(fmt.Sprintf("%s[%d]", key, i), "%w", err)
			continue
		}
		all = append(all, v)
	}
	return all
}

// Uint returns a whole number up to the type's largest.
func Uint[T uint8 | uint16 | uint32](o *strictjson.Object, key string) T {
	n, _ := o.Uint(key, uint64(^T(0)))
	return T(n)
}

// UintIf is Uint, and nil for a key that is absent.
func UintIf[T uint8 | uint16 | uint32](o *strictjson.Object, key string) *T {
	n, ok := o.Uint(key, uint64(^T(0)))
	if !ok {
		return nil
	}
	v := T(n)
	return &v
}

// OneOf returns the string of key, which must be one of words.
func OneOf(o *strictjson.Object, key string, words ...string) string {
	return Text(o, key, func(s string) (string, error) {
		if !slices.Contains(words, s) {
			return "", fmt.Errorf("%.60q is none of %s", s, strings.Join(words, ", "))
		}
		return s, nil
	})
}

// ParseAddr reads an IP address without a zone. An IPv4-mapped IPv6 address is
// returned as the IPv4 address.
func ParseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return a, fmt.Errorf("%.60q is not an IP address", s)
	case a.Zone() != "":
		return a, fmt.Errorf("%.60q has a zone, which only has a meaning on its own host", s)
	}
	return a.Unmap(), nil
}

// Addr returns an address, zero also for the empty string.
func Addr(o *strictjson.Object, key string) netip.Addr { return Optional(o, key, ParseAddr) }

// MAC returns a unicast Ethernet address, zero also for the empty string.
func MAC(o *strictjson.Object, key string) model.HardwareAddr {
	return Optional(o, key, model.ParseHardwareAddr)
}

// Prefix returns an address and its subnet's length; it requires one.
func Prefix(o *strictjson.Object, key string) netip.Prefix {
	return Required(o, key, prefixIn("an address and length in the form 10.87.1.2/24"))
}

// Subnet returns a subnet; it requires one. Host bits are masked, as in netavark,
// and noted.
func Subnet(o *strictjson.Object, key string) netip.Prefix {
	return mask(o, key, Required(o, key, prefixIn(subnetForm)))
}

// Subnets returns a list of subnets.
func Subnets(o *strictjson.Object, key string) (all []netip.Prefix) {
	for i, p := range Texts(o, key, prefixIn(subnetForm)) {
		all = append(all, mask(o, fmt.Sprintf("%s[%d]", key, i), p))
	}
	return all
}

const subnetForm = "a subnet in the form 10.87.1.0/24"

// prefixIn reads a prefix of this form.
func prefixIn(form string) func(s string) (netip.Prefix, error) {
	return func(s string) (netip.Prefix, error) {
		p, err := netip.ParsePrefix(s)
		if err != nil || p.Addr().Is4In6() {
			return p, fmt.Errorf("%.60q is not %s", s, form)
		}
		return p, nil
	}
}

func mask(o *strictjson.Object, key string, p netip.Prefix) netip.Prefix {
	if p != p.Masked() {
		o.Note(key, "%q has host bits set; it is read as %v", p, p.Masked())
	}
	return p.Masked()
}

// ParseIfName reads a name that an interface can be created with. The kernel
// reserves three: every namespace has its lo, and /proc/sys/net has folders for all
// interfaces and for the default (sysctl_dev_name_is_allowed of net/ipv4/devinet.c).
func ParseIfName(s string) (string, error) {
	if slices.Contains([]string{"lo", "all", "default"}, s) {
		return "", fmt.Errorf("%q is reserved by the kernel", s)
	}
	return s, model.ValidIfName(s)
}

// ParsePath reads the absolute path of a file or directory.
func ParsePath(s string) (string, error) {
	if _, err := ParseWord(s); err != nil || !filepath.IsAbs(s) || filepath.Clean(s) != s {
		return "", fmt.Errorf("%.60q must be an absolute path without \"..\", doubled slashes and the like", s)
	}
	return s, nil
}

// ParseWord reads text without white space and control characters.
func ParseWord(s string) (string, error) {
	if s == "" || len(s) > 255 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return "", fmt.Errorf("%.60q must be 1 to 255 bytes without white space and control characters", s)
	}
	return s, nil
}

// CheckMTU requires an interface's MTU, or 0 for the inherited one.
func CheckMTU(n uint64) error {
	if n != 0 && n < minMTU || n > MaxMTU {
		return fmt.Errorf("%d is neither 0 nor from %d to %d", n, minMTU, MaxMTU)
	}
	return nil
}

// Port returns a port number; it requires one.
func Port(o *strictjson.Object, key string) uint16 {
	n := Uint[uint16](o, key)
	if n == 0 {
		o.Fail(key, "must be a number from 1 to %d", math.MaxUint16)
	}
	return n
}

// HostIP returns the address of the host on which a port is published.
func HostIP(o *strictjson.Object, key string) netip.Addr {
	ip := Addr(o, key)
	if ip.IsMulticast() {
		o.Fail(key, "%v is a multicast address", ip)
	}
	return ip
}

// Translatable returns the ports without those on a host's IPv6 loopback or link-local
// address that are published on another address as well, which it notes once: Linux
// translates nothing that is sent to such an address, but default_host_ips of
// containers.conf(5) puts ::1 on each port. One that would not be published at all stays,
// and is an error later.
func Translatable(o *strictjson.Object, key string, ports []model.PortMapping) []model.PortMapping {
	untranslatable := func(p model.PortMapping) bool {
		return p.HostIP == netip.IPv6Loopback() || p.HostIP.Is6() && p.HostIP.IsLinkLocalUnicast()
	}
	if !slices.ContainsFunc(ports, untranslatable) {
		return ports
	}
	elsewhere := map[model.PortMapping]bool{}
	for _, p := range ports {
		if !untranslatable(p) {
			p.HostIP = netip.Addr{}
			elsewhere[p] = true
		}
	}
	var dropped []netip.Addr
	rest := slices.DeleteFunc(slices.Clone(ports), func(p model.PortMapping) bool {
		ip := p.HostIP
		p.HostIP = netip.Addr{}
		drop := elsewhere[p] && untranslatable(model.PortMapping{HostIP: ip})
		if drop {
			dropped = append(dropped, ip)
		}
		return drop
	})
	if len(dropped) > 0 {
		o.Note(key, "nothing is published on hostIP %s, for Linux translates nothing that is sent to an IPv6 loopback or "+
			"link-local address; the ports are published on their other addresses", dropped[0])
	}
	return rest
}

// ParseProtocol reads the name of a published port's protocol (IPPROTO_* of
// linux/in.h).
func ParseProtocol(s string) (uint8, error) {
	n, ok := map[string]uint8{"tcp": 6, "udp": 17, "sctp": 132}[s]
	if !ok {
		return 0, fmt.Errorf("%.60q is none of tcp, udp, sctp", s)
	}
	return n, nil
}

// Suspicion returns why a key looks like a mistake for one of known, or "". hint says
// where keys of elsewhere belong.
func Suspicion(key string, known, elsewhere []string, hint string) string {
	same := func(k string) bool { return strings.EqualFold(k, key) }
	if slices.Contains(known, key) {
		return ""
	}
	if i := slices.IndexFunc(known, same); i >= 0 {
		return fmt.Sprintf("is read as %q", known[i])
	}
	if slices.ContainsFunc(elsewhere, same) {
		return "means nothing " + hint
	}
	if i := slices.IndexFunc(known, func(k string) bool { return Similar(k, key) || begins(k, key) }); i >= 0 {
		return fmt.Sprintf("means nothing to flatnet; did you mean %q?", known[i])
	}
	if i := slices.IndexFunc(elsewhere, func(k string) bool { return Similar(k, key) }); i >= 0 {
		return fmt.Sprintf("means nothing to flatnet; did you mean %q? That means nothing %s", elsewhere[i], hint)
	}
	return ""
}

// begins reports whether one key is the other, a long word, and a further one: hairpin of
// hairpinMode, or bridgeName of bridge.
func begins(a, b string) bool {
	a, b = strings.ToLower(a), strings.ToLower(b)
	short, long := min(len(a), len(b)), max(len(a), len(b))
	return short > 5 && long-short > 2 && (strings.HasPrefix(a, b) || strings.HasPrefix(b, a))
}

// Similar reports whether a is b with a slip of the keyboard, or two in long words.
func Similar(a, b string) bool {
	slips := 1
	if min(len(a), len(b)) >= 8 {
		slips = 2
	}
	return within(slips, strings.ToLower(a), strings.ToLower(b))
}

// within reports whether n changes turn a into b: a letter that is missing, too
// much, wrong or swapped with the next.
func within(n int, a, b string) bool {
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	if n == 0 || a == "" || b == "" {
		return len(a)+len(b) <= n
	}
	swapped := len(a) > 1 && len(b) > 1 && a[0] == b[1] && a[1] == b[0]
	return swapped && within(n-1, a[2:], b[2:]) ||
		within(n-1, a[1:], b) || within(n-1, a, b[1:]) || within(n-1, a[1:], b[1:])
}
