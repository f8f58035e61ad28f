package rtnl

import (
	"flatnet/internal/nl"

	"golang.org/x/sys/unix"
)

// Of linux/if_bridge.h.
const (
	bridgeVLANInfo = 2 // IFLA_BRIDGE_VLAN_INFO
	vlanPVID       = 1 << 1
	vlanUntagged   = 1 << 2
	vlanRangeBegin = 1 << 3
	vlanRangeEnd   = 1 << 4
)

// AddVLANs adds a bridge port to VLANs: untagged frames belong to pvid, unless
// that is 0, and those of the trunk's VLANs carry a tag.
func (c *Conn) AddVLANs(port Link, pvid uint16, trunk []uint16) error {
	var spec []byte
	if pvid != 0 {
		spec = vlan(vlanPVID|vlanUntagged, pvid)
	}
	for _, vid := range trunk {
		spec = append(spec, vlan(0, vid)...)
	}
	err := c.do(unix.RTM_SETLINK, 0, portInfo(port.Index), nl.Attr(unix.IFLA_AF_SPEC, spec))
	return c.wrap(err, "put port %s into VLANs", port.Name)
}

// ClearVLANs takes a bridge port out of all VLANs.
func (c *Conn) ClearVLANs(port Link) error {
	all := append(vlan(vlanRangeBegin, 1), vlan(vlanRangeEnd, 4094)...)
	err := c.do(unix.RTM_DELLINK, 0, portInfo(port.Index), nl.Attr(unix.IFLA_AF_SPEC, all))
	return c.wrap(err, "take port %s out of all VLANs", port.Name)
}

// vlan encodes a struct bridge_vlan_info.
func vlan(flags, vid uint16) []byte {
	return nl.Attr(bridgeVLANInfo, native.AppendUint16(native.AppendUint16(nil, flags), vid))
}

// A PortVLANs is the VLANs that a bridge port belongs to.
type PortVLANs struct {
	index int      // of the port
	PVID  uint16   // of untagged frames; 0: none
	VIDs  []uint16 // all of them, sorted
}

// PortVLANs lists the VLANs of all bridge ports, and of bridges themselves, by
// the links' indexes. Links without VLANs may be missing. The kernel lists each
// VLAN by itself, and ranges only for RTEXT_FILTER_BRVLAN_COMPRESSED.
func (c *Conn) PortVLANs() (map[int]PortVLANs, error) {
	ports, err := dump(c, "VLANs of bridge ports", unix.RTM_GETLINK, decodePortVLANs, portInfo(0), u32(unix.IFLA_EXT_MASK, filterVLANs))
	all := map[int]PortVLANs{}
	for _, p := range ports {
		all[p.index] = p
	}
	return all, err
}

// filterVLANs is RTEXT_FILTER_BRVLAN of linux/rtnetlink.h.
const filterVLANs = 1 << 1

func decodePortVLANs(b []byte) (PortVLANs, error) {
	h, r := read(b, unix.SizeofIfInfomsg)
	p := PortVLANs{index: int(int32(native.Uint32(h[4:])))}
	for _, info := range r.Nest(unix.IFLA_AF_SPEC).All(bridgeVLANInfo) {
		if len(info) < 4 {
			continue
		}
		vid := native.Uint16(info[2:])
		if native.Uint16(info)&vlanPVID != 0 {
			p.PVID = vid
		}
		p.VIDs = append(p.VIDs, vid)
	}
	return p, r.Err()
}
