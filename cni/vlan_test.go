package cni

import (
	"reflect"
	"testing"

	"flatnet/bridge/model"
)

func TestVLANs(t *testing.T) {
	for _, tt := range []struct {
		keys string
		want model.VLANs
	}{
		{`"vlan":0,"vlanTrunk":[]`, model.VLANs{}},
		{`"vlan":100`, model.VLANs{ID: 100}},
		{`"vlan":4094,"bridge":"br0","preserveDefaultVlan":true`, model.VLANs{ID: 4094, KeepDefault: true}},
		{`"vlanTrunk":[{"minID":300,"maxID":302},{"id":200},{"id":301}]`, model.VLANs{Trunk: []uint16{200, 300, 301, 302}}},
		{`"vlan":5,"vlanTrunk":[{"minID":7,"maxID":7,"id":9}]`, model.VLANs{ID: 5, Trunk: []uint16{7, 9}}},
	} {
		var f fake
		if status, out := call(&f, environ("ADD"), `{"cniVersion":"1.1.0","name":"n",`+tt.keys+`}`); status != 0 {
			t.Errorf("%s: %s", tt.keys, out)
		} else if got := f.config.Network.VLANs; !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %+v, want %+v", tt.keys, got, tt.want)
		}
	}
}
