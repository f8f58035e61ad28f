package netavark

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"flatnet/bridge/model"
)

// A claim is what another network has, so that a new one can't. Nobody tells
// the plugin that a network was removed; so it keeps no record of its own,
// which could not be kept true, but asks those who know: Podman's definitions,
// the containers that run and the kernel (see [bridge.Host.Status]).
type claim struct {
	by       string
	bridge   string // empty: not known
	prefixes []netip.Prefix
}

// inUse lists the claims of all networks but the one of that name.
func (p Plugin) inUse(name string) ([]claim, error) {
	claims, err := p.defined(name)
	if err != nil {
		return nil, err
	}
	owners, err := p.Host.Owners()
	for _, o := range owners {
		if o.Key.Network == name {
			continue
		}
		c := claim{by: fmt.Sprintf("container %.12s in network %s", o.Key.ContainerID, o.Key.Network)}
		for _, a := range o.Addresses {
			c.prefixes = append(c.prefixes, netip.PrefixFrom(a, a.BitLen()))
		}
		claims = append(claims, c)
	}
	return claims, err
}

// defined reads the networks of Podman. One that can't be read, Podman ignores
// as well.
func (p Plugin) defined(name string) ([]claim, error) {
	entries, err := os.ReadDir(p.Networks)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var claims []claim
	for _, e := range entries {
		var d definition
		data, err := os.ReadFile(filepath.Join(p.Networks, e.Name()))
		if err != nil || json.Unmarshal(data, &d) != nil || d.Name == name {
			continue
		}
		c := claim{by: "network " + d.Name, bridge: d.NetworkInterface}
		for _, s := range d.Subnets {
			if prefix, err := netip.ParsePrefix(s.Subnet); err == nil {
				c.prefixes = append(c.prefixes, prefix.Masked())
			}
		}
		claims = append(claims, c)
	}
	return claims, nil
}

func (c claim) collides(n network) error {
	if n.bridge == c.bridge {
		return fmt.Errorf("interface %s is the one of %s: %w", n.bridge, c.by, model.ErrConflict)
	}
	for _, s := range n.subnets {
		for _, p := range c.prefixes {
			if s.prefix.Overlaps(p) {
				return fmt.Errorf("subnet %s overlaps with %s of %s: %w", s.prefix, p, c.by, model.ErrConflict)
			}
		}
	}
	return nil
}

// unleased is the address management of a network that has no attachment yet.
type unleased struct{ model.Allocator }

func (unleased) Keys() ([]model.Key, error) { return nil, nil }

func (unleased) Free(model.Locals) error { return nil }
