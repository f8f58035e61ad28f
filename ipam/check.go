package ipam

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"flatnet/bridge/model"
)

// An Entry is one attachment's lease.
type Entry struct {
	Key       model.Key
	Addresses []netip.Addr
}

// List returns all leases of the network, ordered by container ID and
// interface. It waits for no lock and changes nothing.
func (s *Store) List() ([]Entry, error) {
	l, err := s.peek()
	if err != nil {
		return nil, err
	}
	var list []Entry
	for _, name := range l.names() {
		list = append(list, Entry{l.byName[name].key, l.byName[name].addrs})
	}
	return list, nil
}

// Keys is [Store.List] without the addresses.
func (s *Store) Keys() ([]model.Key, error) {
	list, err := s.List()
	var keys []model.Key
	for _, e := range list {
		keys = append(keys, e.Key)
	}
	return keys, err
}

// Check reports a [model.ErrChanged] unless key holds exactly addrs. It waits
// for no lock and changes nothing.
func (s *Store) Check(key model.Key, addrs []netip.Addr) error {
	l, err := s.peek()
	if err != nil {
		return err
	}
	if name, ok := l.find(key); ok {
		if has := l.byName[name].addrs; !same(has, addrs) {
			return fmt.Errorf("lease of %s is of %v, not of %v: %w", key, has, addrs, model.ErrChanged)
		}
		return nil
	}
	for _, a := range addrs {
		if name, ok := l.holder[a]; ok {
			return fmt.Errorf("address %s of %s is leased to %s: %w", a, key, l.byName[name].key, model.ErrChanged)
		}
	}
	return fmt.Errorf("lease of %s is missing: %w", key, model.ErrChanged)
}

// peek reads the leases without lock: a lease file is only ever replaced whole.
func (s *Store) peek() (*leases, error) {
	f, err := openFolder(s.cfg.Dir, s.cfg.Network, false)
	if err == nil {
		var l *leases
		l, err = s.read(f)
		f.close()
		if err == nil {
			return l, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return newLeases(s.cfg.Network, 0), nil
	}
	return nil, err
}

// same compares without order.
func same(a, b []netip.Addr) bool {
	return slices.Equal(
		slices.SortedFunc(slices.Values(a), netip.Addr.Compare),
		slices.SortedFunc(slices.Values(b), netip.Addr.Compare))
}
