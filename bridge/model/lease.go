package model

import (
	"io"
	"net/netip"
)

// A Lease is what address management gives to an attachment.
type Lease struct {
	Addresses []Address
	Routes    []Route // of a delegated IPAM plugin
	DNS       DNS     // of a delegated IPAM plugin

	// Had reports that the attachment had the lease from before, also after an error.
	Had bool

	// Flight, if not nil, is closed when the link is made, or never will be:
	// until then nobody else is given these addresses for want of a link.
	Flight io.Closer
}

// End closes l.Flight.
func (l Lease) End() {
	if l.Flight != nil {
		l.Flight.Close() // nothing was written to it
	}
}

// An Address is one leased address in its subnet.
type Address struct {
	Prefix  netip.Prefix // the address, with the subnet's length
	Gateway netip.Addr   // invalid: none
}

// A Local is the part of a subnet that belongs to the host itself.
type Local struct {
	Prefix netip.Prefix // normally a single address; invalid: the host has none of it
	Link   string       // the interface that has it
}

// Locals looks up whether the host itself has an address.
type Locals func(netip.Addr) (Local, error)

// An Allocator manages the addresses of one network. Its methods are safe
// against other processes that do the same.
type Allocator interface {
	// Lease gives key its addresses: those it has already, else those that
	// want names, else free ones. An address that the host itself has, as locals
	// reports, is never given.
	Lease(key Key, want []netip.Addr, locals Locals) (Lease, error)
	// Release takes the keys' addresses back, once their links are gone; a key
	// that has none is no error. left are keys of the network that have leases
	// then, whether or not they have links.
	Release(keys []Key) (left []Key, err error)
	// Keys lists who has leases of this network.
	Keys() ([]Key, error)
	// Free reports an error unless a Lease of any addresses would succeed now.
	Free(locals Locals) error
	// Check reports an error unless key holds exactly addrs.
	Check(key Key, addrs []netip.Addr) error
}
