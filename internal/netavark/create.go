package netavark

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/sha256"
	"flatnet/internal/strictjson"
)

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
		fmt.Fprintf(p.stderr, "flatnet: aardvark-dns is not installed, "+
			"so the containers of network %s will not find each other by name\n", c.Network.Name)
	}
	others, err := p.otherNetworks(c.Network.Name)
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
func (p Plugin) chooseSubnet(c *model.Config, others []otherNetwork) error {
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
		if err == nil {
			*c = try
			return nil
		}
		if !errors.Is(err, model.ErrConflict) {
			return err
		}
		if reason == nil {
			reason = err
		}
	}
	return fmt.Errorf("no /24 of %s can be had for network %s: %w", model.DefaultFlat, c.Network.Name, reason)
}

// complete sets the bridge's name and the gateways of a network that has its
// subnets. A collision is a [model.ErrConflict].
func (p Plugin) complete(c *model.Config, others []otherNetwork) error {
	if c.Network.Bridge == "" {
		c.Network.Bridge = bridgeName(c.Network.Name, c.IPAM.Sets[0][0].Subnet)
	}
	for _, other := range others {
		if err := other.collides(c); err != nil {
			return err
		}
	}
	subnets, err := p.Engine.Subnets(c)
	c.Network.Subnets = subnets
	return err
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
	completed := []string{"network_interface", "subnets", "ipv6_enabled", "ipam_options"}
	var w strictjson.Writer
	w.Begin("", '{')
	w.CopyFields(doc, func(key string) bool {
		return !slices.ContainsFunc(completed, func(k string) bool { return strings.EqualFold(k, key) })
	})
	w.String("network_interface", c.Network.Bridge)
	w.Begin("subnets", '[')
	for i, s := range c.Network.Subnets {
		w.Begin("", '{')
		w.String("subnet", s.Prefix.String())
		w.String("gateway", s.Gateway.String())
		if r := c.IPAM.Sets[i][0]; r.Start.IsValid() || r.End.IsValid() {
			w.Begin("lease_range", '{')
			writeAddr(&w, "start_ip", r.Start)
			writeAddr(&w, "end_ip", r.End)
			w.End('}')
		}
		w.End('}')
	}
	w.End(']')
	w.Bool("ipv6_enabled", hasFamily(c, true))
	w.Begin("ipam_options", '{')
	w.String("driver", ipamDriver)
	w.End('}')
	w.End('}')
	return append(w.Bytes, '\n')
}

func writeAddr(w *strictjson.Writer, key string, a netip.Addr) {
	if a.IsValid() {
		w.String(key, a.String())
	}
}
