package model

import "net/netip"

// A Config is one call's configuration as a door has read it: a network and, for
// calls about an attachment, the request. It is valid by itself; whether it fits
// the host is not decided yet.
type Config struct {
	Network  Network
	IPAM     IPAM
	Request  Request
	Names    bool         // containers find each other by Request.Names
	Upstream []netip.Addr // the servers to ask for other names; none: the host's
}

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
