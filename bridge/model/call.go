package model

import (
	"net/netip"
	"os"
)

// A Config is one call's configuration as a door has read it: a network and, for
// calls about an attachment, the request. It is valid by itself; whether it fits
// the host is not decided yet.
type Config struct {
	Network  Network
	IPAM     IPAM
	Request  Request
	Names    bool         // containers find each other by Request.Names
	Upstream []netip.Addr // the servers to ask for other names; none: the host's
	Span     Span
}

// A Span is what makes a network one of several hosts', each with a subnet of its own. The
// zero value is a network of this host alone.
type Span struct {
	HostID     uint8    // 1 to 254: the subnet is 10.100.HostID.0/24; 0: none
	SubnetFile string   // has the subnet, in flannel's format; empty: none
	FileFlat   bool     // the file's flat ranges are added to the network's
	Registry   []string // URLs of the registries that are told of containers
	FileMasq   bool     // the file decides whether the network masquerades
}

// Decides reports whether the network has its subnet by its host's part of the whole.
func (s *Span) Decides() bool { return s.HostID != 0 || s.SubnetFile != "" }

// An IPAM configures address management. Where that is delegated, only Type, Path
// and Conf are set: the ipam object belongs to the other plugin.
type IPAM struct {
	Type string // the plugin to delegate to; empty: flatnet's own
	Path string // CNI_PATH, where the plugin is searched
	Conf []byte // the configuration as it came, which the plugin gets

	Sets       [][]Range // one address of each set is leased; none are needed to release
	DataDir    string    // of the leases; empty: the default
	ResolvConf string    // the file with the DNS settings of a network that has none itself
}

// A Range is the part of a subnet whose addresses may be leased. If a field other
// than Subnet is the zero Addr, address management chooses. Whether ranges overlap
// or are too small is not decided here.
type Range struct {
	Subnet     netip.Prefix // without host bits
	Start, End netip.Addr   // inclusive
	Gateway    netip.Addr
}

// A Request is what one attachment asks for beyond its network.
type Request struct {
	Key       Key
	NetNS     string       // path of the container's network namespace
	MAC       HardwareAddr // wanted MAC of the container's interface; zero: derived from its address
	IPs       []netip.Addr // wanted addresses; all must be given
	Ports     []PortMapping
	Bandwidth Bandwidth
	Names     []string // by which other containers of the network find this one
	HostEnd   string   // wanted name of the interface on the host; empty: one of the key's
}

// A Bandwidth limits what a container gets and sends.
type Bandwidth struct {
	Ingress Limit // to the container
	Egress  Limit // from the container
}

// A Limit is a token bucket.
type Limit struct {
	Rate  uint64 // bits per second; 0: no limit
	Burst uint64 // bits; 0: what the rate gives in 100 ms, or 16 KiB if that is more
}

// A PortMapping publishes one port of the container on the host.
type PortMapping struct {
	Protocol      uint8      // TCP, UDP or SCTP
	HostIP        netip.Addr // invalid or unspecified: all of the host's addresses (of that family)
	HostPort      uint16
	ContainerPort uint16
}

// A Lease is what address management gives to an attachment.
type Lease struct {
	Addresses []Address
	Routes    []Route // of a delegated IPAM plugin
	DNS       DNS     // of a delegated IPAM plugin

	// Again reports that some of Addresses are of an earlier lease, which the attachment
	// gave back.
	Again bool

	// Had reports that the attachment had the lease from before, also after an error.
	Had bool

	// Flight, which may be nil, is closed when the link is made, or never will be:
	// until then nobody else is given these addresses for want of a link. Nothing is
	// written to it, so errors of Close don't matter.
	Flight *os.File
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
	// that has none is no error. With again, they may come back for the same addresses. left are keys of the network that have leases
	// then, whether or not they have links.
	Release(keys []Key, again bool) (left []Key, err error)
	// Keys lists who has leases of this network.
	Keys() ([]Key, error)
	// Free reports an error unless a Lease of any addresses would succeed now.
	Free(locals Locals) error
	// Check reports an error unless key holds exactly addrs.
	Check(key Key, addrs []netip.Addr) error
}

// A Result is what an attachment came to be, in the shape of the CNI result
// (SPEC 1.1.0, section 5).
type Result struct {
	Interfaces []Interface
	IPs        []IP
	Routes     []Route
	DNS        DNS
}

// An Interface is an interface of a [Result].
type Interface struct {
	Name    string
	MAC     string
	MTU     uint32
	Sandbox string // path of its namespace; empty for the host's
}

// An IP is an address of a [Result].
type IP struct {
	Address   netip.Prefix
	Gateway   netip.Addr // invalid: none
	Interface int        // index in Interfaces; -1: not said
}
