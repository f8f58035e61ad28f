package cni

import (
	"math"
	"net/netip"
	"slices"

	"flatnet/bridge/model"
	"flatnet/internal/strictjson"
)

// ReadResult reads what a delegated plugin answered to ADD, in the shape of any
// version. One that does not say which is known by its keys.
func ReadResult(data []byte) (model.Result, error) {
	doc, err := strictjson.Parse(data)
	if err != nil {
		return model.Result{}, err
	}
	version := newest
	if doc.Has("ip4") || doc.Has("ip6") {
		version = "0.2.0"
	}
	r := readResult(doc, version)
	return r, doc.Err()
}

// readResult reads a result in the shape of its own cniVersion, or of version
// where it has none. It may hold what later plugins added: interfaces of any
// kind, addresses of theirs, routes.
func readResult(o *strictjson.Object, version string) model.Result {
	if s, ok := o.String("cniVersion"); ok && s != "" {
		if version = s; !slices.Contains(versions(), version) {
			o.Fail("cniVersion", "%.40q is not supported", s)
			return model.Result{}
		}
	}
	r := model.Result{DNS: readDNS(o.Object("dns"), "nameservers", "search")}
	if !atLeast(version, "0.3.0") {
		for _, key := range []string{"ip4", "ip6"} {
			if family := o.Object(key); family != nil {
				r.IPs = append(r.IPs, readIP(family, "ip", 0))
				r.Routes = append(r.Routes, readResultRoutes(family)...)
			}
		}
		return r
	}
	for _, i := range o.Objects("interfaces") {
		r.Interfaces = append(r.Interfaces, readInterface(i))
	}
	for _, ip := range o.Objects("ips") {
		r.IPs = append(r.IPs, readIP(ip, "address", len(r.Interfaces)))
	}
	r.Routes = readResultRoutes(o)
	return r
}

func readInterface(o *strictjson.Object) model.Interface {
	name, _ := o.String("name")
	mac, _ := o.String("mac")
	mtu, _ := o.Uint("mtu", math.MaxUint32)
	sandbox, _ := o.String("sandbox")
	return model.Interface{Name: name, MAC: mac, MTU: uint32(mtu), Sandbox: sandbox}
}

// readIP reads an address and its index into so many interfaces.
func readIP(o *strictjson.Object, key string, interfaces int) model.IP {
	ip := model.IP{Address: readPrefix(o, key), Gateway: readAddr(o, "gateway"), Interface: -1}
	switch n, ok := o.Uint("interface", math.MaxInt32); {
	case !ok:
	case n >= uint64(interfaces):
		o.Fail("interface", "%d is not the index of one of %d interfaces", n, interfaces)
	default:
		ip.Interface = int(n)
	}
	return ip
}

func readResultRoutes(o *strictjson.Object) []model.Route {
	var routes []model.Route
	for _, r := range o.Objects("routes") {
		if dst := readPrefix(r, "dst"); dst.IsValid() {
			routes = append(routes, readRoute(r, dst.Masked()))
		}
	}
	return routes
}

func readPrefix(o *strictjson.Object, key string) netip.Prefix {
	s, _ := o.String(key)
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		o.Fail(key, "%.60q is not an address and length in the form 10.87.1.2/24", s)
		return netip.Prefix{}
	}
	return p
}
