package cni

import (
	"fmt"
	"net/netip"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/fields"
	"flatnet/internal/strictjson"
)

// readDNS reads and validates the DNS settings. Each list of the runtime
// (CONVENTIONS.md of the CNI, capability "dns") replaces the configuration's. All of
// it ends up in the container's resolv.conf, where a line break would begin another
// entry.
func readDNS(o, runtime *strictjson.Object) model.DNS {
	list := func(key, runtimeKey string, parse func(string) (string, error)) []string {
		configured := fields.Texts(o, key, parse)
		if list := fields.Texts(runtime, runtimeKey, parse); len(list) > 0 {
			return list
		}
		return configured
	}
	return model.DNS{
		Nameservers: list("nameservers", "servers", parseNameserver),
		Domain:      fields.Optional(o, "domain", parseWord),
		Search:      list("search", "searches", parseWord),
		Options:     list("options", "options", parseWord),
	}
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
