// Package bridge is flatnet's domain: networks, attachments and the verbs
// that apply, compare and remove them.
//
// An attachment is a plain value. [Plan] makes it without touching anything;
// ADD applies it, CHECK compares the kernel with it, and remove takes it away
// again, for DEL and GC as well as for an ADD that failed. What the kernel
// holds is found by its owner's mark (see [Key]), so DEL needs no state file,
// no namespace and no earlier result.
package bridge

import (
	"io"
	"net/netip"
)

// Defaults of a network whose configuration names nothing but itself.
const (
	DefaultBridge = "flatnet-br0"
	DefaultSubnet = "10.87.1.0/24"
	// DefaultFlat is the range of all flat networks: traffic inside it is
	// never masqueraded, so that a container is seen by its own address.
	DefaultFlat = "10.87.0.0/16"
)

// A Network is one validated network configuration, whichever door it came
// through.
type Network struct {
	Name   string // CNI network name, see [ValidName]
	Bridge string // host bridge's interface name
	MTU    uint32 // of bridge and attachments; 0 inherits the default route's device

	IsGateway        bool // the bridge carries the gateway addresses, the host forwards
	IsDefaultGateway bool // the container's default route leads to the gateway
	IPMasq           bool // outward traffic is masqueraded
	ForceAddress     bool // a wrong address on the bridge is replaced
	HairpinMode      bool // IFLA_BRPORT_MODE on the host end
	PromiscMode      bool // IFF_PROMISC on the bridge
	Internal         bool // no way out: no default route, nothing forwarded or masqueraded
	Isolated         bool // containers of other networks don't reach this one's containers
	SpoofCheck       bool // a container's port sends nothing that has another's MAC or IP address
	PortIsolated     bool // containers of the network don't reach each other
	PublishedOnly    bool // others than the host reach the containers by published ports only
	AllowOverlap     bool // the subnets may be a part of, or have to do with, another interface's
	ForwardAccept    bool // foreign chains that drop what containers send get a rule that accepts it
	ServesDNS        bool // containers ask a DNS server at the gateways
	LinkFirst        bool // addresses are leased when the link is there: another plugin may use it
	NoAddress        bool // the container's interface stays down, and nothing is leased
	DAD              bool // IPv6 addresses are used after duplicate address detection; needs LinkFirst
	AcceptRA         bool // the container's interface may take router advertisements

	VLANs   VLANs
	Subnets []Subnet       // none if another plugin leases addresses
	Flat    []netip.Prefix // destinations never masqueraded, besides the subnet itself
	Routes  []Route        // further routes of the container
	DNS     DNS            // handed back in the result as it is
}

// A Subnet is a subnet of a network.
type Subnet struct {
	netip.Prefix
	Gateway netip.Addr // in the subnet, or link-local
}

// gatewayIn is a gateway with the length of its subnet, or of the link's for one that
// is link-local (RFC 4291, section 2.5.6).
func gatewayIn(subnet netip.Prefix, gateway netip.Addr) netip.Prefix {
	if isOutside(subnet, gateway) {
		return netip.PrefixFrom(gateway, 64)
	}
	return netip.PrefixFrom(gateway, subnet.Bits())
}

// isOutside reports a link-local gateway of another subnet.
func isOutside(subnet netip.Prefix, gateway netip.Addr) bool {
	return gateway.Is6() && gateway.IsLinkLocalUnicast() && !subnet.Contains(gateway)
}

// prefixes are the network's subnets.
func (n Network) prefixes() (all []netip.Prefix) {
	for _, s := range n.Subnets {
		all = append(all, s.Prefix)
	}
	return all
}

// A Route is one route of a container.
type Route struct {
	Dst      netip.Prefix
	Gateway  netip.Addr // invalid: the gateway of the container's first address of that family
	MTU      uint32     // RTAX_MTU; 0 leaves it out
	AdvMSS   uint32     // RTAX_ADVMSS; 0 leaves it out
	Priority uint32     // RTA_PRIORITY; 0 leaves it out
	Table    *uint32    // RTA_TABLE; nil is the main table
	Scope    *uint8     // rtm_scope; nil is global, as is 0
}

// narrow reports whether the route's scope is less than global, so that its
// destinations need no gateway.
func (r Route) narrow() bool { return r.Scope != nil && *r.Scope != 0 }

// DNS is the CNI result's dns object.
type DNS struct {
	Nameservers []string
	Domain      string
	Search      []string
	Options     []string
}

func (d DNS) empty() bool {
	return len(d.Nameservers)+len(d.Search)+len(d.Options) == 0 && d.Domain == ""
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
	Protocol      uint8      // IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP
	HostIP        netip.Addr // invalid or unspecified: all of the host's addresses (of that family)
	HostPort      uint16
	ContainerPort uint16
}

// A Lease is what address management gives to an attachment.
type Lease struct {
	Addresses []Address
	Routes    []Route // of a delegated IPAM plugin
	DNS       DNS     // of a delegated IPAM plugin

	// Flight, if not nil, is closed when the link is made, or never will be:
	// until then nobody else is given these addresses for want of a link.
	Flight io.Closer
}

func (l Lease) end() {
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
	// reports, is never given. held reports whether key had some before.
	Lease(key Key, want []netip.Addr, locals Locals) (lease Lease, held bool, err error)
	// Release takes the keys' addresses back, once their links are gone; a key
	// that has none is no error. left are keys of the network that have leases
	// then, whether or not they have links.
	Release(keys []Key) (left []Key, err error)
	// Keys lists who has leases of this network.
	Keys() ([]Key, error)
	// Free reports an error unless a Lease without wishes would succeed now.
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
