package model

import "net/netip"

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
	Protocol      uint8      // TCP, UDP or SCTP
	HostIP        netip.Addr // invalid or unspecified: all of the host's addresses (of that family)
	HostPort      uint16
	ContainerPort uint16
}
