package netavark

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/dns"
	"flatnet/internal/strictjson"
	"flatnet/ipam"
)

// An attachment is what one setup asks for.
type attachment struct {
	network  model.Network
	sets     ipam.Sets
	request  model.Request
	dns      bool
	upstream []netip.Addr
}

// readKey reads what teardown needs of a NetworkPluginExec of netavark's
// types.rs; the rest may be anything.
func readKey(doc *strictjson.Object) (model.Key, error) {
	id, _ := doc.String("container_id")
	network, _ := doc.Object("network").String("name")
	ifName, _ := doc.Object("network_options").String("interface_name")
	if err := doc.Err(); err != nil {
		return model.Key{}, err
	}
	return model.NewKey(network, id, ifName)
}

// readSetup reads and validates a NetworkPluginExec.
func readSetup(doc *strictjson.Object, netns string) (attachment, error) {
	n := readNetwork(doc.Object("network"))
	options := doc.Object("network_options")
	readIfName(options, "interface_name")
	a := attachment{dns: n.dns, upstream: n.upstream, request: model.Request{NetNS: netns, Ports: readPorts(doc)}}
	for _, ip := range readAddrs(options, "static_ips") {
		if !slices.Contains(a.request.IPs, ip) { // after a reload Podman repeats them
			a.request.IPs = append(a.request.IPs, ip)
		}
	}
	if s, _ := options.String("static_mac"); s != "" {
		mac, err := model.ParseHardwareAddr(s)
		if err != nil {
			options.Fail("static_mac", "%w", err)
		}
		a.request.MAC = mac
	}
	if options.NonZero("options") {
		options.Fail("options", "flatnet knows no option of a container")
	}
	if n.dns {
		a.request.Names = readNames(doc)
	}
	key, err := readKey(doc) // and so all that was read until here
	if err != nil {
		return a, err
	}
	a.request.Key = key
	if n.bridge == "" {
		return a, fmt.Errorf("network.network_interface: must not be empty")
	}
	if a.network, a.sets, err = n.validate(); err != nil {
		err = fmt.Errorf("network.%w", err)
	}
	return a, err
}

// readNames reads the names by which a container is to be found.
func readNames(doc *strictjson.Object) []string {
	var names []string
	if s, _ := doc.String("container_name"); s != "" {
		names = append(names, s)
	}
	return append(names, doc.Object("network_options").Strings("aliases")...)
}

// record is what the attachment's names are to say once it is made.
func (a attachment) record(result model.Result) dns.Record {
	r := dns.Record{Key: a.request.Key, Names: a.request.Names, Upstream: a.upstream, Internal: a.network.Internal}
	for _, s := range a.network.Subnets {
		if !s.Gateway.IsLinkLocalUnicast() { // which nobody can ask without naming the link
			r.Listen = append(r.Listen, s.Gateway)
		}
	}
	for _, ip := range result.IPs {
		r.Addresses = append(r.Addresses, ip.Address.Addr())
	}
	return r
}

// Protocols of linux/in.h.
var protocols = map[string]uint8{"tcp": 6, "udp": 17, "sctp": 132}

// maxPorts bounds how many ports one container publishes: all of each protocol.
const maxPorts = 3 * math.MaxUint16

// readPorts expands the port mappings: Podman sends them as the user wrote
// them, with ranges, and with protocols separated by commas.
func readPorts(doc *strictjson.Object) []model.PortMapping {
	var ports []model.PortMapping
	for _, o := range doc.ManyObjects("port_mappings", maxPorts) {
		host, container := readPort(o, "host_port"), readPort(o, "container_port")
		count, _ := o.Uint("range", math.MaxUint16)
		count = max(count, 1)
		if last := max(host, container) + count - 1; last > math.MaxUint16 {
			o.Fail("range", "%d ports from %d on end after %d", count, max(host, container), math.MaxUint16)
		}
		list, _ := o.String("protocol")
		if list == "" {
			list = "tcp"
		}
		ip := readAddr(o, "host_ip")
		for name := range strings.SplitSeq(list, ",") {
			protocol, known := protocols[name]
			if !known {
				o.Fail("protocol", "%.60q is none of tcp, udp, sctp", name)
			}
			if uint64(len(ports))+count > maxPorts {
				o.Fail("range", "more than %d ports in all", maxPorts)
				return nil
			}
			for i := range count {
				ports = append(ports, model.PortMapping{
					Protocol: protocol, HostIP: ip, HostPort: uint16(host + i), ContainerPort: uint16(container + i),
				})
			}
		}
	}
	return ports
}

func readPort(o *strictjson.Object, key string) uint64 {
	n, _ := o.Uint(key, math.MaxUint16)
	if n == 0 {
		o.Fail(key, "must be a number from 1 to %d", math.MaxUint16)
	}
	return n
}

// encodeStatus writes a StatusBlock of netavark's types.rs. The interface is
// the one of the result that is in the container.
func encodeStatus(ifName string, result model.Result, servers []string) []byte {
	var w strictjson.Writer
	w.Begin("", '{')
	if len(servers) > 0 {
		w.Strings("dns_search_domains", []string{dns.SearchDomain})
		w.Strings("dns_server_ips", servers)
	}
	w.Begin("interfaces", '{')
	for i, f := range result.Interfaces {
		if f.Sandbox == "" {
			continue
		}
		w.Begin(ifName, '{')
		w.String("mac_address", f.MAC)
		w.Begin("subnets", '[')
		for _, ip := range result.IPs {
			if ip.Interface != i {
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
