package cni

import (
	"fmt"

	"flatnet/bridge/model"
	"flatnet/internal/strictjson"
)

// maxVLAN is the highest VLAN ID (IEEE 802.1Q, 9.6: 0 and 4095 are reserved).
const maxVLAN = 4094

// readVLANs reads vlan, vlanTrunk and preserveDefaultVlan as the reference
// bridge plugin does.
func readVLANs(doc *strictjson.Object, bridgeName string) model.VLANs {
	id, _ := doc.Uint("vlan", maxVLAN)
	v := model.VLANs{ID: uint16(id), KeepDefault: doc.Bool("preserveDefaultVlan", false)}
	if name := fmt.Sprintf("%s.%d", bridgeName, id); id != 0 && model.ValidIfName(name) != nil {
		doc.Fail("vlan", "the bridge's name is too long for the interface %q", name)
	}
	var member [maxVLAN + 1]bool
	for _, o := range doc.Objects("vlanTrunk") {
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
			v.Trunk = append(v.Trunk, uint16(vid))
		}
	}
	return v
}

// readVLAN reads a VLAN ID; 0 means that there is none.
func readVLAN(o *strictjson.Object, key string) uint16 {
	n, ok := o.Uint(key, maxVLAN)
	if ok && n == 0 {
		o.Fail(key, "0 is no VLAN")
	}
	return uint16(n)
}
