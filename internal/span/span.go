// Package span reads the keys of a network that spans several hosts: where this host's
// subnet comes from, and which registries are told of its containers. It makes no system
// call.
package span

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"flatnet/bridge/model"
	"flatnet/internal/fields"
	"flatnet/internal/strictjson"
)

// flat is the range of the hosts that have an ID, each of which has a /24 of it.
const flat = "10.100.0.0/16"

// MaxHostID is the highest host ID; the lowest is 1.
const MaxHostID = 254

// The last octets of the addresses that are leased. Those before are the gateway's, which
// is 1, and for people to give out.
const first, last = 10, 254

// subnetOf returns the subnet of a host.
func subnetOf(id uint8) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 100, id, 0}), 24)
}

// complete fills what a range of a host's subnet leaves open.
func complete(r model.Range) model.Range {
	a := r.Subnet.Addr().As4()
	at := func(octet byte) netip.Addr { return netip.AddrFrom4([4]byte{a[0], a[1], a[2], octet}) }
	r.Start, r.End, r.Gateway = cmp.Or(r.Start, at(first)), cmp.Or(r.End, at(last)), cmp.Or(r.Gateway, at(1))
	return r
}

// Read reads the keys of a CNI configuration, which may be at the top or in the ipam
// object, and sets the network's defaults that follow from them. The network's other keys
// and ipam.type have been read before.
func Read(doc *strictjson.Object, c *model.Config) {
	ipam := doc.Object("ipam")
	if c.IPAM.Type != "" {
		ipam = nil // its keys are the other plugin's
	}
	n, s := &c.Network, &c.Span
	s.Registry = readRegistry(doc)
	s.HostID = either(doc, ipam, "hostId", readHostID)
	s.SubnetFile = either(doc, ipam, "subnetFile", func(o *strictjson.Object, key string) string {
		return fields.Text(o, key, fields.ParsePath)
	})
	key, conflict := deciding(s)
	switch {
	case key == "":
	case conflict != nil:
		doc.Fail(key, "%w", conflict)
	case c.IPAM.Type != "":
		doc.Fail(key, "the plugin of ipam.type %q gives the addresses, so leave out one of the two keys", c.IPAM.Type)
	case n.NoAddress:
		doc.Fail(key, "must not be given together with disableContainerInterface, with which there are no addresses")
	}
	given := doc.Strings("noMasq")
	// Only an empty list leaves out the range of several hosts.
	defaults := given == nil && c.IPAM.Type == "" || key != "" && len(given) > 0
	Follow(c, defaults, doc.Bool("ipMasq", true) == doc.Bool("ipMasq", false))
}

// Follow sets what follows from where a network has its subnet: with defaults, the flat ranges
// before those that it names itself; and whether the subnet file decides about masquerading,
// which it does unless the configuration does (masquerade).
func Follow(c *model.Config, defaults, masquerade bool) {
	n, s := &c.Network, &c.Span
	file := s.SubnetFile != ""
	n.Spans, n.Unread = n.Spans || s.Decides(), file
	if defaults {
		own := defaultFlat(s)
		others := slices.DeleteFunc(slices.Clone(n.Flat), func(p netip.Prefix) bool { return slices.Contains(own, p) })
		n.Flat, s.FileFlat = append(own, others...), file
	}
	s.FileMasq = file && !masquerade && n.IPMasq
}

// deciding returns the key that says which subnet the host has: "" without any, and the
// second one with an error if there are two.
func deciding(s *model.Span) (key string, err error) {
	switch {
	case s.HostID != 0 && s.SubnetFile != "":
		return "subnetFile", errors.New("must not be given together with hostId: each says which subnet the host has")
	case s.SubnetFile != "":
		return "subnetFile", nil
	case s.HostID != 0:
		return "hostId", nil
	}
	return "", nil
}

// defaultFlat returns the flat ranges of a network that names none itself. A subnet file
// has its own.
func defaultFlat(s *model.Span) []netip.Prefix {
	switch {
	case s.HostID != 0:
		return []netip.Prefix{netip.MustParsePrefix(flat)}
	case s.SubnetFile != "":
		return nil
	}
	return []netip.Prefix{netip.MustParsePrefix(model.DefaultFlat)}
}

// either returns a value that may stand at the top or in the ipam object, or in both as the
// same.
func either[T comparable](doc, ipam *strictjson.Object, key string, read func(*strictjson.Object, string) T) T {
	var none T
	top, inner := read(doc, key), read(ipam, key)
	if top != none && inner != none && top != inner {
		ipam.Fail(key, "%v is not the %v that stands beside the ipam object", inner, top)
	}
	return cmp.Or(top, inner)
}

func readHostID(o *strictjson.Object, key string) uint8 {
	n, _ := o.Between(key, 1, MaxHostID)
	return uint8(n)
}

// Sets returns the range set that a host ID means: in the ipam object its other parts may
// be given, but no other IPv4 subnet. A subnet file is read later, so beside it nothing may
// be given. listed are the range sets of the ipam object and of the runtime.
func Sets(doc *strictjson.Object, s *model.Span, listed [][]model.Range) [][]model.Range {
	o := doc.Object("ipam")
	key, _ := deciding(s)
	for _, set := range listed {
		if len(set) > 0 && (s.SubnetFile != "" || set[0].Subnet.Addr().Is4()) {
			doc.Fail(key, "says which subnet the host has, so %s must not be given as well, in ipam.ranges or by the runtime (ipRanges)", set[0].Subnet)
		}
	}
	if s.SubnetFile != "" {
		for _, other := range []string{"subnet", "rangeStart", "rangeEnd", "gateway"} {
			if o.NonZero(other) {
				o.Fail(other, "must not be given together with %s, which says which subnet the host has", key)
			}
		}
		return nil
	}
	r := model.Range{Subnet: subnetOf(s.HostID), Gateway: fields.Addr(o, "gateway"),
		Start: fields.Addr(o, "rangeStart"), End: fields.Addr(o, "rangeEnd")}
	if _, ok := o.String("subnet"); ok {
		if subnet := fields.Subnet(o, "subnet"); subnet.IsValid() && subnet != r.Subnet {
			o.Fail("subnet", "%s is not the %s of hostId %d; leave out one of the two keys", subnet, r.Subnet, s.HostID)
		}
	}
	return [][]model.Range{{complete(r)}}
}

// Complete adds the subnet of a host ID to the subnets of a definition, unless it is there.
func Complete(s *model.Span, sets [][]model.Range) ([][]model.Range, error) {
	if s.HostID == 0 {
		return sets, nil
	}
	for i, set := range sets {
		switch subnet := set[0].Subnet; {
		case subnet == subnetOf(s.HostID):
			sets[i][0] = complete(set[0])
			return sets, nil
		case subnet.Addr().Is4():
			return nil, fmt.Errorf("%s is not the %s of host_id %d; leave out the subnet or the option", subnet, subnetOf(s.HostID), s.HostID)
		}
	}
	own := complete(model.Range{Subnet: subnetOf(s.HostID)})
	return slices.Insert(sets, 0, []model.Range{own}), nil
}
