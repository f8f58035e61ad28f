package rtnl

import "golang.org/x/sys/unix"

// Of linux/netconf.h.
const (
	netconfIfIndex    = 1  // NETCONFA_IFINDEX
	netconfForwarding = 2  // NETCONFA_FORWARDING
	AllInterfaces     = -1 // NETCONFA_IFINDEX_ALL
)

// Forwards returns the sysctl forwarding of an interface in a family, or with
// [AllInterfaces] of all. A kernel without the family is EOPNOTSUPP. It costs the same
// on a host with many network namespaces, unlike to look up a name in /proc/sys, where the
// kernel compares with each of them (proc_sys_compare).
func (c *Conn) Forwards(family byte, index int) (bool, error) {
	h := []byte{family, 0, 0, 0} // struct netconfmsg, aligned
	on, err := get(c, unix.RTM_GETNETCONF, decodeForwarding, h, u32(netconfIfIndex, uint32(int32(index))))
	return on, c.wrap(err, "look up whether interface %d forwards", index)
}

func decodeForwarding(b []byte) (bool, error) {
	_, r := read(b, 4)
	return r.u32(netconfForwarding) != 0, r.Err()
}
