package cni

import (
	"fmt"
	"net/netip"
	"path/filepath"

	"flatnet/bridge/model"
	"flatnet/internal/fields"
	"flatnet/internal/strictjson"
)

// ownIPAM is the ipam.type of flatnet's own address management; no type at all
// means the same.
const ownIPAM = "flatnet-ipam"

// readIPAM reads the keys that all commands need.
func readIPAM(doc *strictjson.Object) (c model.IPAM) {
	o := doc.Object("ipam")
	self, _ := doc.String("type")
	switch typ, _ := o.String("type"); {
	case typ == "" || typ == ownIPAM:
		c.DataDir = fields.Text(o, "dataDir", parsePath)
		c.ResolvConf = fields.Text(o, "resolvConf", parsePath)
	case model.ValidName(typ) != nil:
		o.Fail("type", "%.60q is not the name of a plugin", typ)
	case typ == self || typ == "flatnet":
		o.Fail("type", "%q would be flatnet itself; leave it out or use %q", typ, ownIPAM)
	default:
		c.Type = typ
	}
	return c
}

func parsePath(s string) (string, error) {
	if _, err := parseWord(s); err != nil || !filepath.IsAbs(s) || filepath.Clean(s) != s {
		return "", fmt.Errorf("%.60q must be an absolute path without \"..\", doubled slashes and the like", s)
	}
	return s, nil
}

// readPool reads the range sets and routes of flatnet's own address management. The
// sets are in the order of host-local: first the runtime's, then the one of the ipam
// object itself, then ipam.ranges. Without any it is the default subnet.
func readPool(doc, runtime *strictjson.Object, c *model.Config, version string) {
	o := doc.Object("ipam")
	sets := readSets(runtime, "ipRanges")
	more := readSets(o, "ranges")
	switch _, ok := o.String("subnet"); {
	case ok:
		sets = append(sets, []model.Range{readRange(o, fields.Subnet(o, "subnet"))})
	case len(sets)+len(more) == 0:
		sets = append(sets, []model.Range{readRange(o, netip.MustParsePrefix(model.DefaultSubnet))})
	default:
		for _, key := range rangeKeys()[1:] {
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
