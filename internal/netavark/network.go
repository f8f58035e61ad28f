package netavark

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/fields"
	"flatnet/internal/sha256"
	"flatnet/internal/strictjson"
)

// ipamDriver in ipam_options.driver makes Podman leave addresses to the plugin: it
// then chooses none but those that the user asked for.
const ipamDriver = "flatnet"

// readNetwork reads what create and setup have in common: a Network of netavark's
// types.rs. The bridge's name and the subnets may be missing.
func readNetwork(o *strictjson.Object) model.Config {
	options := o.Object("options")
	known := []string{"mtu", "isolate", "forwardAccept", "inbound", "allowOverlap"}
	for key := range options.All() {
		if !slices.Contains(known, key) {
			options.Fail(key, "flatnet has no such option, only %s", strings.Join(known, ", "))
		}
	}
	internal := o.Bool("internal", false)
	c := model.Config{
		Names:    o.Bool("dns_enabled", false),
		Upstream: fields.Texts(o, "network_dns_servers", fields.ParseAddr),
		Network: model.Network{
			Name:             fields.Required(o, "name", parseName),
			Bridge:           fields.Optional(o, "network_interface", fields.ParseIfName),
			MTU:              fields.Text(options, "mtu", parseMTU),
			IsGateway:        true,
			IsDefaultGateway: !internal,
			IPMasq:           !internal,
			Internal:         internal,
			// netavark's words; flatnet isolates by default, from all other networks.
			Isolated:      fields.OneOf(options, "isolate", "true", "strict", "false") != "false",
			ForwardAccept: fields.OneOf(options, "forwardAccept", "true", "false") == "true",
			AllowOverlap:  fields.OneOf(options, "allowOverlap", "true", "false") == "true",
			PublishedOnly: fields.OneOf(options, "inbound", "any", "published") == "published",
			Flat:          []netip.Prefix{netip.MustParsePrefix(model.DefaultFlat)},
		},
	}
	if c.Upstream != nil && !c.Names {
		o.Fail("network_dns_servers", "they require dns_enabled")
	}
	if driver, _ := o.Object("ipam_options").String("driver"); driver != "" && driver != ipamDriver {
		o.Object("ipam_options").Fail("driver", "%.60q can't be used: %s manages its addresses itself", driver, ipamDriver)
	}
	for i, s := range o.Objects("subnets") {
		lease := s.Object("lease_range")
		r := model.Range{
			Subnet: fields.Subnet(s, "subnet"), Gateway: fields.Addr(s, "gateway"),
			Start: fields.Addr(lease, "start_ip"), End: fields.Addr(lease, "end_ip"),
		}
		for j, other := range c.IPAM.Sets {
			if r.Subnet.Overlaps(other[0].Subnet) {
				o.Fail(fmt.Sprintf("subnets[%d]", i), "%s overlaps with subnets[%d], %s", r.Subnet, j, other[0].Subnet)
			}
		}
		c.IPAM.Sets = append(c.IPAM.Sets, []model.Range{r})
	}
	for _, r := range o.Objects("routes") {
		c.Network.Routes = append(c.Network.Routes, readRoute(r))
	}
	return c
}

func parseName(s string) (string, error) { return s, model.ValidName(s) }

// parseMTU reads a number that is written as a string, as all options are.
func parseMTU(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%.60q is not a number", s)
	}
	return uint32(n), fields.CheckMTU(n)
}

func readRoute(o *strictjson.Object) model.Route {
	fields.OneOf(o, "route_type", "unicast")
	r := model.Route{
		Dst:      fields.Subnet(o, "destination"),
		Gateway:  fields.Required(o, "gateway", fields.ParseAddr),
		Priority: fields.Uint[uint32](o, "metric"),
	}
	if r.Gateway.Is4() != r.Dst.Addr().Is4() {
		o.Fail("gateway", "%s is not of the family of %s", r.Gateway, r.Dst)
	}
	return r
}

// create completes and validates a network's definition. It looks at the host and
// changes nothing: the network is made with its first container.
func (p Plugin) create(doc *strictjson.Object) ([]byte, error) {
	c := readNetwork(doc)
	ipv6 := doc.Bool("ipv6_enabled", false)
	if err := doc.Err(); err != nil {
		return nil, err
	}
	if c.Names && !p.Engine.Names.Installed() {
		if c.Upstream != nil {
			return nil, errors.New("network_dns_servers: aardvark-dns, which would ask them, is not installed")
		}
		p.Engine.Warn("aardvark-dns is not installed, so the containers of network " + c.Network.Name +
			" will not find each other by name")
	}
	others, err := p.others(c.Network.Name)
	if err != nil {
		return nil, err
	}
	if ipv6 && !hasFamily(&c, true) {
		c.IPAM.Sets = append(c.IPAM.Sets, []model.Range{{Subnet: uniqueLocal()}})
	}
	if len(c.IPAM.Sets) == 0 || ipv6 && !hasFamily(&c, false) {
		err = p.chooseSubnet(&c, others)
	} else {
		err = p.complete(&c, others)
	}
	if err != nil {
		return nil, err
	}
	return define(doc, &c), nil
}

func hasFamily(c *model.Config, is6 bool) bool {
	return slices.ContainsFunc(c.IPAM.Sets, func(set []model.Range) bool { return set[0].Subnet.Addr().Is6() == is6 })
}

// chooseSubnet adds the first free /24 of the flat range in front: 10.87.1.0/24
// is kept for the network of the CNI configuration.
func (p Plugin) chooseSubnet(c *model.Config, others []taken) error {
	first := 2
	if c.Network.Name == defaultName {
		first = 1
	}
	var reason error
	for third := first; third <= 255; third++ {
		try := *c
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 87, byte(third), 0}), 24)
		try.IPAM.Sets = slices.Concat([][]model.Range{{{Subnet: subnet}}}, c.IPAM.Sets)
		err := p.complete(&try, others)
		if !errors.Is(err, model.ErrConflict) {
			*c = try
			return err
		}
		reason = cmp.Or(reason, err)
	}
	return fmt.Errorf("no /24 of %s can be had for network %s: %w", model.DefaultFlat, c.Network.Name, reason)
}

// complete sets the bridge's name and the gateways of a network that has its
// subnets. A collision is a [model.ErrConflict].
func (p Plugin) complete(c *model.Config, others []taken) (err error) {
	if c.Network.Bridge == "" {
		c.Network.Bridge = bridgeName(c.Network.Name, c.IPAM.Sets[0][0].Subnet)
	}
	for _, o := range others {
		if o.bridge == c.Network.Bridge {
			return model.Errorf(model.ErrConflict, "interface %s is the one of %s", o.bridge, o.owner)
		}
	}
	for _, o := range others {
		for _, set := range c.IPAM.Sets {
			if s := set[0].Subnet; s.Overlaps(o.prefix) {
				return model.Errorf(model.ErrConflict, "subnet %s overlaps with %s of %s", s, o.prefix, o.owner)
			}
		}
	}
	c.Network.Subnets, err = p.Engine.Subnets(c)
	return err
}

// taken is a bridge or a subnet that a new network can't have. The plugin is not
// called when a network is removed; so it keeps no record of its own, which could not
// be kept true, but asks Podman's definitions, the running containers and the kernel
// (see [bridge.Host.Status]).
type taken struct {
	bridge string       // or empty
	prefix netip.Prefix // or zero
	owner  string
}

// others lists all that networks other than the one of that name have. A definition
// that can't be read, or is not called NAME.json, is ignored, as by Podman.
func (p Plugin) others(name string) (all []taken, err error) {
	var files []string
	dir, err := os.Open(p.Networks)
	if err == nil {
		files, err = dir.Readdirnames(-1)
		dir.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, file := range files {
		data, _ := os.ReadFile(filepath.Join(p.Networks, file))
		doc, err := strictjson.Parse(data)
		if err != nil {
			continue
		}
		defined, _ := doc.String("name")
		bridge, _ := doc.String("network_interface")
		list := []taken{{bridge: bridge, owner: "network " + defined}}
		for _, s := range doc.Objects("subnets") {
			text, _ := s.String("subnet")
			prefix, _ := netip.ParsePrefix(text) // zero: the rest is taken all the same
			list = append(list, taken{prefix: prefix.Masked(), owner: list[0].owner})
		}
		if doc.Err() == nil && defined != name && file == defined+".json" { // else it is none of Podman's
			all = append(all, list...)
		}
	}
	owners, err := p.Engine.Host.Owners()
	for _, o := range owners {
		owner := fmt.Sprintf("container %.12s in network %s", o.Key.ContainerID, o.Key.Network)
		for _, a := range o.Addresses {
			if o.Key.Network != name {
				all = append(all, taken{prefix: netip.PrefixFrom(a, a.BitLen()), owner: owner})
			}
		}
	}
	return all, err
}

// defaultName is the network that shares its name, and so its leases, with the
// CNI configuration that flatnet comes with.
const defaultName = "flatnet"

// bridgeName is always the same for a subnet, so that a network that is
// removed and created again gets its bridge back: flatnet-br7 for 10.87.7.0/24
// and a hash for any subnet outside of that pool.
func bridgeName(network string, subnet netip.Prefix) string {
	a := subnet.Addr().AsSlice()
	switch {
	case network == defaultName:
		return model.DefaultBridge
	case subnet.Bits() == 24 && subnet.Addr().Is4() && a[0] == 10 && a[1] == 87:
		return fmt.Sprintf("flatnet-br%d", a[2])
	}
	hash := sha256.Sum(subnet.String())
	return fmt.Sprintf("flatnet-%x", hash[:4])[:model.IfNameSize-1]
}

// uniqueLocal makes up a subnet with a random global ID (RFC 4193, section 3.2).
func uniqueLocal() netip.Prefix {
	a := [16]byte{0: 0xfd}
	for i := 1; i < 6; i++ {
		a[i] = byte(rand.Uint32())
	}
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

// define returns the definition as Podman sent it, completed.
func define(doc *strictjson.Object, c *model.Config) []byte {
	var w strictjson.Writer
	w.Begin("", '{')
	w.CopyFields(doc, "network_interface", "subnets", "ipv6_enabled", "ipam_options")
	w.String("network_interface", c.Network.Bridge)
	w.Begin("subnets", '[')
	for i, s := range c.Network.Subnets {
		w.Begin("", '{')
		w.String("subnet", s.Prefix.String())
		w.String("gateway", s.Gateway.String())
		if r := c.IPAM.Sets[i][0]; r.Start.IsValid() || r.End.IsValid() {
			writeTexts(&w, "lease_range", "start_ip", text(r.Start), "end_ip", text(r.End))
		}
		w.End('}')
	}
	w.End(']')
	w.Bool("ipv6_enabled", hasFamily(c, true))
	writeTexts(&w, "ipam_options", "driver", ipamDriver)
	w.End('}')
	return append(w.Bytes, '\n')
}
