package netavark

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"flatnet/bridge/model"
	"flatnet/internal/strictjson"
)

// An otherNetwork has subnets and a bridge that a new network can't have. The plugin
// is not called when a network is removed; so it keeps no record of its own, which
// could not be kept true, but asks Podman's definitions, the running containers and
// the kernel (see [bridge.Host.Status]).
type otherNetwork struct {
	text     string
	bridge   string // empty: unknown
	prefixes []netip.Prefix
}

// otherNetworks lists all networks but the one of that name.
func (p Plugin) otherNetworks(name string) ([]otherNetwork, error) {
	others, err := p.definitions(name)
	if err != nil {
		return nil, err
	}
	owners, err := p.Engine.Host.Owners()
	for _, o := range owners {
		if o.Key.Network == name {
			continue
		}
		other := otherNetwork{text: fmt.Sprintf("container %.12s in network %s", o.Key.ContainerID, o.Key.Network)}
		for _, a := range o.Addresses {
			other.prefixes = append(other.prefixes, netip.PrefixFrom(a, a.BitLen()))
		}
		others = append(others, other)
	}
	return others, err
}

// definitions reads Podman's networks. One that can't be read is ignored, as by
// Podman.
func (p Plugin) definitions(name string) (others []otherNetwork, err error) {
	entries, err := os.ReadDir(p.Networks)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(p.Networks, e.Name()))
		if err != nil {
			continue
		}
		doc, err := strictjson.Parse(data)
		if err != nil {
			continue
		}
		var other otherNetwork
		defined, _ := doc.String("name")
		other.text = "network " + defined
		other.bridge, _ = doc.String("network_interface")
		for _, s := range doc.Objects("subnets") {
			text, _ := s.String("subnet")
			if prefix, err := netip.ParsePrefix(text); err == nil {
				other.prefixes = append(other.prefixes, prefix.Masked())
			}
		}
		if doc.Err() == nil && defined != name {
			others = append(others, other)
		}
	}
	return others, nil
}

func (o otherNetwork) collides(c *model.Config) error {
	if o.bridge == c.Network.Bridge {
		return model.Errorf(model.ErrConflict, "interface %s is the one of %s", o.bridge, o.text)
	}
	for _, set := range c.IPAM.Sets {
		for _, p := range o.prefixes {
			if set[0].Subnet.Overlaps(p) {
				return model.Errorf(model.ErrConflict, "subnet %s overlaps with %s of %s", set[0].Subnet, p, o.text)
			}
		}
	}
	return nil
}
