package rtnl

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Of linux/if_bridge.h and linux/if_link.h.
const (
	bridgeVLANInfo  = 2 // IFLA_BRIDGE_VLAN_INFO
	vlanPVID        = 1 << 1
	vlanUntagged    = 1 << 2
	vlanRangeBegin  = 1 << 3
	vlanRangeEnd    = 1 << 4
	brVLANFiltering = 7 // IFLA_BR_VLAN_FILTERING
	brVLANProtocol  = 8 // IFLA_BR_VLAN_PROTOCOL
	firstVID        = 1
	lastVID         = 4094
)

// SetVLANFiltering makes a bridge keep VLANs apart. A kernel that can't is
// EOPNOTSUPP, here and in what follows.
func (c *Conn) SetVLANFiltering(bridge int) error {
	b, err := encodeVLANFiltering(bridge)
	return c.ack(unix.RTM_NEWLINK, 0, b, err)
}

func encodeVLANFiltering(bridge int) ([]byte, error) {
	return encode(ifInfo(bridge, 0, 0), func(ae *netlink.AttributeEncoder) {
		linkInfo(ae, "bridge", func(data *netlink.AttributeEncoder) error {
			data.Uint8(brVLANFiltering, 1)
			return nil
		})
	})
}

// HasVLANFiltering reports whether the kernel's bridges can keep VLANs apart. It
// asks for a bridge in lo's place with a protocol that is none: kernels that can look
// at the protocol first (br_validate of net/bridge/br_netlink.c) and return
// EPROTONOSUPPORT, others find that lo exists.
func (c *Conn) HasVLANFiltering() (bool, error) {
	const lo = 1 // LOOPBACK_IFINDEX of net/net_namespace.h, in every namespace
	b, err := encode(ifInfo(lo, 0, 0), func(ae *netlink.AttributeEncoder) {
		linkInfo(ae, "bridge", func(data *netlink.AttributeEncoder) error {
			data.Uint16(brVLANProtocol, 0)
			return nil
		})
	})
	err = c.ack(unix.RTM_NEWLINK, netlink.Create|netlink.Excl, b, err)
	switch {
	case errors.Is(err, unix.EPROTONOSUPPORT):
		return true, nil
	case errors.Is(err, unix.EEXIST), errors.Is(err, unix.EOPNOTSUPP):
		return false, nil
	}
	return false, fmt.Errorf("look for VLAN filtering: %w", err)
}

// AddVLANs adds a bridge port to VLANs: untagged frames belong to pvid, unless
// that is 0, and those of the trunk's VLANs carry a tag. The trunk is sorted.
func (c *Conn) AddVLANs(port int, pvid uint16, trunk []uint16) error {
	b, err := encodeVLANs(port, pvid, trunk)
	return c.ack(unix.RTM_SETLINK, 0, b, err)
}

func encodeVLANs(port int, pvid uint16, trunk []uint16) ([]byte, error) {
	return encodePort(port, func(spec *netlink.AttributeEncoder) {
		if pvid != 0 {
			vlan(spec, vlanPVID|vlanUntagged, pvid)
		}
		for i := 0; i < len(trunk); {
			j := i + 1
			for j < len(trunk) && trunk[j] == trunk[j-1]+1 {
				j++
			}
			vlans(spec, trunk[i], trunk[j-1])
			i = j
		}
	})
}

// ClearVLANs takes a bridge port out of all VLANs.
func (c *Conn) ClearVLANs(port int) error {
	b, err := encodeClearVLANs(port)
	return c.ack(unix.RTM_DELLINK, 0, b, err)
}

func encodeClearVLANs(port int) ([]byte, error) {
	return encodePort(port, func(spec *netlink.AttributeEncoder) { vlans(spec, firstVID, lastVID) })
}

// A PortVLANs is the VLANs that a bridge port belongs to.
type PortVLANs struct {
	PVID uint16   // of untagged frames; 0: none
	VIDs []uint16 // all of them, sorted
}

// PortVLANs lists the VLANs of all bridge ports, and of bridges themselves, by
// the links' indexes. Links without VLANs may be missing.
func (c *Conn) PortVLANs() (map[int]PortVLANs, error) {
	h := ifInfo(0, 0, 0)
	h[0] = unix.AF_BRIDGE
	req, err := encode(h, func(ae *netlink.AttributeEncoder) { ae.Uint32(unix.IFLA_EXT_MASK, filterVLANs) })
	if err != nil {
		return nil, err
	}
	ports, err := dump(c, unix.RTM_GETLINK, req, decodePortVLANs)
	all := map[int]PortVLANs{}
	for _, p := range ports {
		all[p.index] = p.PortVLANs
	}
	return all, err
}

// filterVLANs is RTEXT_FILTER_BRVLAN of linux/rtnetlink.h.
const filterVLANs = 1 << 1

type portVLANs struct {
	index int
	PortVLANs
}

func decodePortVLANs(b []byte) (p portVLANs, err error) {
	h, ad, err := split(b, unix.SizeofIfInfomsg)
	if err != nil {
		return p, fmt.Errorf("bridge port: %w", err)
	}
	p.index = int(int32(native.Uint32(h[4:])))
	begin := uint16(0)
	for ad.Next() {
		if ad.Type() != unix.IFLA_AF_SPEC {
			continue
		}
		ad.Nested(func(spec *netlink.AttributeDecoder) error {
			for spec.Next() {
				info := spec.Bytes()
				if spec.Type() != bridgeVLANInfo || len(info) < 4 {
					continue
				}
				flags, vid := native.Uint16(info), native.Uint16(info[2:])
				if vid > lastVID {
					return fmt.Errorf("there is no VLAN %d", vid)
				}
				if flags&vlanRangeBegin != 0 {
					begin = vid
					continue
				}
				if flags&vlanPVID != 0 {
					p.PVID = vid
				}
				if flags&vlanRangeEnd == 0 {
					begin = vid
				}
				for v := begin; v <= vid; v++ {
					p.VIDs = append(p.VIDs, v)
				}
			}
			return spec.Err()
		})
	}
	if err := ad.Err(); err != nil {
		return p, fmt.Errorf("VLANs of link %d: %w", p.index, err)
	}
	return p, nil
}

// encodePort is a message about a bridge port's IFLA_AF_SPEC.
func encodePort(port int, attrs func(*netlink.AttributeEncoder)) ([]byte, error) {
	h := ifInfo(port, 0, 0)
	h[0] = unix.AF_BRIDGE
	return encode(h, func(ae *netlink.AttributeEncoder) {
		ae.Do(unix.IFLA_AF_SPEC, func() ([]byte, error) {
			return encode(nil, attrs)
		})
	})
}

// vlans is the VLANs from first to last.
func vlans(spec *netlink.AttributeEncoder, first, last uint16) {
	if first == last {
		vlan(spec, 0, first)
		return
	}
	vlan(spec, vlanRangeBegin, first)
	vlan(spec, vlanRangeEnd, last)
}

// vlan is struct bridge_vlan_info.
func vlan(spec *netlink.AttributeEncoder, flags, vid uint16) {
	b := make([]byte, 4)
	native.PutUint16(b, flags)
	native.PutUint16(b[2:], vid)
	spec.Bytes(bridgeVLANInfo, b)
}
