package cni

import (
	"fmt"
	"math"
	"net/netip"
	"path"
	"slices"

	"flatnet/bridge/model"
	"flatnet/internal/strictjson"
)

// ownIPAM is the ipam.type of flatnet's own address management; no type at all
// means the same.
const ownIPAM = "flatnet-ipam"

// An IPAM says how addresses are managed. Where that is delegated, all but
// Type is zero: the ipam object then belongs to the other plugin.
type IPAM struct {
	Type       string    // the plugin to delegate to; empty: flatnet's own
	Sets       [][]Range // one address of each set is leased
	DataDir    string    // of the leases; empty: the default
	ResolvConf string    // file of which the DNS settings hold where dns is not configured
}

// A Range is what may be leased of one subnet. All but Subnet may be invalid,
// which leaves the choice to the address management; what is valid lies in
// Subnet. Whether ranges overlap or are too small is not decided here.
type Range struct {
	Subnet     netip.Prefix // without host bits
	Start, End netip.Addr   // inclusive
	Gateway    netip.Addr
}

func (c IPAM) hasIPv6() bool {
	return slices.ContainsFunc(c.Sets, func(set []Range) bool { return set[0].Subnet.Addr().Is6() })
}

// readIPAM reads what all commands need.
func readIPAM(doc *strictjson.Object) (c IPAM) {
	o := doc.Object("ipam")
	self, _ := doc.String("type")
	switch typ, _ := o.String("type"); {
	case typ == "" || typ == ownIPAM:
		c.DataDir = readPath(o, "dataDir")
		c.ResolvConf = readPath(o, "resolvConf")
	case model.ValidName(typ) != nil:
		o.Fail("type", "%.60q is not the name of a plugin", typ)
	case typ == self || typ == "flatnet":
		o.Fail("type", "%q would be flatnet itself; leave it out or use %q", typ, ownIPAM)
	default:
		c.Type = typ
	}
	return c
}

func readPath(o *strictjson.Object, key string) string {
	s, ok := o.String(key)
	if !ok {
		return ""
	}
	if !path.IsAbs(s) || path.Clean(s) != s || validWord(s) != nil {
		o.Fail(key, "%.60q must be an absolute path without \"..\", doubled slashes and the like", s)
		return ""
	}
	return s
}

// readSets returns the range sets in the order of host-local: the runtime's
// first, then the one of the ipam object itself, then ipam.ranges; and the
// default subnet where there are none.
func readSets(doc, runtime *strictjson.Object, version string) [][]Range {
	o := doc.Object("ipam")
	sets := readRangeSets(runtime, "ipRanges")
	more := readRangeSets(o, "ranges")
	switch _, ok := o.String("subnet"); {
	case ok:
		sets = append(sets, []Range{readRange(o)})
	case len(sets)+len(more) == 0:
		sets = append(sets, []Range{readBounds(o, netip.MustParsePrefix(model.DefaultSubnet))})
	default:
		for _, key := range []string{"rangeStart", "rangeEnd", "gateway"} {
			if o.NonZero(key) {
				o.Fail(key, "needs a subnet beside it")
			}
		}
	}
	sets = append(sets, more...)
	if !atLeast(version, "0.3.0") {
		families := map[bool]int{}
		for _, set := range sets {
			families[set[0].Subnet.Addr().Is6()]++
		}
		if families[true] > 1 || families[false] > 1 {
			o.Fail("ranges", "more than one address per family needs cniVersion 0.3.0 or newer, not %q", version)
		}
	}
	return sets
}

func readRangeSets(in *strictjson.Object, key string) [][]Range {
	var sets [][]Range
	for i, list := range in.ObjectLists(key) {
		var set []Range
		for j, o := range list {
			r := readRange(o)
			if set = append(set, r); r.Subnet.Addr().Is6() != set[0].Subnet.Addr().Is6() {
				in.Fail(fmt.Sprintf("%s[%d][%d]", key, i, j), "%v and %v are of different families", set[0].Subnet, r.Subnet)
			}
		}
		if set == nil {
			in.Fail(fmt.Sprintf("%s[%d]", key, i), "must not be empty")
			continue
		}
		sets = append(sets, set)
	}
	return sets
}

func readRange(o *strictjson.Object) Range {
	s, _ := o.String("subnet")
	subnet, ok := readSubnet(o, "subnet", s)
	if !ok {
		return Range{}
	}
	return readBounds(o, subnet)
}

func readBounds(o *strictjson.Object, subnet netip.Prefix) Range {
	inside := func(key string) netip.Addr {
		a := readAddr(o, key)
		linkLocal := key == "gateway" && a.Is6() && a.IsLinkLocalUnicast() && subnet.Addr().Is6()
		if a.IsValid() && !subnet.Contains(a) && !linkLocal {
			o.Fail(key, "%v is not in %v", a, subnet)
		}
		return a
	}
	r := Range{subnet, inside("rangeStart"), inside("rangeEnd"), inside("gateway")}
	if r.Start.IsValid() && r.End.IsValid() && r.End.Less(r.Start) {
		o.Fail("rangeEnd", "%v comes before rangeStart %v", r.End, r.Start)
	}
	return r
}

func readRoutes(ipam *strictjson.Object) []model.Route {
	var routes []model.Route
	for _, o := range ipam.Objects("routes") {
		s, _ := o.String("dst")
		dst, ok := readSubnet(o, "dst", s)
		if !ok {
			continue
		}
		r := readRoute(o, dst)
		if gw := r.Gateway; gw.IsUnspecified() || gw.IsMulticast() || gw.IsLoopback() {
			o.Fail("gw", "%v is no gateway's address", gw)
		}
		routes = append(routes, r)
	}
	return routes
}

// readRoute reads a route object of a configuration or result.
func readRoute(o *strictjson.Object, dst netip.Prefix) model.Route {
	number := func(key string, limit uint64) uint32 {
		n, _ := o.Uint(key, limit)
		return uint32(n)
	}
	r := model.Route{
		Dst:      dst,
		Gateway:  readAddr(o, "gw"),
		MTU:      number("mtu", maxMTU),
		AdvMSS:   number("advmss", maxMTU),
		Priority: number("priority", math.MaxUint32),
	}
	if r.Gateway.IsValid() && r.Gateway.Is4() != dst.Addr().Is4() {
		o.Fail("gw", "%v is not of the family of dst %v", r.Gateway, dst)
	}
	if n, ok := o.Uint("table", math.MaxUint32); ok {
		table := uint32(n)
		r.Table = &table
	}
	if n, ok := o.Uint("scope", math.MaxUint8); ok {
		scope := uint8(n)
		r.Scope = &scope
	}
	return r
}

// readAddr returns the address of key, invalid if it is absent or empty.
func readAddr(o *strictjson.Object, key string) netip.Addr {
	s, _ := o.String(key)
	if s == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		o.Fail(key, "%.60q is not an IP address", s)
		return netip.Addr{}
	}
	return a.Unmap()
}

// readSubnet reads an address and length in CIDR notation, which is the value of
// a key or of one of its elements. Host bits are masked, as netavark does it.
func readSubnet(o *strictjson.Object, key, s string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		o.Fail(key, "%.60q is not a subnet in the form 10.87.1.0/24", s)
		return netip.Prefix{}, false
	}
	if p != p.Masked() {
		o.Note(key, "%q has host bits set; it is read as %v", s, p.Masked())
	}
	return p.Masked(), true
}
