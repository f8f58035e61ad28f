// Package netavark is flatnet's door for Podman 5 and newer, whose network
// tool netavark calls plugins by
//
//	create            a network's definition is completed and validated
//	setup <netns>     a container is attached
//	teardown <netns>  a container is detached
//	info              versions
//
// with JSON on stdin and stdout (plugin-API.md of containers/netavark, API
// version 1.0.0). A failure is {"error": "..."} and exit status 1.
//
// Create declares to Podman that flatnet manages the addresses itself. So this door
// and the CNI door share the leases of networks of the same name.
package netavark

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"flatnet/bridge/deadend"
	"flatnet/bridge/model"
	"flatnet/internal/advice"
	"flatnet/internal/engine"
	"flatnet/internal/fields"
	"flatnet/internal/metric"
	"flatnet/internal/strictjson"
	"flatnet/internal/sysctl"
)

// NetworkDir is where Podman keeps the networks of the host by default
// (network_config_dir of containers.conf(5)).
const NetworkDir = "/etc/containers/networks"

// APIVersion is API_VERSION of netavark's plugin.rs.
const APIVersion = "1.0.0"

// A Plugin answers calls.
type Plugin struct {
	Engine   engine.Engine
	Version  string
	Networks string // directory of Podman's definitions of networks, see [NetworkDir]
}

// IsCommand reports whether a program's first argument is a command of this door.
func IsCommand(word string) bool {
	return slices.Contains([]string{"create", "setup", "teardown", "info"}, word)
}

// Main serves one call, whose arguments don't include the program's name, and
// returns the process's exit status. It writes to stdout once. An attachment that
// can't be reported is removed again; for this the process must outlive a closed
// stdout (SIGPIPE).
func (p Plugin) Main(args []string, stdin io.Reader, stdout io.Writer) int {
	reply, attached, err := p.serve(args, stdin)
	if err != nil {
		reply = encode("error", advice.Of(err))
	}
	var werr error
	if len(reply) > 0 { // a teardown has none, and stdout may be full
		_, werr = stdout.Write(reply)
	}
	if werr != nil {
		p.Engine.Warn(fmt.Sprintf("can't write the reply %s: %v", reply, werr))
	}
	if werr != nil && attached != nil {
		if derr := p.Engine.Del(attached); derr != nil {
			p.Engine.Warn(fmt.Sprintf("can't remove the attachment: %v", derr))
		}
	}
	if err != nil || werr != nil {
		return 1
	}
	return 0
}

// serve returns the reply, and the attachment if one was made.
func (p Plugin) serve(args []string, stdin io.Reader) (reply []byte, attached *model.Config, err error) {
	padded := append(slices.Clone(args), "", "")
	command, netns := padded[0], padded[1]
	if !IsCommand(command) || len(args) > 2 || (netns != "") != (command == "setup" || command == "teardown") {
		return nil, nil, fmt.Errorf("arguments %q: want create, setup <netns>, teardown <netns> or info", args)
	}
	if command == "info" {
		return encode("version", p.Version, "api_version", APIVersion), nil, nil
	}
	data, rerr := io.ReadAll(io.LimitReader(stdin, strictjson.MaxSize+1))
	doc, err := strictjson.Parse(data)
	if err := cmp.Or(rerr, err); err != nil {
		return nil, nil, fmt.Errorf("JSON on stdin: %w", err)
	}
	switch command {
	case "create":
		reply, err = p.create(doc)
	case "setup":
		reply, attached, err = p.setup(doc, netns)
	case "teardown":
		var c model.Config
		if c, err = readAttachment(doc); err == nil {
			c.Span.Registry = registries(doc)
			err = p.Engine.Del(&c)
			p.removeDeadEnds(doc, netns, c.Request.Key.IfName)
		}
	}
	for _, note := range doc.Notes() {
		p.Engine.Warn(command + ": " + note)
	}
	return reply, attached, err
}

// setup validates a NetworkPluginExec of netavark's types.rs and attaches its
// container.
func (p Plugin) setup(doc *strictjson.Object, netns string) ([]byte, *model.Config, error) {
	a, err := readAttachment(doc)
	network, options := doc.Object("network"), doc.Object("network_options")
	c := readNetwork(network)
	for _, key := range []string{"network_interface", "subnets"} { // create may choose them
		if !network.NonZero(key) {
			network.Fail(key, "must not be empty")
		}
	}
	fields.Text(options, "interface_name", fields.ParseIfName)
	c.Request = model.Request{
		Key: a.Request.Key, NetNS: netns, MAC: fields.MAC(options, "static_mac"), HostEnd: readHostEnd(options),
		IPs:   fields.Texts(options, "static_ips", fields.ParseAddr), // after a reload each one twice
		Ports: fields.Translatable(doc, "port_mappings", readPorts(doc)), Names: options.Strings("aliases"),
	}
	if c.unmanaged {
		c.checkUnmanaged(doc)
	}
	c.Network.Metric = cmp.Or(c.Network.Metric, metric.Netavark(a.Request.Key.IfName))
	if name, _ := doc.String("container_name"); name != "" {
		c.Request.Names = append([]string{name}, c.Request.Names...)
	}
	if err := cmp.Or(err, doc.Err()); err != nil {
		return nil, nil, err
	}
	result, err := p.Engine.Add(&c.Config)
	if err != nil {
		return nil, nil, err
	}
	return encodeStatus(&result), &c.Config, nil
}

// readHostEnd reads the one option that a container has in a network: the name of the
// interface on the host.
func readHostEnd(options *strictjson.Object) string {
	const key = "host_interface_name"
	o := options.Object("options")
	for other := range o.All() {
		if other != key {
			o.Fail(other, "flatnet has no such option of a container, only "+key)
		}
	}
	return fields.Optional(o, key, fields.ParseIfName)
}

// checkUnmanaged rejects what an unmanaged bridge can't do.
func (d *definition) checkUnmanaged(doc *strictjson.Object) {
	if len(d.Request.Ports) > 0 {
		doc.Fail("port_mappings", "network %s has the option mode=unmanaged, so the host has no way to its containers: "+
			"publish ports by a second network, or reach the containers by their own addresses", d.Network.Name)
	}
	if _, err := sysctl.Proc.Get(filepath.Join("net/ipv4/conf", d.Network.Bridge, "forwarding")); errors.Is(err, fs.ErrNotExist) {
		doc.Object("network").Fail("network_interface", "bridge %s does not exist, and flatnet makes none with the option mode=unmanaged", d.Network.Bridge)
	}
}

// removeDeadEnds takes routes that belong to no interface out of the container. The rest
// of the network may be anything.
func (p Plugin) removeDeadEnds(doc *strictjson.Object, netns, ifName string) {
	var routes []model.Route
	var d definition
	if text, ok := doc.Object("network").Object("options").String("metric"); ok {
		d.setMetric(text) // or it is 0
	}
	for _, o := range doc.Object("network").Objects("routes") {
		r := readRoute(o)
		r.Priority = cmp.Or(r.Priority, d.Network.Metric, metric.Netavark(ifName))
		routes = append(routes, r)
	}
	if err := deadend.Remove(netns, routes); err != nil {
		p.Engine.Warn(fmt.Sprintf("routes that go nowhere stay in the container: %v", err))
	}
}

// readAttachment reads what teardown needs of a NetworkPluginExec of netavark's
// types.rs; the rest may be anything.
func readAttachment(doc *strictjson.Object) (c model.Config, err error) {
	id, _ := doc.String("container_id")
	c.Network.Name, _ = doc.Object("network").String("name")
	ifName, _ := doc.Object("network_options").String("interface_name")
	c.Request.Key, err = model.NewKey(c.Network.Name, id, ifName)
	return c, cmp.Or(doc.Err(), err)
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
		for name := range strings.SplitSeq(cmp.Or(protocols, "tcp"), ",") {
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

// encodeStatus writes a StatusBlock of netavark's types.rs, with the interface that
// is in the container.
func encodeStatus(result *model.Result) []byte {
	var w strictjson.Writer
	w.Begin("", '{')
	if len(result.DNS.Nameservers) > 0 {
		w.Strings("dns_search_domains", result.DNS.Search)
		w.Strings("dns_server_ips", result.DNS.Nameservers)
	}
	w.Begin("interfaces", '{')
	for i, f := range result.Interfaces {
		if f.Sandbox == "" {
			continue
		}
		w.Begin(f.Name, '{')
		w.String("mac_address", f.MAC)
		w.Begin("subnets", '[')
		for _, ip := range result.IPs {
			if ip.Interface == i {
				writeTexts(&w, "", "ipnet", ip.Address.String(), "gateway", text(ip.Gateway)) // "" would be fatal
			}
		}
		w.End(']')
		w.End('}')
	}
	w.End('}')
	w.End('}')
	return w.Bytes
}

// encode returns an object of strings; keys and values alternate.
func encode(texts ...string) []byte {
	var w strictjson.Writer
	writeTexts(&w, "", texts...)
	return w.Bytes
}

// writeTexts writes an object of strings without those that are empty; keys and values
// alternate.
func writeTexts(w *strictjson.Writer, key string, texts ...string) {
	w.Begin(key, '{')
	for i := 0; i < len(texts); i += 2 {
		if texts[i+1] != "" {
			w.String(texts[i], texts[i+1])
		}
	}
	w.End('}')
}

// text returns an address, or "" for the zero one.
func text(a netip.Addr) string { return string(a.AppendTo(nil)) }
