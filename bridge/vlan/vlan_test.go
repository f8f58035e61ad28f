package vlan

import (
	"testing"

	"flatnet/bridge/model"
	"flatnet/rtnl"
)

// Others may have put the port into more VLANs.
func TestFaults(t *testing.T) {
	access, trunk := model.VLANs{ID: 7}, model.VLANs{Trunk: []uint16{9, 10}}
	for name, tt := range map[string]struct {
		vlans  model.VLANs
		ports  map[int]rtnl.PortVLANs
		faults int
	}{
		"no VLANs":         {model.VLANs{}, nil, 0},
		"as attached":      {access, map[int]rtnl.PortVLANs{3: {PVID: 7, VIDs: []uint16{7}}}, 0},
		"in more":          {access, map[int]rtnl.PortVLANs{3: {PVID: 7, VIDs: []uint16{1, 7, 8}}}, 0},
		"another PVID":     {access, map[int]rtnl.PortVLANs{3: {PVID: 1, VIDs: []uint16{1, 7}}}, 1},
		"no port":          {access, map[int]rtnl.PortVLANs{4: {PVID: 7, VIDs: []uint16{7}}}, 1},
		"a trunk":          {trunk, map[int]rtnl.PortVLANs{3: {PVID: 1, VIDs: []uint16{1, 9, 10}}}, 0},
		"a part of it":     {trunk, map[int]rtnl.PortVLANs{3: {PVID: 1, VIDs: []uint16{1, 10}}}, 1},
		"without untagged": {trunk, map[int]rtnl.PortVLANs{3: {VIDs: []uint16{9, 10}}}, 1},
	} {
		if found := Faults(tt.vlans, rtnl.Link{Name: "fn-c1", Index: 3}, tt.ports); len(found) != tt.faults {
			t.Errorf("%s: %v", name, found)
		}
	}
}
