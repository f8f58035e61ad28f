package fields

import (
	"fmt"

	"flatnet/bridge/model"
	"flatnet/internal/strictjson"
)

// MaxVLAN is the highest VLAN ID (IEEE 802.1Q, 9.6: 0 and 4095 are reserved).
const MaxVLAN = 4094

// VLANs reads vlan, vlanTrunk and preserveDefaultVlan as the reference
// bridge plugin does.
func VLANs(doc *strictjson.Object, bridgeName string) model.VLANs {
	id, _ := doc.Uint("vlan", MaxVLAN)
	v := model.VLANs{ID: uint16(id), KeepDefault: doc.Bool("preserveDefaultVlan", false)}
	if name := fmt.Sprintf("%s.%d", bridgeName, id); id != 0 && model.ValidIfName(name) != nil {
		doc.Fail("vlan", "the bridge's name is too long for the interface %q", name)
	}
	if trunk := doc.Objects("vlanTrunk"); len(trunk) > 0 {
		v.Trunk = readTrunk(trunk)
	}
	return v
}

// readTrunk returns the VLANs that the elements of vlanTrunk have, in order. Its stack
// frame of 8 KB is a function's of its own: most networks have no such key.
func readTrunk(trunk []*strictjson.Object) (vlans []uint16) {
	var member [MaxVLAN + 1]bool
	for _, o := range trunk {
		first, last, one := readVLAN(o, "minID"), readVLAN(o, "maxID"), readVLAN(o, "id")
		switch {
		case (first == 0) != (last == 0):
			o.Fail("minID", "and maxID belong together")
		case last < first:
			o.Fail("maxID", "%d is less than minID %d", last, first)
		case first == 0 && one == 0:
			o.Fail("id", "must be given, or minID and maxID")
		}
		for vid := first; vid <= last; vid++ {
			member[vid] = true
		}
		member[one] = true
	}
	for vid, is := range member {
		if is && vid != 0 { // 0 is what is not given
			vlans = append(vlans, uint16(vid))
		}
	}
	return vlans
}

// readVLAN reads a VLAN ID; 0 means that there is none.
func readVLAN(o *strictjson.Object, key string) uint16 {
	n, ok := o.Uint(key, MaxVLAN)
	if ok && n == 0 {
		o.Fail(key, "0 is no VLAN")
	}
	return uint16(n)
}
