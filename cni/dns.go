package cni

import (
	"fmt"
	"net/netip"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/strictjson"
)

// readDNS reads a dns object; what it calls its servers and search domains
// depends on where it is.
func readDNS(o *strictjson.Object, servers, search string) model.DNS {
	domain, _ := o.String("domain")
	return model.DNS{
		Nameservers: o.Strings(servers),
		Domain:      domain,
		Search:      o.Strings(search),
		Options:     o.Strings("options"),
	}
}

// readValidDNS validates, too. All of it ends up in the container's
// resolv.conf, where a line break would begin another entry.
func readValidDNS(o *strictjson.Object, servers, search string) model.DNS {
	dns := readDNS(o, servers, search)
	if dns.Domain != "" {
		if err := validWord(dns.Domain); err != nil {
			o.Fail("domain", "%w", err)
		}
	}
	for _, l := range [...]struct {
		key   string
		list  []string
		valid func(string) error
	}{
		{servers, dns.Nameservers, validNameserver},
		{search, dns.Search, validWord},
		{"options", dns.Options, validWord},
	} {
		for i, s := range l.list {
			if err := l.valid(s); err != nil {
				o.Fail(fmt.Sprintf("%s[%d]", l.key, i), "%w", err)
			}
		}
	}
	return dns
}

// overrideDNS lets the runtime's lists replace those of the configuration
// (runtimeConfig.dns; CONVENTIONS.md of the CNI, capability "dns").
func overrideDNS(dns *model.DNS, runtime *strictjson.Object) {
	by := readValidDNS(runtime, "servers", "searches")
	for _, l := range [...]struct{ list, by *[]string }{
		{&dns.Nameservers, &by.Nameservers},
		{&dns.Search, &by.Search},
		{&dns.Options, &by.Options},
	} {
		if len(*l.by) > 0 {
			*l.list = *l.by
		}
	}
}

func validNameserver(s string) error {
	if _, err := netip.ParseAddr(s); err != nil {
		return fmt.Errorf("%.60q is not an IP address", s)
	}
	return nil
}

func validWord(s string) error {
	if s == "" || len(s) > 255 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return fmt.Errorf("%.60q must be 1 to 255 bytes without white space and control characters", s)
	}
	return nil
}

// ParseResolvConf reads a file in the format of resolv.conf(5), for
// ipam.resolvConf. Of several domain or search lines the last one counts; what
// a container could not use is left out.
func ParseResolvConf(data []byte) model.DNS {
	var dns model.DNS
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if validNameserver(f[1]) == nil {
				dns.Nameservers = append(dns.Nameservers, f[1])
			}
		case "domain":
			dns.Domain = f[1]
		case "search":
			dns.Search = f[1:]
		case "options":
			dns.Options = append(dns.Options, f[1:]...)
		}
	}
	return dns
}
