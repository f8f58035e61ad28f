package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"flatnet/bridge/model"
)

// A Delegate is the [model.Allocator] over another IPAM plugin. The addresses
// that it gives are recorded in a lease file as well, so that everything which
// depends on who is attached, such as GC and the network's last DEL, is as it is
// with flatnet's own leases, whatever the plugin reports.
type Delegate struct {
	Plugin Plugin
	Store  *Store // without ranges
}

var _ model.Allocator = Delegate{}

// Lease asks the plugin for key's addresses. A key that has a lease got no DEL,
// but its link is gone: that lease is given back first, since plugins refuse
// to give a second one. After an error the caller must Release (SPEC 1.1.0,
// section 4).
func (d Delegate) Lease(key model.Key, want []netip.Addr, locals model.Locals) (got model.Lease, had bool, err error) {
	keys, err := d.Store.Keys()
	if had = slices.Contains(keys, key); had {
		_, err = d.Release([]model.Key{key})
	}
	if err != nil {
		return got, had, err
	}
	out, err := d.Plugin.run("ADD", key)
	if err != nil {
		return got, had, err
	}
	res, err := d.Plugin.Decode(out)
	if err != nil {
		return got, had, d.Plugin.errorf(err, "result of ADD: %w", err)
	}
	got.Routes, got.DNS = res.Routes, res.DNS
	var addrs []netip.Addr
	for _, ip := range res.IPs {
		addrs = append(addrs, ip.Address.Addr())
		got.Addresses = append(got.Addresses, model.Address{Prefix: ip.Address, Gateway: ip.Gateway})
	}
	if len(addrs) == 0 {
		return got, had, d.Plugin.errorf(model.ErrInvalid, "result of ADD has no address")
	}
	for i, a := range addrs {
		if slices.Contains(addrs[:i], a) {
			return got, had, d.Plugin.errorf(model.ErrInvalid, "result of ADD has %s twice", a)
		}
	}
	for _, a := range want {
		if !slices.Contains(addrs, a) {
			return got, had, d.Plugin.errorf(model.ErrInvalid, "gave %v, and not the wanted address %s", addrs, a)
		}
	}
	return got, had, d.Store.record(key, addrs, locals)
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

// Keys lists the keys that have leases.
func (d Delegate) Keys() ([]model.Key, error) { return d.Store.Keys() }

// Free passes STATUS on.
func (d Delegate) Free(model.Locals) error {
	_, err := d.Plugin.run("STATUS", model.Key{})
	return err
}

// Check passes CHECK on, and compares the record.
func (d Delegate) Check(key model.Key, addrs []netip.Addr) error {
	_, err := d.Plugin.run("CHECK", key)
	return errors.Join(err, d.Store.Check(key, addrs))
}

// GC passes GC on, for leases that only the plugin has.
func (d Delegate) GC() error {
	_, err := d.Plugin.run("GC", model.Key{})
	return err
}

// record records the addresses that another plugin has leased to key. One that
// another running container or the host itself has is a [model.ErrTaken], whatever
// the plugin's own records are.
func (s *Store) record(key model.Key, addrs []netip.Addr, locals model.Locals) error {
	return avoidLocal(addrs, locals, func(local []model.Local) ([]netip.Addr, error) {
		f, l, err := s.open(true)
		if err != nil {
			return nil, err
		}
		defer f.leave()
		c := s.chooser(f, l, local)
		for _, a := range addrs {
			if err := c.makeFree(a); err != nil {
				return nil, err
			}
		}
		l.put(key, addrs)
		return addrs, f.save(l)
	})
}
