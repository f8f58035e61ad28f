package cni

import (
	"fmt"
	"net/netip"

	"flatnet/bridge/model"
	"flatnet/internal/strictjson"
)

// Limits of an interface's MTU: ETH_MIN_MTU and ETH_MAX_MTU of
// linux/if_ether.h, and what IPv6 needs (RFC 8200, section 5).
const (
	minMTU     = 68
	minIPv6MTU = 1280
	maxMTU     = 65535
)

// A Config is one valid configuration and what the runtime asks for with it.
//
// On DEL a value that is wrong reads as if it were absent, Request has neither
// MAC nor IPs, its NetNS may be anything, and IPAM has no Sets.
type Config struct {
	Network model.Network
	IPAM    IPAM
	Request model.Request // of ADD, CHECK and DEL
	DNS     bool          // containers are to find each other by Request.Names (dnsEnabled)
	Path    string        // CNI_PATH
	Raw     []byte        // the configuration as it came, for a delegated IPAM plugin
}

// configure reads and validates everything but the version.
func (r *request) configure(doc *strictjson.Object, e env, raw []byte) error {
	name, _ := doc.String("name")
	if err := model.ValidName(name); err != nil {
		doc.Fail("name", "%w", err)
	}
	if err := doc.Err(); err != nil {
		return failure{codeConfig, err}
	}
	c := &Config{Path: e.path, Raw: raw}
	c.IPAM = readIPAM(doc)
	c.Network = readNetwork(doc, name, c.IPAM.Type == "")
	if e.containerID != "" {
		c.Request.Key = model.Key{Network: name, ContainerID: e.containerID, IfName: e.ifName}
		c.Request.NetNS = e.netns
	}
	r.config = c
	if r.command == "ADD" {
		r.odd = oddKeys(doc, c.IPAM.Type == "")
	}
	if r.command == "DEL" {
		return nil // must not fail because the configuration changed
	}
	if err := parseArgs(e.args, &c.Request); err != nil {
		return failure{codeEnvironment, fmt.Errorf("CNI_ARGS: %w", err)}
	}
	if c.IPAM.Type != "" && e.path == "" {
		return failure{codeEnvironment, fmt.Errorf("CNI_PATH must be set for ipam.type %q", c.IPAM.Type)}
	}
	runtime := doc.Object("runtimeConfig")
	readWishes(doc.Object("args").Object("cni"), &c.Request)
	readWishes(runtime, &c.Request)
	c.Request.Ports = readPorts(runtime)
	c.Request.Bandwidth = readBandwidth(runtime.Object("bandwidth"))
	c.Request.Names = append(c.Request.Names, runtime.Object("aliases").Strings(name)...)
	c.DNS = doc.Bool("dnsEnabled", false)
	overrideDNS(&c.Network.DNS, runtime.Object("dns"))
	if c.IPAM.Type == "" && !c.Network.NoAddress {
		c.IPAM.Sets = readSets(doc, runtime, r.version)
		c.Network.Routes = readRoutes(doc.Object("ipam"))
	}
	if mtu := c.Network.MTU; mtu != 0 && mtu < minIPv6MTU && c.IPAM.hasIPv6() {
		doc.Fail("mtu", "%d is less than %d, the least for IPv6", mtu, minIPv6MTU)
	}
	r.readOutcome(doc)
	if err := doc.Err(); err != nil {
		return failure{codeConfig, err}
	}
	if r.command == "ADD" {
		r.odd = append(r.odd, doc.Notes()...)
	}
	return nil
}

// readNetwork reads the keys that the reference bridge plugin has, too. With
// flatnet's own address management (own) the host is gateway and masquerades
// by default; else the defaults are those of the reference.
func readNetwork(doc *strictjson.Object, name string, own bool) model.Network {
	n := model.Network{
		Name:          name,
		Bridge:        model.DefaultBridge,
		IPMasq:        doc.Bool("ipMasq", own),
		IsGateway:     doc.Bool("isGateway", own),
		ForceAddress:  doc.Bool("forceAddress", false),
		HairpinMode:   doc.Bool("hairpinMode", false),
		PromiscMode:   doc.Bool("promiscMode", false),
		Flat:          readFlat(doc, own),
		Internal:      doc.Bool("internal", false),
		Isolated:      readIsolation(doc, own),
		ForwardAccept: doc.Bool("forwardAccept", false),
		AllowOverlap:  doc.Bool("allowOverlap", false),
		SpoofCheck:    doc.Bool("macspoofchk", false),
		PortIsolated:  doc.Bool("portIsolation", false),
		PublishedOnly: readInbound(doc),
		DAD:           doc.Bool("enabledad", false),
		NoAddress:     doc.Bool("disableContainerInterface", false),
		AcceptRA:      !own,
		DNS:           readValidDNS(doc.Object("dns"), "nameservers", "search"),
	}
	// Duplicate address detection needs the link, too.
	n.LinkFirst = n.DAD || !own
	n.IsDefaultGateway = doc.Bool("isDefaultGateway", own && n.IsGateway)
	n.IsGateway = n.IsGateway || n.IsDefaultGateway
	if s, ok := doc.String("bridge"); ok {
		if err := newIfName(s); err != nil {
			doc.Fail("bridge", "%w", err)
		} else {
			n.Bridge = s
		}
	}
	if mtu, _ := doc.Uint("mtu", maxMTU); mtu > 0 && mtu < minMTU {
		doc.Fail("mtu", "%d is less than %d, the least for an interface", mtu, minMTU)
	} else {
		n.MTU = uint32(mtu)
	}
	n.VLANs = readVLANs(doc, n.Bridge)
	if n.NoAddress && doc.NonZero("ipam") {
		doc.Fail("disableContainerInterface", "must not be true together with ipam: the interface is left down and without addresses")
	}
	if n.HairpinMode && n.PromiscMode {
		doc.Fail("hairpinMode", "must not be true together with promiscMode")
	}
	return n
}

// readFlat reads the destinations that are never masqueraded.
func readFlat(doc *strictjson.Object, own bool) []netip.Prefix {
	list := doc.Strings("noMasq")
	if list == nil && own {
		list = []string{model.DefaultFlat}
	}
	var flat []netip.Prefix
	for i, s := range list {
		if p, ok := readSubnet(doc, fmt.Sprintf("noMasq[%d]", i), s); ok {
			flat = append(flat, p)
		}
	}
	return flat
}

// readOutcome reads what the keys of single commands hold.
func (r *request) readOutcome(doc *strictjson.Object) {
	switch prev := doc.Object("prevResult"); r.command {
	case "ADD":
		if prev != nil {
			doc.Fail("prevResult", "must not be given to ADD: flatnet makes the interface, so it must be the first plugin of the list")
		}
	case "CHECK":
		if prev == nil {
			doc.Fail("prevResult", "must be given to CHECK")
			return
		}
		r.prev = readResult(prev, r.version)
	case "GC":
		r.valid = readValid(doc, r.config.Network.Name)
	}
}

// maxAttachments is more than a network with one bridge can have.
const maxAttachments = 1 << 16

// readValid reads the attachments that GC must leave alone: those of the
// SPEC's key and those of the key that libcni sends besides. Without a key none
// are valid: that is how libcni's GCNetworkList says so (and cnitool gc).
func readValid(doc *strictjson.Object, network string) []model.Key {
	valid := []model.Key{}
	for _, key := range []string{"cni.dev/valid-attachments", "cni.dev/attachments"} {
		for i, o := range doc.ManyObjects(key, maxAttachments) {
			id, _ := o.String("containerID")
			ifName, _ := o.String("ifname")
			k, err := model.NewKey(network, id, ifName)
			if err != nil {
				doc.Fail(fmt.Sprintf("%s[%d]", key, i), "%w", err)
			}
			valid = append(valid, k)
		}
	}
	return valid
}
