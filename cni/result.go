package cni

import (
	"math"
	"net/netip"
	"slices"

	"flatnet/bridge/model"
	"flatnet/internal/fields"
	"flatnet/internal/strictjson"
)

// The versions that changed the result. 0.3.0 replaced one address for each family,
// "ip4" and "ip6", by lists; 1.0.0 dropped the version of an address and the empty
// dns object; 1.1.0 added mtu and the metrics of routes.
const (
	withLists   = "0.3.0"
	leaner      = "1.0.0"
	withMetrics = "1.1.0"
)

// ReadResult reads a delegated plugin's result of ADD, in the shape of any version.
func ReadResult(data []byte) (model.Result, error) {
	doc, err := strictjson.Parse(data)
	if err != nil {
		return model.Result{}, err
	}
	r := readResult(doc)
	return r, doc.Err()
}

// readResult reads a result in the shape of any version. Later plugins may have
// added interfaces of any kind, addresses and routes.
func readResult(o *strictjson.Object) (r model.Result) {
	fields.Optional(o, "cniVersion", parseVersion)
	dns := o.Object("dns")
	r.DNS = model.DNS{
		Nameservers: dns.Strings("nameservers"), Search: dns.Strings("search"), Options: dns.Strings("options"),
	}
	r.DNS.Domain, _ = dns.String("domain")
	for _, i := range o.Objects("interfaces") {
		f := model.Interface{MTU: fields.Uint[uint32](i, "mtu")}
		f.Name, _ = i.String("name")
		f.MAC, _ = i.String("mac")
		f.Sandbox, _ = i.String("sandbox")
		r.Interfaces = append(r.Interfaces, f)
	}
	for _, ip := range o.Objects("ips") {
		r.IPs = append(r.IPs, readIP(ip, "address", len(r.Interfaces)))
	}
	r.Routes = readRoutes(o, fields.Prefix)
	for _, key := range []string{"ip4", "ip6"} { // before 0.3.0
		if family := o.Object(key); family != nil {
			r.IPs = append(r.IPs, readIP(family, "ip", 0))
			r.Routes = append(r.Routes, readRoutes(family, fields.Prefix)...)
		}
	}
	return r
}

// readIP reads an address and its index into so many interfaces.
func readIP(o *strictjson.Object, key string, interfaces int) model.IP {
	ip := model.IP{Address: fields.Prefix(o, key), Gateway: fields.Addr(o, "gateway"), Interface: -1}
	if n, ok := o.Uint("interface", math.MaxInt32); ok && n < uint64(interfaces) {
		ip.Interface = int(n)
	} else if ok {
		o.Fail("interface", "%d is not the index of one of %d interfaces", n, interfaces)
	}
	return ip
}

// readRoutes reads the routes of a configuration or result, their destinations with
// dst.
func readRoutes(o *strictjson.Object, dst func(*strictjson.Object, string) netip.Prefix) (routes []model.Route) {
	for _, o := range o.Objects("routes") {
		r := model.Route{
			Dst:      dst(o, "dst").Masked(),
			Gateway:  fields.Addr(o, "gw"),
			MTU:      uint32(fields.Uint[uint16](o, "mtu")),
			AdvMSS:   uint32(fields.Uint[uint16](o, "advmss")),
			Priority: fields.Uint[uint32](o, "priority"),
			Table:    fields.UintIf[uint32](o, "table"),
			Scope:    fields.UintIf[uint8](o, "scope"),
		}
		if r.Gateway.IsValid() && r.Dst.IsValid() && r.Gateway.Is4() != r.Dst.Addr().Is4() {
			o.Fail("gw", "%v is not of the family of dst %v", r.Gateway, r.Dst)
		}
		routes = append(routes, r)
	}
	return routes
}

// encodeResult writes a result in the shape of a SPEC version (section 5,
// "ADD Success"). Like the reference library it leaves out empty values, except for
// the dns object, which versions before 1.0.0 always have.
func encodeResult(version string, r *model.Result) []byte {
	w := resultWriter{version: version}
	w.Begin("", '{')
	w.String("cniVersion", version)
	if version >= withLists {
		writeList(&w, "interfaces", r.Interfaces, w.networkInterface)
		writeList(&w, "ips", r.IPs, w.ip)
		writeList(&w, "routes", r.Routes, w.route)
	} else {
		w.family("ip4", r, netip.Addr.Is4)
		w.family("ip6", r, netip.Addr.Is6)
	}
	w.dns(&r.DNS)
	w.End('}')
	return append(w.Bytes, '\n')
}

// A resultWriter writes the parts of a result in the shape of one version.
type resultWriter struct {
	strictjson.Writer
	version string
}

func writeList[T any](w *resultWriter, key string, list []T, write func(*T)) {
	if len(list) == 0 {
		return
	}
	w.Begin(key, '[')
	for i := range list {
		w.Begin("", '{')
		write(&list[i])
		w.End('}')
	}
	w.End(']')
}

func (w *resultWriter) networkInterface(i *model.Interface) {
	w.String("name", i.Name)
	w.text("mac", i.MAC)
	if w.version >= withMetrics {
		w.number("mtu", i.MTU)
	}
	w.text("sandbox", i.Sandbox)
}

func (w *resultWriter) ip(ip *model.IP) {
	if w.version < leaner {
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
	w.addr("gateway", ip.Gateway)
}

func (w *resultWriter) route(r *model.Route) {
	w.String("dst", r.Dst.String())
	w.addr("gw", r.Gateway)
	if w.version < withMetrics {
		return
	}
	w.number("mtu", r.MTU)
	w.number("advmss", r.AdvMSS)
	w.number("priority", r.Priority)
	if r.Table != nil {
		w.Uint("table", uint64(*r.Table))
	}
	if r.Scope != nil {
		w.Uint("scope", uint64(*r.Scope))
	}
}

// family writes the ip4 or ip6 object of the versions before 0.3.0, which have room
// for one address of each family.
func (w *resultWriter) family(key string, r *model.Result, family func(netip.Addr) bool) {
	first := slices.IndexFunc(r.IPs, func(ip model.IP) bool { return family(ip.Address.Addr()) })
	if first < 0 {
		return
	}
	w.Begin(key, '{')
	w.String("ip", r.IPs[first].Address.String())
	w.addr("gateway", r.IPs[first].Gateway)
	others := func(r model.Route) bool { return !family(r.Dst.Addr()) }
	writeList(w, "routes", slices.DeleteFunc(slices.Clone(r.Routes), others), w.route)
	w.End('}')
}

func (w *resultWriter) dns(d *model.DNS) {
	if d.Empty() && w.version >= leaner {
		return
	}
	w.Begin("dns", '{')
	w.texts("nameservers", d.Nameservers)
	w.text("domain", d.Domain)
	w.texts("search", d.Search)
	w.texts("options", d.Options)
	w.End('}')
}

func (w *resultWriter) text(key, s string) {
	if s != "" {
		w.String(key, s)
	}
}

func (w *resultWriter) texts(key string, list []string) {
	if len(list) > 0 {
		w.Strings(key, list)
	}
}

func (w *resultWriter) number(key string, n uint32) {
	if n != 0 {
		w.Uint(key, uint64(n))
	}
}

func (w *resultWriter) addr(key string, a netip.Addr) {
	if a.IsValid() {
		w.String(key, a.String())
	}
}
