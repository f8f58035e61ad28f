package main

// The limits in lines of code; of a function in lines from func to brace.
const (
	maxCore     = 7_010
	maxAll      = 22_400
	maxPackage  = 1_500
	maxFunction = 60
	maxMain     = 80 // main.go

	maxBinary = 4_720_000 // bytes
)

const program = "bin/flatnet"

// core is what an auditor reads, in this order. The rest can be read, changed
// or left out alone.
var core = []string{
	".", "bridge/model", "cni", "internal/engine", "bridge", "bridge/link", "bridge/firewall", "ipam", "rtnl", "ns", "internal/nft", "internal/nl",
}
