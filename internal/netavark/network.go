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

	"flatnet/bridge/model"
	"flatnet/internal/containersconf"
	"flatnet/internal/fields"
	"flatnet/internal/input"
	"flatnet/internal/peer"
	"flatnet/internal/rootless"
	"flatnet/internal/sha256"
	"flatnet/internal/strictjson"
)

// ipamDriver in ipam_options.driver makes Podman leave addresses to the plugin: it
// then chooses none but those that the user asked for.
const ipamDriver = "flatnet"

// readNetwork reads what create and setup have in common: a Network of netavark's
// types.rs. The bridge's name and the subnets may be missing.
func readNetwork(o *strictjson.Object) definition {
	internal := o.Bool("internal", false)
	c := definition{Config: model.Config{
		Names:    o.Bool("dns_enabled", false),
		Upstream: fields.Texts(o, "network_dns_servers", fields.ParseAddr),
		Network: model.Network{
			Name:             fields.Required(o, "name", parseName),
			Bridge:           fields.Optional(o, "network_interface", fields.ParseIfName),
			IsGateway:        true,
			IsDefaultGateway: !internal,
			IPMasq:           !internal,
			Internal:         internal,
			Isolated:         true,
		},
	}}
	c.readOptions(o)
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
	c.addHostSubnet(o)
	for _, r := range o.Objects("routes") {
		c.Network.Routes = append(c.Network.Routes, readRoute(r))
	}
	return c
}

func parseName(s string) (string, error) { return s, model.ValidName(s) }

// readRoute reads a Route of netavark's types.rs.
func readRoute(o *strictjson.Object) model.Route {
	kinds := map[string]uint8{"": 0, "unicast": 0, "blackhole": model.Blackhole, "unreachable": model.Unreachable, "prohibit": model.Prohibit}
	kind, _ := o.String("route_type")
	r := model.Route{Dst: fields.Subnet(o, "destination"), Priority: fields.Uint[uint32](o, "metric"), Type: kinds[kind]}
	switch _, known := kinds[kind]; {
	case !known:
		o.Fail("route_type", "%.60q is none of unicast, blackhole, unreachable, prohibit", kind)
	case r.Type != 0 && o.NonZero("gateway"):
		o.Fail("gateway", "a route of type %s has none", kind)
	case r.Type == 0:
		r.Gateway = fields.Required(o, "gateway", fields.ParseAddr)
		if r.Gateway.Is4() != r.Dst.Addr().Is4() {
			o.Fail("gateway", "%s is not of the family of %s", r.Gateway, r.Dst)
		}
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
			" will not find each other by name; install it, or leave names out (--disable-dns)")
	}
	others, err := p.others(c.Network.Name)
	if err == nil {
		err = c.readFile()
	}
	if err != nil {
		return nil, err
	}
	if ipv6 && !hasFamily(&c.Config, true) {
		c.IPAM.Sets = append(c.IPAM.Sets, []model.Range{{Subnet: uniqueLocal()}})
	}
	if len(c.IPAM.Sets) == 0 || ipv6 && !hasFamily(&c.Config, false) {
		err = p.chooseSubnet(&c.Config, others)
	} else {
		err = p.complete(&c.Config, others)
	}
	if err != nil {
		return nil, err
	}
	return define(doc, &c.Config), nil
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
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 87, byte(third), 0}), 24)
		if slices.ContainsFunc(c.Network.Peers, func(p peer.Peer) bool { return p.Subnet.Overlaps(subnet) }) {
			continue // another host's
		}
		try := *c
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
		c.Network.Bridge = bridgeName(&c.Network, c.IPAM.Sets[0][0].Subnet)
	}
	for _, o := range others {
		if o.bridge == c.Network.Bridge && o.vlan == c.Network.VLANs.ID && c.Network.IsGateway {
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
	vlan   uint16       // that the network is on the bridge; 0: none
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
		data, _ := input.Read(filepath.Join(p.Networks, file), strictjson.MaxSize)
		doc, err := strictjson.Parse(data)
		if err != nil {
			continue
		}
		defined, _ := doc.String("name")
		bridge, _ := doc.String("network_interface")
		vlan, _ := doc.Object("options").String("vlan")
		id, _ := strconv.ParseUint(vlan, 10, 16)
		list := []taken{{bridge: bridge, vlan: uint16(id), owner: "network " + defined}}
		for _, s := range doc.Objects("subnets") {
			text, _ := s.String("subnet")
			prefix, _ := netip.ParsePrefix(text) // zero: the rest is taken all the same
			list = append(list, taken{prefix: prefix.Masked(), owner: list[0].owner})
		}
		if doc.Err() == nil && defined != name && file == defined+".json" { // else it is none of Podman's
			all = append(all, list...)
		}
	}
	conf := containersconf.Read("/", rootless.Settings())
	if conf.Default != name && !slices.Contains(files, conf.Default+".json") {
		owner := "Podman's default network " + conf.Default + ", which is in memory only (default_subnet of containers.conf)"
		all = append(all, taken{prefix: conf.Subnet, owner: owner})
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
// and a hash for any subnet outside of that pool; a short one where the number of a VLAN
// is to follow (see [model.Network.GatewayName]).
func bridgeName(n *model.Network, subnet netip.Prefix) string {
	a := subnet.Addr().AsSlice()
	hash := sha256.Sum(subnet.String())
	switch {
	case n.VLANs.ID != 0:
		return fmt.Sprintf("fbr-%x", hash[:3])
	case n.Name == defaultName:
		return model.DefaultBridge
	case subnet.Bits() == 24 && subnet.Addr().Is4() && a[0] == 10 && a[1] == 87:
		return fmt.Sprintf("flatnet-br%d", a[2])
	}
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
	w.CopyFields(doc, "network_interface", "subnets", "ipv6_enabled", "ipam_options", "dns_enabled")
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
	w.Bool("dns_enabled", c.Names)
	writeTexts(&w, "ipam_options", "driver", ipamDriver)
	w.End('}')
	return append(w.Bytes, '\n')
}
