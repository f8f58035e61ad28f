package model

import "net/netip"

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
