package netavark

import (
	"fmt"
	"strconv"

	"flatnet/internal/fields"
	"flatnet/internal/span"
	"flatnet/internal/strictjson"
	"flatnet/internal/subnetfile"
)

// Options of a network that spans several hosts.

func (d *definition) setHostID(value string) error {
	n, err := parseNumber(value, span.MaxHostID)
	if err == nil && n == 0 {
		err = fmt.Errorf("want a whole number from 1 to %d, got 0", span.MaxHostID)
	}
	d.Span.HostID = uint8(n)
	return err
}

func (d *definition) setSubnetFile(value string) (err error) {
	d.Span.SubnetFile, err = fields.ParsePath(value)
	return err
}

// spread sets the flat ranges, and what follows from the options of a network that spans
// several hosts. masquerade is whether an option says whether to.
func (d *definition) spread(options *strictjson.Object, masquerade bool) {
	s := &d.Span
	if s.HostID != 0 && s.SubnetFile != "" {
		options.Fail("subnet_file", "must not be given together with host_id: each says which subnet the host has")
	}
	if d.unregistered {
		s.Registry = nil
	}
	span.Follow(&d.Config, true, masquerade)
}

// registries returns the registries to tell of a teardown, to which the rest of the
// definition does not matter, nor that one is wrong.
func registries(doc *strictjson.Object) []string {
	options := doc.Object("network").Object("options")
	enabled, asked := options.String("registry_enabled")
	on, _ := strconv.ParseBool(enabled)
	if text, _ := options.String("registry_endpoints"); text != "" && (on || !asked) {
		all, _ := span.ParseEndpoints(text)
		return all
	}
	return nil
}

// addHostSubnet adds the subnet of the host ID, which a definition that create has
// completed has already.
func (d *definition) addHostSubnet(network *strictjson.Object) {
	sets, err := span.Complete(&d.Span, d.IPAM.Sets)
	if err != nil {
		network.Fail("subnets", "%w", err)
	}
	d.IPAM.Sets = sets
}

// readFile adds the subnets of the subnet file, which it may have already.
func (d *definition) readFile() error {
	filled, err := subnetfile.Fill(&d.Config)
	if err == nil {
		d.IPAM.Sets = filled.IPAM.Sets
	}
	return err
}
