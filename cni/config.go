package cni

import (
	"cmp"
	"fmt"
	"net/netip"

	"flatnet/bridge/model"
	"flatnet/internal/fields"
	"flatnet/internal/strictjson"
)

// configure reads and validates everything but the version.
func (r *request) configure(doc *strictjson.Object, e env, raw []byte) error {
	c := &r.config
	name, _ := doc.String("name")
	if err := model.ValidName(name); err != nil {
		doc.Fail("name", "%w", err)
	}
	if err := doc.Err(); err != nil {
		return failure{codeConfig, err}
	}
	runtime := doc.Object("runtimeConfig")
	c.IPAM = readIPAM(doc)
	own := c.IPAM.Type == ""
	c.Network = readNetwork(doc, own)
	c.Network.DNS = readDNS(doc.Object("dns"), runtime.Object("dns"))
	if e.containerID != "" {
		c.Request.Key = model.Key{Network: name, ContainerID: e.containerID, IfName: e.ifName}
		c.Request.NetNS = e.netns
	}
	if r.command == "ADD" {
		r.warnings = suspiciousKeys(doc, own)
	}
	if !own {
		c.IPAM.Path, c.IPAM.Conf = e.path, raw
	}
	if r.command == "DEL" {
		return nil // must not fail because the configuration changed
	}
	if err := parseArgs(e.args, &c.Request); err != nil {
		return failure{codeEnvironment, fmt.Errorf("CNI_ARGS: %w", err)}
	}
	if !own && e.path == "" {
		return failure{codeEnvironment, fmt.Errorf("CNI_PATH must be set for ipam.type %q", c.IPAM.Type)}
	}
	readRequest(doc, runtime, &c.Request)
	c.Names = doc.Bool("dnsEnabled", false)
	if own && !c.Network.NoAddress {
		readPool(doc, runtime, c, r.version)
	}
	r.readOutcome(doc)
	if err := doc.Err(); err != nil {
		return failure{codeConfig, err}
	}
	if r.command == "ADD" {
		r.warnings = append(r.warnings, doc.Notes()...)
	}
	return nil
}

// readNetwork reads the network's keys, most of which the reference bridge plugin
// has as well. With flatnet's own address management the host is the gateway and
// masquerades by default; otherwise the defaults are those of the reference.
func readNetwork(doc *strictjson.Object, own bool) model.Network {
	n := model.Network{
		Bridge:        cmp.Or(fields.Text(doc, "bridge", fields.ParseIfName), model.DefaultBridge),
		IPMasq:        doc.Bool("ipMasq", own),
		IsGateway:     doc.Bool("isGateway", own),
		ForceAddress:  doc.Bool("forceAddress", false),
		HairpinMode:   doc.Bool("hairpinMode", false),
		PromiscMode:   doc.Bool("promiscMode", false),
		Flat:          fields.Subnets(doc, "noMasq"),
		Internal:      doc.Bool("internal", false),
		Isolated:      own,
		ForwardAccept: doc.Bool("forwardAccept", false),
		AllowOverlap:  doc.Bool("allowOverlap", false),
		SpoofCheck:    doc.Bool("macspoofchk", false),
		PortIsolated:  doc.Bool("portIsolation", false),
		PublishedOnly: fields.OneOf(doc, "inbound", "any", "published") == "published",
		DAD:           doc.Bool("enabledad", false),
		NoAddress:     doc.Bool("disableContainerInterface", false),
		AcceptRA:      !own,
	}
	n.Name, _ = doc.String("name")
	if n.Flat == nil && own && doc.Strings("noMasq") == nil {
		n.Flat = []netip.Prefix{netip.MustParsePrefix(model.DefaultFlat)}
	}
	if s := fields.OneOf(doc, "isolation", "network", "none"); s != "" {
		n.Isolated = s == "network"
	}
	// Duplicate address detection needs the link, too.
	n.LinkFirst = n.DAD || !own
	n.IsDefaultGateway = doc.Bool("isDefaultGateway", own && n.IsGateway)
	n.IsGateway = n.IsGateway || n.IsDefaultGateway
	mtu, _ := doc.Uint("mtu", fields.MaxMTU)
	if err := fields.CheckMTU(mtu); err != nil {
		doc.Fail("mtu", "%w", err)
	} else {
		n.MTU = uint32(mtu)
	}
	n.VLANs = readVLANs(doc, n.Bridge)
	if n.NoAddress && doc.NonZero("ipam") {
		doc.Fail("disableContainerInterface",
			"must not be true together with ipam: the interface is left down and without addresses")
	}
	if n.HairpinMode && n.PromiscMode {
		doc.Fail("hairpinMode", "must not be true together with promiscMode")
	}
	return n
}

// readOutcome reads the keys of single commands.
func (r *request) readOutcome(doc *strictjson.Object) {
	switch prev := doc.Object("prevResult"); {
	case r.command == "ADD" && prev != nil:
		doc.Fail("prevResult", "must not be given to ADD: "+
			"flatnet makes the interface, so it must be the first plugin of the list")
	case r.command == "CHECK" && prev == nil:
		doc.Fail("prevResult", "must be given to CHECK")
	case r.command == "CHECK":
		r.prev = readResult(prev)
	case r.command == "GC":
		r.valid = readValid(doc, r.config.Network.Name)
	}
}

// maxAttachments is more than a network with one bridge can have.
const maxAttachments = 1 << 16

// readValid reads the attachments that GC must leave alone: those of the
// SPEC's key and those of the key that libcni sends besides. Without a key none
// are valid: this is how libcni's GCNetworkList (and cnitool gc) sends no
// attachments.
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
