package netavark

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/fields"
	"flatnet/internal/span"
	"flatnet/internal/strictjson"
)

// A definition is a network's definition as it is read.
type definition struct {
	model.Config
	unregistered bool // registries are not told
	unmanaged    bool // the bridge is somebody else's: no addresses and rules of a gateway
}

// set sets what an option says.
type set func(d *definition, value string) error

// option returns what an option of podman network create -o sets, or nil. Those of
// netavark's bridge driver have its words (constants.rs), and Podman's docker-compatible
// API passes Docker's names.
func option(name string) set {
	return map[string]set{
		"mtu":                            (*definition).setMTU,
		"com.docker.network.driver.mtu":  (*definition).setMTU,
		"com.docker.network.bridge.name": (*definition).setBridge,
		"isolate":                        (*definition).setIsolate,
		"metric":                         (*definition).setMetric,
		"vlan":                           (*definition).setVLAN,
		"mode":                           (*definition).setMode,
		"inbound":                        (*definition).setInbound,
		"no_masquerade":                  (*definition).setNoMasquerade,
		"peers":                          func(d *definition, s string) error { return fields.ParsePeers(&d.Network, s) },
		"masquerade":                     (*definition).setMasquerade,
		"com.docker.network.bridge.enable_ip_masquerade": (*definition).setMasquerade,
		"host_id":            (*definition).setHostID,
		"subnet_file":        (*definition).setSubnetFile,
		"registry_endpoints": func(d *definition, s string) (err error) { d.Span.Registry, err = span.ParseEndpoints(s); return err },
		"registry_enabled":   boolean(func(d *definition, v bool) { d.unregistered = !v }),
		"no_default_route": boolean(func(d *definition, v bool) {
			d.Network.IsDefaultGateway = d.Network.IsDefaultGateway && !v
		}),
		"forwardAccept": boolean(func(d *definition, v bool) { d.Network.ForwardAccept = v }),
		"allowOverlap":  boolean(func(d *definition, v bool) { d.Network.AllowOverlap = v }),
		"dns":           boolean(func(d *definition, v bool) { d.Names = v }),
		"macspoofchk":   boolean(func(d *definition, v bool) { d.Network.SpoofCheck = v }),
	}[name]
}

// options are the names that are flatnet's and netavark's; Docker's mean the same.
var options = []string{
	"allowOverlap", "dns", "forwardAccept", "host_id", "inbound", "isolate", "macspoofchk", "masquerade", "metric", "mode",
	"mtu", "no_default_route", "no_masquerade", "peers", "registry_enabled", "registry_endpoints", "subnet_file", "vlan",
}

// instead returns what to use for an option that flatnet has not, or "".
func instead(name string) string {
	const snat = "set masquerade=false, and add a rule with snat to a table of your own"
	return map[string]string{
		"vrf":                                  "set allowOverlap=true, and run ip link set BRIDGE master VRF after the first container",
		"bclim":                                "it is of --driver macvlan",
		"parent":                               "it is of --driver macvlan; --interface-name names the bridge",
		"outbound_addr4":                       snat,
		"outbound_addr6":                       snat,
		"portIsolation":                        "put containers that must not meet into networks of their own",
		"com.docker.network.bridge.enable_icc": "put containers that must not meet into networks of their own",
		"com.docker.network.bridge.host_binding_ipv4":       "give the address with each port: -p ADDRESS:PORT:PORT",
		"com.docker.network.container_iface_prefix":         "name the interface with --network NAME:interface_name=",
		"com.docker.network.enable_ipv6":                    "create the network with --ipv6",
		"com.docker.network.bridge.inhibit_ipv4":            "set mode=unmanaged for a bridge without a gateway address",
		"com.docker.network.bridge.gateway_mode_ipv4":       "set masquerade=false for addresses that the LAN sees",
		"com.docker.network.bridge.gateway_mode_ipv6":       "set masquerade=false for addresses that the LAN sees",
		"com.docker.network.bridge.trusted_host_interfaces": "set inbound=published",
	}[name]
}

// readOptions reads a network's options; network is the object that they are of.
func (d *definition) readOptions(network *strictjson.Object) {
	o := network.Object("options")
	for key := range o.All() {
		set := option(key)
		if set == nil {
			text := "flatnet has no such option, only " + strings.Join(options, ", ")
			other := instead(key)
			if i := slices.IndexFunc(options, func(o string) bool { return fields.Similar(o, key) }); i >= 0 && other == "" {
				other = fmt.Sprintf("did you mean %q?", options[i])
			}
			if other != "" {
				text = "flatnet has no such option; " + other
			}
			o.Fail(key, "%s", text)
			continue
		}
		if value, ok := o.String(key); ok {
			if err := set(d, value); err != nil {
				o.Fail(key, "%w", err)
			}
		}
	}
	if d.unmanaged {
		d.leaveBridge(network, o)
	}
	n := &d.Network
	masquerade, asked := o.String("masquerade")
	docker, askedDocker := o.String("com.docker.network.bridge.enable_ip_masquerade")
	on, _ := parseBool(masquerade)
	dockers, _ := parseBool(docker)
	if asked && askedDocker && on != dockers {
		o.Fail("masquerade", "%s is not the %s of another option", masquerade, docker)
	}
	d.spread(o, asked || askedDocker)
	if n.VLANs.ID != 0 && n.Bridge != "" && model.ValidIfName(n.GatewayName()) != nil {
		o.Fail("vlan", "the bridge's name is too long for the interface %q", n.GatewayName())
	}
}

// leaveBridge makes the network one on a bridge that somebody else has set up: containers
// get addresses and routes, and the bridge and the host's firewall stay as they are.
func (d *definition) leaveBridge(network, options *strictjson.Object) {
	n := &d.Network
	if n.Bridge == "" {
		options.Fail("mode", "unmanaged requires the name of a bridge, --interface-name")
	}
	for _, key := range []string{"isolate", "inbound", "masquerade", "no_masquerade", "forwardAccept", "dns", "peers"} {
		if options.Has(key) {
			options.Fail(key, "the bridge is unmanaged, so nothing is translated, filtered or served there; leave it out, or mode=unmanaged")
		}
	}
	if network.NonZero("network_dns_servers") {
		network.Fail("network_dns_servers", "the bridge is unmanaged, so no DNS server listens there")
	}
	d.Names, n.IsGateway, n.IPMasq, n.Isolated = false, false, false, false
}

// boolean is the set of an option that is true or false, in the words that Podman takes.
func boolean(fn func(d *definition, v bool)) set {
	return func(d *definition, value string) error {
		v, err := parseBool(value)
		if err == nil {
			fn(d, v)
		}
		return err
	}
}

func parseBool(s string) (bool, error) {
	v, err := strconv.ParseBool(s)
	if err != nil {
		return false, fmt.Errorf("%.60q is none of true, false, 1, 0", s)
	}
	return v, nil
}

// parseNumber reads a number that is written as a string, as all options are.
func parseNumber(s string, limit uint64) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%.60q is not a number", s)
	case n > limit:
		return 0, fmt.Errorf("%d is more than %d", n, limit)
	}
	return n, nil
}

func (d *definition) setMTU(value string) error {
	n, err := parseNumber(value, 1<<32-1)
	if err == nil {
		err = fields.CheckMTU(n)
	}
	if err == nil && d.Network.MTU != 0 && uint64(d.Network.MTU) != n {
		err = fmt.Errorf("%d is not the %d of another option", n, d.Network.MTU)
	}
	if err == nil {
		d.Network.MTU = uint32(n)
	}
	return err
}

func (d *definition) setBridge(value string) error {
	name, err := fields.ParseIfName(value)
	if err == nil && d.Network.Bridge != "" && d.Network.Bridge != name {
		err = fmt.Errorf("%q is not the network_interface, %q", name, d.Network.Bridge)
	}
	if err == nil {
		d.Network.Bridge = name
	}
	return err
}

// setIsolate: flatnet isolates by default, from all other networks, which netavark 2
// calls strict and does by default, too.
func (d *definition) setIsolate(value string) (err error) {
	if value == "strict" {
		d.Network.Isolated = true
		return nil
	}
	if d.Network.Isolated, err = strconv.ParseBool(value); err != nil {
		return fmt.Errorf("%.60q is none of strict, true, false, 1, 0", value)
	}
	return nil
}

// setMetric: 0 becomes 1, which comes before all others in both families; in IPv6 the
// kernel would make 1024 of it.
func (d *definition) setMetric(value string) error {
	n, err := parseNumber(value, 1<<32-1)
	d.Network.Metric = max(1, uint32(n))
	return err
}

func (d *definition) setVLAN(value string) error {
	n, err := parseNumber(value, fields.MaxVLAN)
	d.Network.VLANs.ID = uint16(n)
	return err
}

func (d *definition) setMode(value string) error {
	if value != "managed" && value != "unmanaged" {
		return fmt.Errorf("%.60q is none of managed, unmanaged", value)
	}
	d.unmanaged = value == "unmanaged"
	return nil
}

func (d *definition) setInbound(value string) error {
	if value != "any" && value != "published" {
		return fmt.Errorf("%.60q is none of any, published", value)
	}
	d.Network.PublishedOnly = value == "published"
	return nil
}

func (d *definition) setMasquerade(value string) error {
	v, err := parseBool(value)
	d.Network.IPMasq = v && !d.Network.Internal
	return err
}

// setNoMasquerade adds destinations that see the container's own address.
func (d *definition) setNoMasquerade(value string) error {
	for s := range strings.SplitSeq(value, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(s))
		if err != nil || p.Addr().Is4In6() {
			return fmt.Errorf("%.60q is not a list of subnets in the form 10.1.0.0/16,10.2.0.0/16", value)
		}
		if !slices.Contains(d.Network.Flat, p.Masked()) {
			d.Network.Flat = append(d.Network.Flat, p.Masked())
		}
	}
	return nil
}
