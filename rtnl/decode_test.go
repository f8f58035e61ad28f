package rtnl

import (
	"reflect"
	"slices"
	"testing"

	"flatnet/internal/nl"

	"golang.org/x/sys/unix"
)

// Attributes of a bridge's own data and of a port's are told apart by their kinds.
func TestDecodeLinkInfo(t *testing.T) {
	for _, tt := range []struct {
		kind, master string
		data, port   []byte
		want         Link
	}{
		{"bridge", "", u8(unix.IFLA_BR_VLAN_FILTERING, 1), nil, Link{VLANFiltering: true}},
		{"veth", "bridge", nil, slices.Concat(u8(unix.IFLA_BRPORT_MODE, 1), u8(unix.IFLA_BRPORT_ISOLATED, 1)), Link{Hairpin: true, Isolated: true}},
		{"veth", "bridge", nil, u8(unix.IFLA_BRPORT_MODE, 1), Link{Hairpin: true}},
		{"veth", "bond", nil, u8(unix.IFLA_BRPORT_MODE, 1), Link{}},
		{"vxlan", "", u8(unix.IFLA_BR_VLAN_FILTERING, 1), nil, Link{}},
	} {
		b := slices.Concat(ifInfo(3, 0, 0), nl.Nest(unix.IFLA_LINKINFO,
			nl.Text(unix.IFLA_INFO_KIND, tt.kind), nl.Nest(unix.IFLA_INFO_DATA, tt.data),
			nl.Text(unix.IFLA_INFO_SLAVE_KIND, tt.master), nl.Nest(unix.IFLA_INFO_SLAVE_DATA, tt.port)))
		got, err := decodeLink(b)
		tt.want.Index, tt.want.Kind, tt.want.PeerNS = 3, tt.kind, got.PeerNS
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s on %s: got %+v, %v", tt.kind, tt.master, got, err)
		}
	}
}

// A port's VLANs are listed as they are set.
func TestDecodePortVLANs(t *testing.T) {
	for _, tt := range []struct {
		pvid  uint16
		trunk []uint16
		want  []uint16
	}{
		{100, nil, []uint16{100}},
		{1, []uint16{7, 9, 10, 11, 4094}, []uint16{1, 7, 9, 10, 11, 4094}},
	} {
		request := sent(func(c *Conn) { c.AddVLANs(Link{Index: 5}, tt.pvid, tt.trunk) })
		got, err := decodePortVLANs(unhex(t, request)[4:])
		if want := (PortVLANs{5, tt.pvid, tt.want}); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
	trunk := unhex(t, sent(func(c *Conn) { c.AddVLANs(Link{Index: 5}, 1, []uint16{2, 3}) }))[4:]
	native.PutUint16(trunk[24:], 0) // the flags of the first: no PVID
	got, err := decodePortVLANs(trunk)
	if want := (PortVLANs{5, 0, []uint16{1, 2, 3}}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}
