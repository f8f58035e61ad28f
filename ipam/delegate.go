package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"flatnet/bridge/model"
)

// A Delegate is the [model.Allocator] over another IPAM plugin. What that
// gives is recorded in a lease file as well, so that everything which depends
// on who is attached, such as GC and the network's last DEL, is as it is with
// flatnet's own leases, whatever the plugin can tell.
type Delegate struct {
	Plugin Plugin
	Store  *Store // without ranges
}

var _ model.Allocator = Delegate{}

// Lease asks the plugin for key's addresses. A key that has a lease got no DEL,
// but its link is gone: that lease is given back first, since plugins refuse
// to give a second one. After an error the caller must Release (SPEC 1.1.0,
// section 4).
func (d Delegate) Lease(key model.Key, want []netip.Addr, locals model.Locals) (got model.Lease, held bool, err error) {
	keys, err := d.Store.Keys()
	if held = slices.Contains(keys, key); held {
		_, err = d.Release([]model.Key{key})
	}
	if err != nil {
		return got, held, err
	}
	out, err := d.Plugin.run("ADD", key)
	if err != nil {
		return got, held, err
	}
	res, err := d.Plugin.Decode(out)
	if err != nil {
		return got, held, fmt.Errorf("ipam.type %q: result of ADD: %w", d.Plugin.Type, err)
	}
	got.Routes, got.DNS = res.Routes, res.DNS
	var addrs []netip.Addr
	for _, ip := range res.IPs {
		a := ip.Address.Addr()
		if slices.Contains(addrs, a) {
			return got, held, fmt.Errorf("ipam.type %q: result of ADD has %s twice: %w", d.Plugin.Type, a, model.ErrInvalid)
		}
		addrs = append(addrs, a)
		got.Addresses = append(got.Addresses, model.Address{Prefix: ip.Address, Gateway: ip.Gateway})
	}
	if len(addrs) == 0 {
		return got, held, fmt.Errorf("ipam.type %q: result of ADD has no address: %w", d.Plugin.Type, model.ErrInvalid)
	}
	for _, a := range want {
		if !slices.Contains(addrs, a) {
			return got, held, fmt.Errorf("ipam.type %q gave %v, and not the wanted address %s: %w", d.Plugin.Type, addrs, a, model.ErrInvalid)
		}
	}
	return got, held, d.Store.record(key, addrs, locals)
}

// Release has the plugin take the keys' addresses back, which is no error if it
// has leased none. Those for which it fails keep their records.
func (d Delegate) Release(keys []model.Key) (left []model.Key, err error) {
	var released []model.Key
	for _, key := range keys {
		_, failed := d.Plugin.run("DEL", key)
		switch {
		case failed == nil:
			released = append(released, key)
		case len(keys) == 1:
			return nil, failed
		default:
			err = errors.Join(err, fmt.Errorf("remove %s: %w", key, failed))
		}
	}
	left, serr := d.Store.Release(released)
	return left, errors.Join(err, serr)
}

// Keys lists who has got a lease.
func (d Delegate) Keys() ([]model.Key, error) { return d.Store.Keys() }

// Free passes STATUS on.
func (d Delegate) Free(model.Locals) error {
	_, err := d.Plugin.run("STATUS", model.Key{})
	return err
}

// Check passes CHECK on, and compares what was recorded.
func (d Delegate) Check(key model.Key, addrs []netip.Addr) error {
	_, err := d.Plugin.run("CHECK", key)
	return errors.Join(err, d.Store.Check(key, addrs))
}

// GC passes GC on, for leases that the plugin has and nobody else knows of.
func (d Delegate) GC() error {
	_, err := d.Plugin.run("GC", model.Key{})
	return err
}

// record notes what another plugin has leased to key. An address that another
// running container or the host itself has is a [model.ErrTaken], whatever the
// plugin's own records are.
func (s *Store) record(key model.Key, addrs []netip.Addr, locals model.Locals) error {
	f, l, err := s.open(true)
	if err != nil {
		return err
	}
	defer f.leave()
	c := s.chooser(f, l, locals)
	for _, a := range addrs {
		if err := c.claim(a); err != nil {
			return err
		}
	}
	l.put(key, addrs)
	return f.save(l)
}
