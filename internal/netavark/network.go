package netavark

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/fields"
	"flatnet/internal/strictjson"
)

// ipamDriver in ipam_options.driver makes Podman leave addresses to the plugin: it
// then chooses none but those that the user asked for.
const ipamDriver = "flatnet"

// readNetwork reads what create and setup have in common: a Network of netavark's
// types.rs. The bridge's name and the subnets may be missing.
func readNetwork(o *strictjson.Object) model.Config {
	options := o.Object("options")
	checkOptions(options)
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
		r := readSubnet(s)
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

// checkOptions rejects the options that readNetwork does not read.
func checkOptions(options *strictjson.Object) {
	known := []string{"mtu", "isolate", "forwardAccept", "inbound", "allowOverlap"}
	for key := range options.All() {
		if !slices.Contains(known, key) {
			options.Fail(key, "flatnet has no such option, only %s", strings.Join(known, ", "))
		}
	}
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

func readSubnet(o *strictjson.Object) model.Range {
	lease := o.Object("lease_range")
	return model.Range{
		Subnet:  fields.Subnet(o, "subnet"),
		Gateway: fields.Addr(o, "gateway"),
		Start:   fields.Addr(lease, "start_ip"),
		End:     fields.Addr(lease, "end_ip"),
	}
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

// readAttachment reads what teardown needs of a NetworkPluginExec of netavark's
// types.rs; the rest may be anything.
func readAttachment(doc *strictjson.Object) (c model.Config, err error) {
	id, _ := doc.String("container_id")
	c.Network.Name, _ = doc.Object("network").String("name")
	ifName, _ := doc.Object("network_options").String("interface_name")
	if err := doc.Err(); err != nil {
		return c, err
	}
	c.Request.Key, err = model.NewKey(c.Network.Name, id, ifName)
	return c, err
}

// readSetup reads and validates a NetworkPluginExec.
func (p Plugin) readSetup(doc *strictjson.Object, netns string) (model.Config, error) {
	a, err := readAttachment(doc)
	if err != nil {
		return a, err
	}
	network, options := doc.Object("network"), doc.Object("network_options")
	c := readNetwork(network)
	if c.Network.Bridge == "" {
		network.Fail("network_interface", "must not be empty")
	}
	if len(c.IPAM.Sets) == 0 {
		network.Fail("subnets", "must not be empty")
	}
	fields.Text(options, "interface_name", fields.ParseIfName)
	if options.NonZero("options") {
		options.Fail("options", "flatnet has no option of a container")
	}
	c.Names = c.Names && p.Engine.Names.Installed()
	c.Request = model.Request{
		Key: a.Request.Key, NetNS: netns, MAC: fields.MAC(options, "static_mac"),
		IPs:   fields.Texts(options, "static_ips", fields.ParseAddr), // after a reload each one twice
		Ports: readPorts(doc), Names: options.Strings("aliases"),
	}
	if name, _ := doc.String("container_name"); name != "" {
		c.Request.Names = append([]string{name}, c.Request.Names...)
	}
	return c, doc.Err()
}

// readPorts expands the port mappings: Podman sends them as the user wrote
// them, with ranges, and with protocols separated by commas.
func readPorts(doc *strictjson.Object) (ports []model.PortMapping) {
	for _, o := range doc.ManyObjects("port_mappings", fields.MaxPorts) {
		p := model.PortMapping{
			HostIP: fields.HostIP(o, "host_ip"), HostPort: fields.Port(o, "host_port"),
			ContainerPort: fields.Port(o, "container_port"),
		}
		count := max(1, int(fields.Uint[uint16](o, "range")))
		if first := int(max(p.HostPort, p.ContainerPort)); first+count-1 > math.MaxUint16 {
			o.Fail("range", "%d ports from %d on end after %d", count, first, math.MaxUint16)
		}
		protocols, _ := o.String("protocol")
		if protocols == "" {
			protocols = "tcp"
		}
		for name := range strings.SplitSeq(protocols, ",") {
			var err error
			if p.Protocol, err = fields.ParseProtocol(name); err != nil {
				o.Fail("protocol", "%w", err)
			}
			if len(ports)+count > fields.MaxPorts {
				o.Fail("range", "more than %d ports in all", fields.MaxPorts)
				return nil
			}
			for i := range count {
				next := p
				next.HostPort += uint16(i)
				next.ContainerPort += uint16(i)
				ports = append(ports, next)
			}
		}
	}
	return ports
}

// encodeStatus writes a StatusBlock of netavark's types.rs. The interface is
// the one of the result that is in the container.
func encodeStatus(ifName string, result *model.Result) []byte {
	var w strictjson.Writer
	w.Begin("", '{')
	if len(result.DNS.Nameservers) > 0 {
		w.Strings("dns_search_domains", result.DNS.Search)
		w.Strings("dns_server_ips", result.DNS.Nameservers)
	}
	w.Begin("interfaces", '{')
	inside := slices.IndexFunc(result.Interfaces, func(i model.Interface) bool { return i.Sandbox != "" })
	if inside >= 0 {
		w.Begin(ifName, '{')
		w.String("mac_address", result.Interfaces[inside].MAC)
		w.Begin("subnets", '[')
		for _, ip := range result.IPs {
			if ip.Interface != inside {
				continue
			}
			w.Begin("", '{')
			w.String("ipnet", ip.Address.String())
			if ip.Gateway.IsValid() { // "" would be fatal
				w.String("gateway", ip.Gateway.String())
			}
			w.End('}')
		}
		w.End(']')
		w.End('}')
	}
	w.End('}')
	w.End('}')
	return w.Bytes
}
