package rtnl

import (
	"reflect"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Attributes of a bridge's own data and of a port's are told apart by the kinds
// that come before them.
func TestDecodeLinkInfo(t *testing.T) {
	flags := func(types ...uint16) func(*netlink.AttributeEncoder) error {
		return func(ae *netlink.AttributeEncoder) error {
			for _, typ := range types {
				ae.Uint8(typ, 1)
			}
			return nil
		}
	}
	for _, tt := range []struct {
		kind, master string
		data, port   func(*netlink.AttributeEncoder) error
		want         Link
	}{
		{"bridge", "", flags(brVLANFiltering), nil, Link{VLANFiltering: true}},
		{"veth", "bridge", nil, flags(unix.IFLA_BRPORT_MODE, unix.IFLA_BRPORT_ISOLATED), Link{Hairpin: true, Isolated: true}},
		{"veth", "bridge", nil, flags(unix.IFLA_BRPORT_MODE), Link{Hairpin: true}},
		{"veth", "bond", nil, flags(unix.IFLA_BRPORT_MODE), Link{}},
		{"vxlan", "", flags(brVLANFiltering), nil, Link{}},
	} {
		b, err := encode(ifInfo(3, 0, 0), func(ae *netlink.AttributeEncoder) {
			ae.Nested(unix.IFLA_LINKINFO, func(info *netlink.AttributeEncoder) error {
				info.String(unix.IFLA_INFO_KIND, tt.kind)
				if tt.data != nil {
					info.Nested(unix.IFLA_INFO_DATA, tt.data)
				}
				if tt.master != "" {
					info.String(unix.IFLA_INFO_SLAVE_KIND, tt.master)
					info.Nested(unix.IFLA_INFO_SLAVE_DATA, tt.port)
				}
				return nil
			})
		})
		if err != nil {
			t.Fatal(err)
		}
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
		{0, []uint16{2, 3}, []uint16{2, 3}},
	} {
		b, err := encodeVLANs(5, tt.pvid, tt.trunk)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodePortVLANs(b)
		if want := (portVLANs{5, PortVLANs{tt.pvid, tt.want}}); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
	b, err := encodePort(5, func(spec *netlink.AttributeEncoder) { vlan(spec, 0, 0xffff) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodePortVLANs(b); err == nil {
		t.Error("VLAN 65535 is taken")
	}
}
