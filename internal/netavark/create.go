package netavark

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"flatnet/bridge/model"
	"flatnet/internal/sha256"
	"flatnet/internal/strictjson"
)

// ipamDriver in ipam_options.driver tells Podman that addresses are the
// plugin's business: it then gives none but those that the user asked for.
const ipamDriver = "flatnet"

// A definition is a Network of netavark's types.rs as Podman stores it.
type definition struct {
	Name             string            `json:"name"`
	ID               string            `json:"id"`
	Driver           string            `json:"driver"`
	Created          string            `json:"created,omitempty"`
	NetworkInterface string            `json:"network_interface"`
	Subnets          []subnetJSON      `json:"subnets"`
	Routes           []routeJSON       `json:"routes,omitempty"`
	IPv6Enabled      bool              `json:"ipv6_enabled"`
	Internal         bool              `json:"internal"`
	DNSEnabled       bool              `json:"dns_enabled"`
	DNSServers       []netip.Addr      `json:"network_dns_servers,omitempty"`
	Labels           map[string]string `json:"labels,omitempty"`
	Options          map[string]string `json:"options,omitempty"`
	IPAMOptions      map[string]string `json:"ipam_options"`
}

type subnetJSON struct {
	Subnet     string     `json:"subnet"`
	Gateway    string     `json:"gateway,omitempty"`
	LeaseRange *rangeJSON `json:"lease_range,omitempty"`
}

type rangeJSON struct {
	Start string `json:"start_ip,omitempty"`
	End   string `json:"end_ip,omitempty"`
}

type routeJSON struct {
	Destination string `json:"destination"`
	Gateway     string `json:"gateway"`
	Metric      uint32 `json:"metric,omitempty"`
}

// create completes and validates a definition. It looks at the host and
// changes nothing: the network comes to be with its first container.
func (p Plugin) create(doc *strictjson.Object) ([]byte, error) {
	n := readNetwork(doc)
	var d definition
	d.ID, _ = doc.String("id")
	d.Driver, _ = doc.String("driver")
	d.Created, _ = doc.String("created")
	d.Labels, d.Options = readMap(doc, "labels"), readMap(doc, "options")
	if err := doc.Err(); err != nil {
		return nil, err
	}
	if n.dns && !p.Names.Installed() {
		if n.upstream != nil {
			return nil, errors.New("network_dns_servers: aardvark-dns, which would ask them, is not installed")
		}
		fmt.Fprintf(p.stderr, "flatnet: aardvark-dns is not installed, so the containers of network %s will not find each other by name\n", n.name)
	}
	if err := p.complete(&n); err != nil {
		return nil, err
	}
	return encode(n.define(d))
}

// readMap reads an object whose keys are the user's.
func readMap(doc *strictjson.Object, key string) map[string]string {
	o := doc.Object(key)
	m := map[string]string{}
	for k, v := range o.All() {
		s, ok := v.(string)
		if !ok {
			o.Fail(k, "want a string")
		}
		m[k] = s
	}
	return m
}

// complete chooses what the user left open: subnets, gateways, the bridge. An
// error says what is wrong, or with what the network would collide.
func (p Plugin) complete(n *network) error {
	used, err := p.inUse(n.name)
	if err != nil {
		return err
	}
	has := func(is6 bool) bool {
		return slices.ContainsFunc(n.subnets, func(s subnet) bool { return s.prefix.Addr().Is6() == is6 })
	}
	if n.ipv6 && !has(true) {
		n.subnets = append(n.subnets, subnet{prefix: uniqueLocal()})
	}
	if len(n.subnets) == 0 || n.ipv6 && !has(false) {
		return p.chooseSubnet(n, used)
	}
	return p.settle(n, used)
}

// chooseSubnet adds the first free /24 of the flat range in front: 10.87.1.0/24
// is kept for the network that the CNI configuration comes with.
func (p Plugin) chooseSubnet(n *network, used []claim) error {
	first := 2
	if n.name == defaultName {
		first = 1
	}
	var why error
	for third := first; third <= 255; third++ {
		try := *n
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 87, byte(third), 0}), 24)
		try.subnets = append([]subnet{{prefix: prefix}}, n.subnets...)
		err := p.settle(&try, used)
		if err == nil {
			*n = try
			return nil
		}
		if !errors.Is(err, model.ErrConflict) {
			return err
		}
		if why == nil {
			why = err
		}
	}
	return fmt.Errorf("no /24 of %s can be had for network %s: %w", model.DefaultFlat, n.name, why)
}

// settle fills in bridge and gateways of a network that has its subnets. What
// it collides with is a [model.ErrConflict].
func (p Plugin) settle(n *network, used []claim) error {
	if n.bridge == "" {
		n.bridge = bridgeName(*n)
	}
	network, sets, err := n.validate()
	if err != nil {
		return err
	}
	n.subnets = slices.Clone(n.subnets)
	n.ipv6 = false
	for i, r := range sets.Ranges() {
		n.subnets[i].gateway = r.Gateway()
		n.ipv6 = n.ipv6 || r.Subnet().Addr().Is6()
	}
	for _, c := range used {
		if err := c.collides(*n); err != nil {
			return err
		}
	}
	// Other firewalls are no reason against a network: when its first container
	// comes, they may have changed, and what they do is said.
	network.ForwardAccept = true
	// It would need the leases only to judge attachments that are there.
	return p.Host.Status(network, unleased{})
}

// defaultName is the network that shares its name, and so its leases, with the
// CNI configuration that flatnet comes with.
const defaultName = "flatnet"

// bridgeName is always the same for a subnet, so that a network that is
// removed and created again gets its bridge back: flatnet-br7 for 10.87.7.0/24
// and a hash for what is not of that pool.
func bridgeName(n network) string {
	prefix := n.subnets[0].prefix
	a := prefix.Addr().AsSlice()
	switch {
	case n.name == defaultName:
		return model.DefaultBridge
	case prefix.Bits() == 24 && prefix.Addr().Is4() && a[0] == 10 && a[1] == 87:
		return fmt.Sprintf("flatnet-br%d", a[2])
	}
	hash := sha256.Sum(prefix.String())
	return fmt.Sprintf("flatnet-%x", hash[:4])[:model.IfNameSize-1]
}

// uniqueLocal makes up a subnet with a random global ID (RFC 4193, section 3.2).
func uniqueLocal() netip.Prefix {
	var a [16]byte
	binary.BigEndian.PutUint64(a[:], 0xfd<<56|rand.Uint64N(1<<40)<<16)
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

// define writes the network into what Podman sent.
func (n network) define(d definition) definition {
	d.Name, d.NetworkInterface = n.name, n.bridge
	d.IPv6Enabled, d.Internal, d.DNSEnabled, d.DNSServers = n.ipv6, n.internal, n.dns, n.upstream
	d.IPAMOptions = map[string]string{"driver": ipamDriver}
	for _, s := range n.subnets {
		out := subnetJSON{Subnet: s.prefix.String(), Gateway: s.gateway.String()}
		if s.start.IsValid() || s.end.IsValid() {
			out.LeaseRange = &rangeJSON{text(s.start), text(s.end)}
		}
		d.Subnets = append(d.Subnets, out)
	}
	for _, r := range n.routes {
		d.Routes = append(d.Routes, routeJSON{r.Dst.String(), r.Gateway.String(), r.Priority})
	}
	return d
}

func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
