// Package model has the words of flatnet's domain: networks, requests, leases and
// attachments. It makes no system call.
//
// An attachment is a plain value. [Plan] makes it without touching anything; ADD
// applies it, CHECK and STATUS compare the kernel with it, and a reload restores it.
// What the kernel holds is found by its owner's mark (see [Key]), so DEL needs no
// state file, no namespace and no earlier result.
package model

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"

	"flatnet/internal/peer"
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
	Name    string // CNI network name, see [ValidName]
	Bridge  string // host bridge's interface name
	MTU     uint32 // of bridge and attachments; 0 inherits the default route's device
	PathMTU uint32 // of the way to other hosts; 0: that of the devices of the routes there
	Metric  uint32 // of the container's routes that have no priority; 0: by its interface's name

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
	Unread           bool // the subnets are in a file that has not been read, and its flat ranges
	Spans            bool // other hosts have parts of the flat ranges, by tunnels or routes

	DataDir string // of the leases; empty: the default
	VLANs   VLANs
	Subnets []Subnet       // none if another plugin leases addresses
	Flat    []netip.Prefix // destinations never masqueraded, besides the subnet itself
	Former  []netip.Prefix // gateway addresses of this host's earlier subnets, which the bridge may lose
	First   bool           // no container of a network that spans several hosts is attached to this one
	Routes  []Route        // further routes of the container
	Peers   []peer.Peer    // subnets of other hosts, to which the host has routes; also in Flat
	Leaving []peer.Peer    // peers of earlier configurations, to which routes may be left
	DNSPort uint16         // on which the gateways' DNS server listens; 0 is 53, as containers ask
	DNS     DNS            // handed back in the result as it is
}

// Prefixes returns the network's subnets.
func (n *Network) Prefixes() (all []netip.Prefix) {
	for _, s := range n.Subnets {
		all = append(all, s.Prefix)
	}
	return all
}

// Gateways returns the addresses that the bridge has if all the subnets are in use.
func (n *Network) Gateways() []netip.Prefix { return n.gatewaysOf(n.Subnets) }

func (n *Network) gatewaysOf(subnets []Subnet) (all []netip.Prefix) {
	for _, s := range subnets {
		if n.IsGateway && s.Gateway.IsValid() && !slices.Contains(all, s.gatewayPrefix()) {
			all = append(all, s.gatewayPrefix())
		}
	}
	return all
}

// GatewayName returns the host's interface that has the gateway addresses: the bridge,
// or where the network is a VLAN the interface that leads into it.
func (n *Network) GatewayName() string {
	if n.VLANs.ID == 0 {
		return n.Bridge
	}
	return n.Bridge + "." + strconv.Itoa(int(n.VLANs.ID))
}

// Groups of interfaces (ip-link(8)), by which the rules of one network match the
// bridges of all others. So no network has a rule in another's table. The two differ
// in the last bit, and [GroupMask] covers the others.
const (
	GroupIsolated = 10870
	GroupOpen     = 10871
	GroupMask     = ^uint32(GroupIsolated ^ GroupOpen)
)

// Group returns the group of the network's bridge.
func (n *Network) Group() uint32 {
	if n.Isolated {
		return GroupIsolated
	}
	return GroupOpen
}

// MinMTU6 is the least MTU on which Linux does IPv6 (IPV6_MIN_MTU, RFC 8200,
// section 5).
const MinMTU6 = 1280

// checkMTU rejects an MTU (0: the kernel's default) that is too small for addresses.
func (n *Network) checkMTU(addrs []Address) error {
	if n.MTU == 0 || n.MTU >= MinMTU6 || !firstOf(addrs, false).IsValid() {
		return nil
	}
	return Errorf(ErrInvalid, "the network has IPv6 addresses, which need an MTU of %d, and its MTU is %d; set the key mtu, "+
		"or that of the default route's device, from which it is inherited", MinMTU6, n.MTU)
}

// VLANs are those that a container's port on the bridge belongs to. The zero
// value is a bridge without any.
type VLANs struct {
	ID          uint16   // of the container's untagged frames; 0: none is chosen
	Trunk       []uint16 // of its tagged frames, sorted
	KeepDefault bool     // the port stays in the bridge's default VLAN as well
}

// defaultVLAN is that of untagged frames where a trunk is configured alone.
const defaultVLAN = 1

// Any reports whether the port is in any VLAN.
func (v VLANs) Any() bool { return v.ID != 0 || len(v.Trunk) > 0 }

// PVID returns the VLAN of untagged frames.
func (v VLANs) PVID() uint16 { return cmp.Or(v.ID, defaultVLAN) }

// A Route is one route of a container.
type Route struct {
	Dst      netip.Prefix
	Gateway  netip.Addr // invalid: the gateway of the container's first address of that family
	MTU      uint32     // RTAX_MTU; 0 leaves it out
	AdvMSS   uint32     // RTAX_ADVMSS; 0 leaves it out
	Priority uint32     // RTA_PRIORITY; 0 leaves it out
	Table    *uint32    // RTA_TABLE; nil is the main table
	Scope    *uint8     // rtm_scope; nil is global, as is 0
	Type     uint8      // [Blackhole] and the like, which have no gateway; 0 is RTN_UNICAST
}

// Types of routes by which packets go nowhere (RTN_* of linux/rtnetlink.h).
const (
	Blackhole   = 6
	Unreachable = 7
	Prohibit    = 8
)

// Narrow reports whether the route's scope is less than global, so that its
// destinations need no gateway.
func (r Route) Narrow() bool { return r.Scope != nil && *r.Scope != 0 }

// DNS is the CNI result's dns object.
type DNS struct {
	Nameservers []string
	Domain      string
	Search      []string
	Options     []string
}

// Empty reports whether there are no settings.
func (d DNS) Empty() bool {
	return len(d.Nameservers)+len(d.Search)+len(d.Options) == 0 && d.Domain == ""
}
