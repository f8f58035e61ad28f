package cni

import (
	"fmt"
	"net/netip"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/fields"
	"flatnet/internal/strictjson"
)

// A dnsList is one list of a dns object.
type dnsList struct {
	key        string
	runtimeKey string // in runtimeConfig.dns (CONVENTIONS.md of the CNI, capability "dns")
	list       *[]string
	parse      func(string) (string, error)
}

func dnsLists(d *model.DNS) [3]dnsList {
	return [...]dnsList{
		{"nameservers", "servers", &d.Nameservers, parseNameserver},
		{"search", "searches", &d.Search, parseWord},
		{"options", "options", &d.Options, parseWord},
	}
}

// readDNS reads and validates the DNS settings. Each list of the runtime replaces
// the configuration's. All of it ends up in the container's resolv.conf, where a
// line break would begin another entry.
func readDNS(o, runtime *strictjson.Object) (d model.DNS) {
	d.Domain = fields.Optional(o, "domain", parseWord)
	for _, l := range dnsLists(&d) {
		*l.list = fields.Texts(o, l.key, l.parse)
		if list := fields.Texts(runtime, l.runtimeKey, l.parse); len(list) > 0 {
			*l.list = list
		}
	}
	return d
}

func parseNameserver(s string) (string, error) {
	if _, err := netip.ParseAddr(s); err != nil {
		return "", fmt.Errorf("%.60q is not an IP address", s)
	}
	return s, nil
}

func parseWord(s string) (string, error) {
	if s == "" || len(s) > 255 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return "", fmt.Errorf("%.60q must be 1 to 255 bytes without white space and control characters", s)
	}
	return s, nil
}
