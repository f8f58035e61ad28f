package netavark

import (
	"fmt"
	"net/netip"

	"flatnet/bridge/model"
	"flatnet/internal/strictjson"
)

// readAddr returns the address of key, invalid if it is absent or empty.
func readAddr(o *strictjson.Object, key string) netip.Addr {
	s, _ := o.String(key)
	if s == "" {
		return netip.Addr{}
	}
	a, err := parseAddr(s)
	if err != nil {
		o.Fail(key, "%w", err)
	}
	return a
}

func readAddrs(o *strictjson.Object, key string) []netip.Addr {
	var all []netip.Addr
	for i, s := range o.Strings(key) {
		a, err := parseAddr(s)
		if err != nil {
			o.Fail(fmt.Sprintf("%s[%d]", key, i), "%w", err)
		}
		all = append(all, a)
	}
	return all
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%.60q is not an IP address", s)
	}
	return a.Unmap(), nil
}

// readPrefix reads an address and length in CIDR notation. Host bits are masked,
// as netavark does it.
func readPrefix(o *strictjson.Object, key string) netip.Prefix {
	s, _ := o.String(key)
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil || p.Addr().Is4In6():
		o.Fail(key, "%.60q is not in the form 10.87.1.0/24", s)
		return netip.Prefix{}
	case p != p.Masked():
		o.Note(key, "%q has host bits set; it is read as %v", s, p.Masked())
	}
	return p.Masked()
}

// readIfName reads a name that an interface can be created with. The kernel
// keeps three: every namespace has its lo, and /proc/sys/net has folders for
// all interfaces and for the default (sysctl_dev_name_is_allowed of
// net/ipv4/devinet.c).
func readIfName(o *strictjson.Object, key string) string {
	s, _ := o.String(key)
	err := model.ValidIfName(s)
	if s == "lo" || s == "all" || s == "default" {
		err = fmt.Errorf("%q is reserved by the kernel", s)
	}
	if err != nil {
		o.Fail(key, "%w", err)
	}
	return s
}
