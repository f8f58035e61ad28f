package cni

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"flatnet/bridge/model"
	"flatnet/internal/fields"
	"flatnet/internal/oddkeys"
	"flatnet/internal/span"
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
		return model.WithCode(codeConfig, err)
	}
	runtime := doc.Object("runtimeConfig")
	c.IPAM = readIPAM(doc)
	own := c.IPAM.Type == ""
	c.Network = readNetwork(doc, own)
	c.Network.DNS = readDNS(doc.Object("dns"), runtime.Object("dns"))
	span.Read(doc, c)
	if e.containerID != "" {
		c.Request.Key = model.Key{Network: name, ContainerID: e.containerID, IfName: e.ifName}
		c.Request.NetNS = e.netns
	}
	if r.command == "ADD" {
		r.warnings = oddkeys.Find(doc, own)
	}
	if !own {
		c.IPAM.Path, c.IPAM.Conf = e.path, raw
	}
	if r.command == "DEL" {
		return nil // must not fail because the configuration changed
	}
	if err := parseArgs(e.args, &c.Request); err != nil {
		return model.WithCode(codeEnvironment, fmt.Errorf("CNI_ARGS: %w", err))
	}
	if !own && e.path == "" {
		return model.WithCode(codeEnvironment, fmt.Errorf("CNI_PATH must be set for ipam.type %q", c.IPAM.Type))
	}
	readRequest(doc, runtime, &c.Request)
	c.Names = doc.Bool("dnsEnabled", false)
	fields.Peers(doc, &c.Network)
	if own && !c.Network.NoAddress {
		readPool(doc, runtime, c, r.version)
	}
	r.readOutcome(doc)
	if err := doc.Err(); err != nil {
		return model.WithCode(codeConfig, err)
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
	n.VLANs = fields.VLANs(doc, n.Bridge)
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

// ownIPAM is the ipam.type of flatnet's own address management; no type at all
// means the same.
const ownIPAM = "flatnet-ipam"

// readIPAM reads the keys that all commands need.
func readIPAM(doc *strictjson.Object) (c model.IPAM) {
	o := doc.Object("ipam")
	self, _ := doc.String("type")
	switch typ, _ := o.String("type"); {
	case typ == "" || typ == ownIPAM:
		c.DataDir = fields.Text(o, "dataDir", fields.ParsePath)
		c.ResolvConf = fields.Text(o, "resolvConf", fields.ParsePath)
	case model.ValidName(typ) != nil:
		o.Fail("type", "%.60q is not the name of a plugin", typ)
	case typ == self || typ == "flatnet":
		o.Fail("type", "%q would be flatnet itself; leave it out or use %q", typ, ownIPAM)
	default:
		c.Type = typ
	}
	return c
}

// readPool reads the range sets and routes of flatnet's own address management. The
// sets are in the order of host-local: first the runtime's, then the one of the ipam
// object itself, then ipam.ranges. Without any it is the default subnet.
func readPool(doc, runtime *strictjson.Object, c *model.Config, version string) {
	o := doc.Object("ipam")
	sets := readSets(runtime, "ipRanges")
	more := readSets(o, "ranges")
	switch _, ok := o.String("subnet"); {
	case c.Span.Decides():
		sets = append(sets, span.Sets(doc, &c.Span, slices.Concat(sets, more))...)
	case ok:
		sets = append(sets, []model.Range{readRange(o, fields.Subnet(o, "subnet"))})
	case len(sets)+len(more) == 0:
		sets = append(sets, []model.Range{readRange(o, netip.MustParsePrefix(model.DefaultSubnet))})
	default:
		for _, key := range []string{"rangeStart", "rangeEnd", "gateway"} {
			if o.NonZero(key) {
				o.Fail(key, "needs a subnet beside it")
			}
		}
	}
	c.IPAM.Sets = append(sets, more...)
	families := map[bool]int{}
	for _, set := range c.IPAM.Sets {
		families[len(set) > 0 && set[0].Subnet.Addr().Is6()]++
	}
	if version < withLists && max(families[true], families[false]) > 1 {
		o.Fail("ranges", "more than one address per family needs cniVersion 0.3.0 or newer, not %q", version)
	}
	for _, set := range c.IPAM.Sets {
		inside := func(a netip.Addr) bool {
			return slices.ContainsFunc(set, func(r model.Range) bool { return r.Subnet.Contains(a) })
		}
		wanted := slices.Compact(slices.DeleteFunc(slices.Clone(c.Request.IPs), func(a netip.Addr) bool { return !inside(a) }))
		if len(wanted) > 1 {
			o.Fail("ranges", "addresses %s and %s are both wanted of one range set, which gives one", wanted[0], wanted[1])
		}
	}
	c.Network.Routes = readRoutes(o, fields.Subnet)
	for i, r := range c.Network.Routes {
		if gw := r.Gateway; gw.IsUnspecified() || gw.IsMulticast() || gw.IsLoopback() {
			o.Fail(fmt.Sprintf("routes[%d].gw", i), "%v is no gateway's address", gw)
		}
	}
}

func readSets(o *strictjson.Object, key string) (sets [][]model.Range) {
	for _, list := range o.ObjectLists(key) {
		set := make([]model.Range, len(list))
		for i, r := range list {
			set[i] = readRange(r, fields.Subnet(r, "subnet"))
		}
		sets = append(sets, set)
	}
	return sets
}

func readRange(o *strictjson.Object, subnet netip.Prefix) model.Range {
	return model.Range{
		Subnet: subnet, Gateway: fields.Addr(o, "gateway"),
		Start: fields.Addr(o, "rangeStart"), End: fields.Addr(o, "rangeEnd"),
	}
}

// readDNS reads and validates the DNS settings. Each list of the runtime
// (CONVENTIONS.md of the CNI, capability "dns") replaces the configuration's. All of
// it ends up in the container's resolv.conf, where a line break would begin another
// entry.
func readDNS(o, runtime *strictjson.Object) model.DNS {
	list := func(key, runtimeKey string, parse func(string) (string, error)) []string {
		configured := fields.Texts(o, key, parse)
		if list := fields.Texts(runtime, runtimeKey, parse); len(list) > 0 {
			return list
		}
		return configured
	}
	return model.DNS{
		Nameservers: list("nameservers", "servers", parseNameserver),
		Domain:      fields.Optional(o, "domain", fields.ParseWord),
		Search:      list("search", "searches", fields.ParseWord),
		Options:     list("options", "options", fields.ParseWord),
	}
}

func parseNameserver(s string) (string, error) {
	if _, err := netip.ParseAddr(s); err != nil {
		return "", fmt.Errorf("%.60q is not an IP address", s)
	}
	return s, nil
}
