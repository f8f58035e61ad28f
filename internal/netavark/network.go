package netavark

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/dns"
	"flatnet/internal/strictjson"
	"flatnet/ipam"
)

// Limits of an interface's MTU: ETH_MIN_MTU and ETH_MAX_MTU of
// linux/if_ether.h, and what IPv6 needs (RFC 8200, section 5).
const (
	minMTU     = 68
	minIPv6MTU = 1280
	maxMTU     = 65535
)

// A network is a Network of netavark's types.rs, as far as it means something
// to flatnet.
type network struct {
	name     string
	bridge   string // network_interface
	subnets  []subnet
	routes   []model.Route
	ipv6     bool
	internal bool
	dns      bool         // dns_enabled
	upstream []netip.Addr // network_dns_servers
	mtu      uint32       // options.mtu
	isolated bool         // options.isolate
	accept   bool         // options.forwardAccept
	only     bool         // options.inbound is published
	overlap  bool         // options.allowOverlap
}

// A subnet is one element of subnets. All but prefix may be invalid.
type subnet struct {
	prefix              netip.Prefix
	start, end, gateway netip.Addr
}

func (s subnet) ranges() (ipam.Range, error) {
	return ipam.NewRange(s.prefix, s.start, s.end, s.gateway)
}

// readNetwork reads what create and setup have in common. Whether it is
// complete and the parts fit together is not decided here.
func readNetwork(o *strictjson.Object) network {
	n := network{
		ipv6:     o.Bool("ipv6_enabled", false),
		internal: o.Bool("internal", false),
		dns:      o.Bool("dns_enabled", false),
		upstream: readAddrs(o, "network_dns_servers"),
	}
	n.name, _ = o.String("name")
	if err := model.ValidName(n.name); err != nil {
		o.Fail("name", "%w", err)
	} else if err := ipam.ValidNetwork(n.name); err != nil {
		o.Fail("name", "%w", err)
	}
	if s, _ := o.String("network_interface"); s != "" {
		n.bridge = readIfName(o, "network_interface")
	}
	if driver, _ := o.Object("ipam_options").String("driver"); driver != "" && driver != ipamDriver {
		o.Object("ipam_options").Fail("driver", "%.60q can't be used: %s manages its addresses itself", driver, ipamDriver)
	}
	for _, sub := range o.Objects("subnets") {
		n.subnets = append(n.subnets, readSubnet(sub))
	}
	for _, r := range o.Objects("routes") {
		n.routes = append(n.routes, readRoute(r))
	}
	options := o.Object("options")
	checkOptions(options)
	n.mtu = readMTU(options)
	n.isolated = readIsolate(options)
	n.accept = readBool(options, "forwardAccept")
	n.overlap = readBool(options, "allowOverlap")
	n.only = readInbound(options)
	return n
}

// checkOptions rejects the options that readNetwork does not read.
func checkOptions(options *strictjson.Object) {
	known := []string{"mtu", "isolate", "forwardAccept", "inbound", "allowOverlap"}
	for key := range options.All() {
		if !slices.Contains(known, key) {
			options.Fail(key, "flatnet has no such option, only %s", strings.Join(known, ", "))
		}
	}
}

func readSubnet(o *strictjson.Object) subnet {
	lease := o.Object("lease_range")
	return subnet{
		prefix:  readPrefix(o, "subnet"),
		gateway: readAddr(o, "gateway"),
		start:   readAddr(lease, "start_ip"),
		end:     readAddr(lease, "end_ip"),
	}
}

func readRoute(o *strictjson.Object) model.Route {
	metric, _ := o.Uint("metric", math.MaxUint32)
	r := model.Route{Dst: readPrefix(o, "destination"), Gateway: readAddr(o, "gateway"), Priority: uint32(metric)}
	if kind, _ := o.String("route_type"); kind != "" && kind != "unicast" {
		o.Fail("route_type", "%.60q is not supported, only unicast", kind)
	}
	switch {
	case !r.Gateway.IsValid():
		o.Fail("gateway", "must be an IP address")
	case r.Gateway.Is4() != r.Dst.Addr().Is4():
		o.Fail("gateway", "%s is not of the family of %s", r.Gateway, r.Dst)
	}
	return r
}

// readMTU reads a number that is written as a string, as all options are.
func readMTU(options *strictjson.Object) uint32 {
	s, ok := options.String("mtu")
	if !ok {
		return 0
	}
	mtu, err := strconv.ParseUint(s, 10, 32)
	if err != nil || mtu != 0 && mtu < minMTU || mtu > maxMTU {
		options.Fail("mtu", "%.60q is not a number from %d to %d, or 0", s, minMTU, maxMTU)
		return 0
	}
	return uint32(mtu)
}

// readIsolate takes netavark's words. Flat networks are isolated unless they
// say otherwise, from all others, which is what netavark calls strict.
func readIsolate(options *strictjson.Object) bool {
	switch s, ok := options.String("isolate"); {
	case !ok || s == "true" || s == "strict":
	case s == "false":
		return false
	default:
		options.Fail("isolate", "%.60q is none of true, strict, false", s)
	}
	return true
}

// readBool reads an option that has the same name in a CNI configuration.
func readBool(options *strictjson.Object, key string) bool {
	s, ok := options.String(key)
	if ok && s != "true" && s != "false" {
		options.Fail(key, "%.60q is neither true nor false", s)
	}
	return s == "true"
}

// readInbound reads what has the same name in a CNI configuration.
func readInbound(options *strictjson.Object) bool {
	s, ok := options.String("inbound")
	if ok && s != "any" && s != "published" {
		options.Fail("inbound", "%.60q is none of any, published", s)
	}
	return s == "published"
}

// sets are the network's range sets, one for each subnet.
func (n network) sets() (ipam.Sets, error) {
	if len(n.subnets) == 0 {
		return ipam.Sets{}, fmt.Errorf("subnets: must not be empty: %w", model.ErrInvalid)
	}
	var sets [][]ipam.Range
	for i, s := range n.subnets {
		for j, other := range n.subnets[:i] {
			if s.prefix.Overlaps(other.prefix) {
				return ipam.Sets{}, fmt.Errorf("subnets[%d] %s and subnets[%d] %s overlap: %w", j, other.prefix, i, s.prefix, model.ErrInvalid)
			}
		}
		r, err := s.ranges()
		if err != nil {
			return ipam.Sets{}, fmt.Errorf("subnets[%d]: %w", i, err)
		}
		sets = append(sets, []ipam.Range{r})
	}
	return ipam.NewSets(sets...)
}

// validate returns the network as the host and the address management see it.
func (n network) validate() (model.Network, ipam.Sets, error) {
	sets, err := n.sets()
	if err != nil {
		return model.Network{}, sets, err
	}
	out := model.Network{
		Name: n.name, Bridge: n.bridge, MTU: n.mtu,
		IsGateway: true, IsDefaultGateway: !n.internal, IPMasq: !n.internal,
		Internal: n.internal, Isolated: n.isolated, ForwardAccept: n.accept, PublishedOnly: n.only, AllowOverlap: n.overlap,
		Flat:   []netip.Prefix{netip.MustParsePrefix(model.DefaultFlat)},
		Routes: n.routes,
	}
	if !n.dns && n.upstream != nil {
		return out, sets, fmt.Errorf("network_dns_servers: they require dns_enabled: %w", model.ErrInvalid)
	}
	if n.dns {
		if err := dns.ValidNetwork(n.name); err != nil {
			return out, sets, fmt.Errorf("name: %w", err)
		}
	}
	for _, r := range sets.Ranges() {
		if r.Subnet().Addr().Is6() && n.mtu != 0 && n.mtu < minIPv6MTU {
			return out, sets, fmt.Errorf("options.mtu: %d is less than %d, the least for IPv6: %w", n.mtu, minIPv6MTU, model.ErrInvalid)
		}
		out.Subnets = append(out.Subnets, model.Subnet{Prefix: r.Subnet(), Gateway: r.Gateway()})
	}
	for i, r := range n.routes {
		if !slices.ContainsFunc(n.subnets, func(s subnet) bool { return s.prefix.Contains(r.Gateway) || s.gateway == r.Gateway }) {
			return out, sets, fmt.Errorf("routes[%d].gateway: %s is in no subnet of the network: %w", i, r.Gateway, model.ErrInvalid)
		}
	}
	return out, sets, nil
}
