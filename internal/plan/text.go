package plan

import (
	"cmp"
	"fmt"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/advice"
	"flatnet/internal/strictjson"
)

// A page is a text whose lines begin with a word.
type page struct {
	lines []string
	last  string
}

// add appends a line. It leaves the word out if the line before begins with the same one.
func (t *page) add(word, format string, args ...any) {
	shown := word
	if word == t.last {
		shown = ""
	}
	t.last = word
	t.lines = append(t.lines, fmt.Sprintf("%-11s ", shown)+advice.Plain(fmt.Sprintf(format, args...)))
}

// text returns the plan for people.
func (p *Plan) text() []string {
	var t page
	p.ways(&t)
	p.rules(&t)
	p.rest(&t)
	return t.lines
}

func existing(there bool) string {
	if there {
		return "exists"
	}
	return "new"
}

// door returns the name of the door that the configuration is for.
func (p *Plan) door() string {
	if p.source.netavark {
		return "netavark"
	}
	return "cni"
}

// ways lists links, addresses and routes.
func (p *Plan) ways(t *page) {
	a := p.Attachment
	t.add("network", "%s (%s, %s)", a.Name, p.door(), p.path)
	t.add("bridge", "%s (%s)", a.Bridge, existing(p.BridgeExists))
	for _, g := range p.Gateways {
		t.add("gateway", "%s on %s (%s)", g.Prefix, a.GatewayName(), existing(g.there))
	}
	for _, subnet := range a.HostRoutes() {
		t.add("host route", "%s by %s", subnet, a.GatewayName())
	}
	for _, peer := range a.Peers {
		t.add("host route", "%s", peer.Route())
	}
	t.add("container", "%s", a.Key.IfName)
	if a.MAC != (model.HardwareAddr{}) {
		t.add("MAC", "%s", a.MAC)
	}
	if a.NoAddress {
		t.add("address", "none: the interface stays down (disableContainerInterface)")
	}
	for _, addr := range a.Addresses {
		t.add("address", "%s", addr.Prefix)
	}
	for _, r := range a.Routes {
		t.add("route", "%s", routeText(r))
	}
	end := a.HostEnd
	if p.container == "" {
		end = "fn-<the first 8 characters of the container's ID>"
	}
	t.add("host end", "%s", end)
	if a.MTU == 0 {
		t.add("MTU", "%s", p.MTUFrom)
	} else {
		t.add("MTU", "%d (%s)", a.MTU, p.MTUFrom)
	}
}

func routeText(r model.Route) string {
	text := r.Dst.String()
	switch {
	case r.Gateway.IsValid():
		text += " via " + r.Gateway.String()
	case r.Type != 0:
		text = [...]string{model.Blackhole: "blackhole ", model.Unreachable: "unreachable ", model.Prohibit: "prohibit "}[r.Type] + text
	}
	if r.Priority != 0 {
		text += fmt.Sprintf(" metric %d", r.Priority)
	}
	if r.Table != nil {
		text += fmt.Sprintf(" table %d", *r.Table)
	}
	if r.MTU != 0 {
		text += fmt.Sprintf(" mtu %d", r.MTU)
	}
	return text
}

// features calls fn for each feature of the rules and of the port on the bridge, with its key
// in JSON, whether it is on, a word and a sentence.
func (p *Plan) features(fn func(key string, on bool, word, text string)) {
	n := &p.Attachment.Network
	fn("masquerade", n.IPMasq && !n.Internal, "masquerade", "what leaves the subnets gets the host's address")
	fn("internal", n.Internal, "internal", "nothing is forwarded to or from outside, and there is no default route")
	fn("isolated", n.Isolated, "isolation", "containers of other networks of flatnet don't reach this one's")
	fn("portIsolated", n.PortIsolated, "isolation", "containers of the network don't reach each other")
	fn("publishedOnly", n.PublishedOnly, "inbound", "others than the host reach published ports only")
	fn("spoofCheck", n.SpoofCheck, "spoofing", "frames with another's MAC or IP address are dropped at the port")
	fn("forwardAccept", n.ForwardAccept, "firewalls", "chains of others that drop what containers send get an accept rule")
	fn("hairpin", p.Hairpin, "port", "hairpin mode")
	fn("promiscuous", n.PromiscMode, "port", "the bridge is promiscuous")
	fn("dad", n.DAD, "addresses", "they are used after duplicate address detection")
}

// rules lists what is on, and what an ADD makes or sets on the host.
func (p *Plan) rules(t *page) {
	a := p.Attachment
	p.features(func(key string, on bool, word, text string) {
		if on {
			t.add(word, "%s", text)
		} else if key == "masquerade" || key == "isolated" {
			t.add(word, "none")
		}
		if on && key == "masquerade" {
			for _, flat := range a.Flat {
				t.add(word, "but not to %s", flat)
			}
		}
	})
	if a.VLANs.Any() {
		t.add("VLAN", "%d untagged, tagged %v", a.VLANs.PVID(), a.VLANs.Trunk)
	}
	if rate := a.Bandwidth.Ingress.Rate; rate != 0 {
		t.add("bandwidth", "%d bit/s to the container", rate)
	}
	if rate := a.Bandwidth.Egress.Rate; rate != 0 {
		t.add("bandwidth", "%d bit/s from the container", rate)
	}
	for _, port := range a.Ports {
		if name := model.ProtocolName(port.Protocol); port.Host.IsValid() {
			t.add("port", "%s -> %s/%s", port.Host, port.Target, name)
		} else {
			t.add("port", "%s/%s is closed to other hosts: it is published on a loopback address", port.Target, name)
		}
	}
	for _, f := range p.Changes {
		t.add("changes", "%s", change(f))
	}
}

// change describes what an ADD does about a fault: see [bridge.Host.Lacks].
func change(f model.Fault) string {
	thing := strings.TrimPrefix(f.Thing, "the ")
	switch {
	case f.Table != "" && purpose(thing) != "":
		return thing + " is made: " + purpose(thing)
	case f.Mend != "":
		return thing + " " + f.Mend
	case f.State == model.Missing:
		return thing + " is made"
	}
	return fmt.Sprintf("%s is %s, and is mended", thing, f.State)
}

// purpose returns what the rules of a chain are for, by the chain's name.
func purpose(thing string) string {
	const purposes = " masquerade-=masquerading, also of answers to published ports\n" +
		" isolation-=drops what containers of other networks send here\n" +
		" mss-=fits TCP's segment size to the way to other hosts\n" +
		" dns-=keeps DNS queries to the gateway from published ports\n" +
		" forward-=keeps families without a subnet apart, and what internal and inbound ask for\n" +
		".ports prerouting=published ports, for what comes from outside\n" +
		".ports output=published ports, for the host itself\n" +
		".ports postrouting=published ports that a container itself asks for\n" +
		".ports local=ports that are published on a loopback address only"
	for _, line := range strings.Split(purposes, "\n") {
		if name, text, _ := strings.Cut(line, "="); strings.Contains(thing, name) {
			return text
		}
	}
	return ""
}

// rest lists everything else.
func (p *Plan) rest(t *page) {
	for _, server := range p.DNS {
		t.add("DNS", "%s", server)
	}
	for _, name := range p.others {
		t.add("others", "the plugin %s of the list is not asked", name)
	}
	for _, text := range p.Unknown {
		t.add("unknown", "%s", text)
	}
	if !p.StatusUnknown {
		t.add("STATUS", "%s", cmp.Or(p.Status, "an ADD can succeed"))
	}
	for _, text := range p.Warnings {
		t.add("warning", "%s", text)
	}
}

// json returns the plan for programs.
func (p *Plan) json() []byte {
	a := p.Attachment
	w := strictjson.Writer{Lines: true}
	w.Begin("", '{')
	w.String("network", a.Name)
	w.String("door", p.door())
	w.String("source", p.path)
	w.Begin("bridge", '{')
	w.String("name", a.Bridge)
	w.Bool("exists", p.BridgeExists)
	w.End('}')
	w.Begin("gateways", '[')
	for _, g := range p.Gateways {
		w.Begin("", '{')
		w.String("address", g.String())
		w.String("interface", a.GatewayName())
		w.Bool("exists", g.there)
		w.End('}')
	}
	w.End(']')
	p.jsonContainer(&w)
	if p.container != "" {
		w.String("hostInterface", a.HostEnd)
	}
	w.Uint("mtu", uint64(a.MTU))
	w.String("mtuFrom", p.MTUFrom)
	p.features(func(key string, on bool, _, _ string) { w.Bool(key, on) })
	p.jsonRest(&w)
	w.End('}')
	return w.Bytes
}

func (p *Plan) jsonContainer(w *strictjson.Writer) {
	a := p.Attachment
	w.Begin("container", '{')
	w.String("interface", a.Key.IfName)
	if a.MAC != (model.HardwareAddr{}) {
		w.String("mac", a.MAC.String())
	}
	w.Begin("addresses", '[')
	for _, addr := range a.Addresses {
		w.Begin("", '{')
		w.String("address", addr.Prefix.String())
		if addr.Gateway.IsValid() {
			w.String("gateway", addr.Gateway.String())
		}
		w.End('}')
	}
	w.End(']')
	w.Begin("routes", '[')
	for _, r := range a.Routes {
		w.Begin("", '{')
		w.String("dst", r.Dst.String())
		if r.Gateway.IsValid() {
			w.String("gw", r.Gateway.String())
		}
		if r.Priority != 0 {
			w.Uint("priority", uint64(r.Priority))
		}
		w.End('}')
	}
	w.End(']')
	w.End('}')
}

func (p *Plan) jsonRest(w *strictjson.Writer) {
	a := p.Attachment
	w.Uint("vlan", uint64(a.VLANs.ID))
	w.Begin("bandwidth", '{')
	w.Uint("ingressRate", a.Bandwidth.Ingress.Rate)
	w.Uint("egressRate", a.Bandwidth.Egress.Rate)
	w.End('}')
	w.Begin("ports", '[')
	for _, port := range a.Ports {
		if !port.Host.IsValid() {
			continue
		}
		w.Begin("", '{')
		w.String("host", port.Host.String())
		w.String("target", port.Target.String())
		w.String("protocol", model.ProtocolName(port.Protocol))
		w.End('}')
	}
	w.End(']')
	var changes []string
	for _, f := range p.Changes {
		changes = append(changes, change(f))
	}
	w.Strings("changes", changes)
	w.Strings("nameservers", p.DNS)
	w.String("status", p.Status)
	w.Strings("warnings", p.Warnings)
	w.Strings("unknown", p.Unknown)
}
