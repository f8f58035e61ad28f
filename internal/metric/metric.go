// Package metric orders the routes of a container that is in several networks by the
// names of its interfaces, in whatever order these come and go.
package metric

import (
	"strconv"
	"strings"
)

const (
	// netavark is the metric of netavark's own networks, in both families.
	netavark = 100
	// Second is above the bridge plugin's: 0, of which IPv6 makes 1024 (IP6_RT_PRIO_USER).
	Second = 2048
	// others is above that of each eth interface that a container can have.
	others = 1 << 20
)

// Of returns the metric of an interface's routes beside networks of other CNI plugins,
// which choose none; 0 is the kernel's default. That of eth0 is the lowest, eth1 and so on
// follow by their numbers, and then all other names by the alphabet, as far as their first
// six characters differ.
func Of(ifName string) uint32 {
	if ifName == "eth0" {
		return 0
	}
	return after(Second, ifName)
}

// Netavark is Of beside netavark's own networks.
func Netavark(ifName string) uint32 {
	if ifName == "eth0" {
		return netavark - 1
	}
	return after(netavark, ifName)
}

// after returns a metric above a limit.
func after(limit uint32, ifName string) uint32 {
	number, isEth := strings.CutPrefix(ifName, "eth")
	n, err := strconv.ParseUint(number, 10, 32)
	if isEth && err == nil && n < others-Second && strconv.FormatUint(n, 10) == number {
		return limit + uint32(n)
	}
	return others + code(ifName)
}

// code is a number in the order of the names.
func code(name string) (n uint32) {
	const digits = "-0123456789abcdefghijklmnopqrstuvwxyz" // 37 to the sixth fits in 32 bits
	for i := range 6 {
		n *= uint32(len(digits))
		if i < len(name) {
			n += uint32(max(strings.IndexByte(digits, name[i]|lower(name[i])), 0))
		}
	}
	return n
}

// lower is the bit that makes a capital letter a small one.
func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return 'a' - 'A'
	}
	return 0
}
