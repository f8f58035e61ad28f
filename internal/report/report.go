// Package report defines what people are shown of a host, as plain values without system calls.
package report

import (
	"net/netip"
	"time"

	"flatnet/bridge/model"
)

// States of an attachment.
const (
	Attached    = "attached"
	NoRecord    = "no record"    // a reload can't restore it until its container is restarted
	NoLease     = "no lease"     // its address may be given to another
	StaleLease  = "stale lease"  // its link went without a DEL, as by a reboot: gc removes it
	KeptLease   = "kept lease"   // the same, but not for gc to remove, which says why
	StaleRecord = "stale record" // the same without a lease
	Arriving    = "arriving"     // its ADD is under way
	Unfinished  = "unfinished"   // its ADD was killed: DEL removes it
	Changed     = "changed "     // and what of its link: somebody has changed that
)

// An Attachment is one row of a list.
type Attachment struct {
	Key       model.Key
	Name      string // by its engine's state; empty: not known
	Addresses []netip.Addr
	Ports     []model.Publication
	HostEnd   string    // empty: there is no link
	Since     time.Time // of its ADD; zero: not known
	State     string
	Repair    string // a command line; empty: there is none
}

// A Network is what a host shows of one network.
type Network struct {
	*model.Survey
	Pools  []Pool
	Rules  int    // how many of its chains and elements are missing; negative: not known
	Status string // what STATUS says; empty: an ADD could succeed
	State  string // in a word or two
	Err    error  // of STATUS
}

// A Pool is the addresses of a subnet.
type Pool struct {
	netip.Prefix
	Used uint64
	Free uint64 // the most there is room for, if there are more
}

// Kinds of leftovers.
const (
	Lease    = "lease"
	Ports    = "published ports"
	Guard    = "macspoofchk"
	Limit    = "limit" // the device of a bandwidth limit
	Record   = "record"
	Rules    = "rules"
	Shared   = "network record"
	BridgeOf = "bridge"
	Route    = "route to a peer"
)

// A Leftover is something whose attachment is gone, or whose network has no attachment any
// more: then the key has only the network. That of a route is empty.
type Leftover struct {
	Key  model.Key
	Kind string
	What string // addresses, or the name of the thing
	Name string // of the container; empty: not known
	Kept string // why it is left alone; empty: it may be removed
}

// Verdicts of a [Finding].
const (
	OK   = "OK"
	Warn = "WARN"
	Fail = "FAIL" // containers can't be attached, or are cut off
)

// A Configured network is one that an engine finds, whether it has containers or not.
type Configured struct {
	Network  string // empty: the file can't be read
	Path     string
	Netavark bool // it is a network of Podman's
	Subnets  []netip.Prefix
	Failed   error // that an ADD would fail with
	Status   error // that STATUS would report
}

// A Finding is the result of one check of a host: what was seen, and a command or
// setting that repairs it.
type Finding struct {
	Verdict, Check, Seen, Repair string
}
