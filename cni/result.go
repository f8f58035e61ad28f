package cni

import (
	"net/netip"

	"flatnet/bridge/model"
	"flatnet/internal/strictjson"
)

// encodeResult writes a result in the shape of a SPEC version (section 5,
// "ADD Success"). Like the reference library it leaves out what is empty, but
// for the dns object, which versions before 1.0.0 always have.
func encodeResult(version string, r model.Result) []byte {
	var w strictjson.Writer
	w.Begin("", '{')
	w.String("cniVersion", version)
	if atLeast(version, "0.3.0") {
		writeInterfaces(&w, version, r.Interfaces)
		writeIPs(&w, version, r.IPs)
		writeRoutes(&w, version, r.Routes)
	} else {
		writeFamily(&w, "ip4", version, r, netip.Addr.Is4)
		writeFamily(&w, "ip6", version, r, netip.Addr.Is6)
	}
	writeDNS(&w, version, r.DNS)
	w.End('}')
	return append(w.Bytes, '\n')
}

func writeInterfaces(w *strictjson.Writer, version string, list []model.Interface) {
	if len(list) == 0 {
		return
	}
	w.Begin("interfaces", '[')
	for _, i := range list {
		w.Begin("", '{')
		w.String("name", i.Name)
		optional(w, "mac", i.MAC)
		if i.MTU != 0 && atLeast(version, "1.1.0") {
			w.Uint("mtu", uint64(i.MTU))
		}
		optional(w, "sandbox", i.Sandbox)
		w.End('}')
	}
	w.End(']')
}

func writeIPs(w *strictjson.Writer, version string, list []model.IP) {
	if len(list) == 0 {
		return
	}
	w.Begin("ips", '[')
	for _, ip := range list {
		w.Begin("", '{')
		if !atLeast(version, "1.0.0") {
			family := "4"
			if ip.Address.Addr().Is6() {
				family = "6"
			}
			w.String("version", family)
		}
		if ip.Interface >= 0 {
			w.Uint("interface", uint64(ip.Interface))
		}
		w.String("address", ip.Address.String())
		address(w, "gateway", ip.Gateway)
		w.End('}')
	}
	w.End(']')
}

func writeRoutes(w *strictjson.Writer, version string, list []model.Route) {
	if len(list) == 0 {
		return
	}
	w.Begin("routes", '[')
	for _, r := range list {
		w.Begin("", '{')
		w.String("dst", r.Dst.String())
		address(w, "gw", r.Gateway)
		if atLeast(version, "1.1.0") {
			writeMetrics(w, r)
		}
		w.End('}')
	}
	w.End(']')
}

func writeMetrics(w *strictjson.Writer, r model.Route) {
	for _, m := range [...]struct {
		key string
		n   uint32
	}{{"mtu", r.MTU}, {"advmss", r.AdvMSS}, {"priority", r.Priority}} {
		if m.n != 0 {
			w.Uint(m.key, uint64(m.n))
		}
	}
	if r.Table != nil {
		w.Uint("table", uint64(*r.Table))
	}
	if r.Scope != nil {
		w.Uint("scope", uint64(*r.Scope))
	}
}

// writeFamily writes the ip4 or ip6 object of the versions before 0.3.0, which
// have room for one address of each family.
func writeFamily(w *strictjson.Writer, key, version string, r model.Result, family func(netip.Addr) bool) {
	for _, ip := range r.IPs {
		if !family(ip.Address.Addr()) {
			continue
		}
		w.Begin(key, '{')
		w.String("ip", ip.Address.String())
		address(w, "gateway", ip.Gateway)
		var routes []model.Route
		for _, route := range r.Routes {
			if family(route.Dst.Addr()) {
				routes = append(routes, route)
			}
		}
		writeRoutes(w, version, routes)
		w.End('}')
		return
	}
}

func writeDNS(w *strictjson.Writer, version string, dns model.DNS) {
	empty := len(dns.Nameservers)+len(dns.Domain)+len(dns.Search)+len(dns.Options) == 0
	if empty && atLeast(version, "1.0.0") {
		return
	}
	w.Begin("dns", '{')
	list := func(key string, l []string) {
		if len(l) > 0 {
			w.Strings(key, l)
		}
	}
	list("nameservers", dns.Nameservers)
	optional(w, "domain", dns.Domain)
	list("search", dns.Search)
	list("options", dns.Options)
	w.End('}')
}

func optional(w *strictjson.Writer, key, s string) {
	if s != "" {
		w.String(key, s)
	}
}

func address(w *strictjson.Writer, key string, a netip.Addr) {
	if a.IsValid() {
		w.String(key, a.String())
	}
}
