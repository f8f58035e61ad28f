package rtnl

import "testing"

// The bytes are recorded as those of the golden table are.
func TestEncodeVLANGolden(t *testing.T) {
	if native.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the bytes were recorded on a little-endian machine")
	}
	for _, g := range []struct {
		command string
		want    string
		encode  func() ([]byte, error)
	}{
		{
			"ip link set br0 type bridge vlan_filtering 1",
			"00000000020000000000000000000000 1c001280 0a000100627269646765 0000 0c000280 0500070001 000000",
			func() ([]byte, error) { return encodeVLANFiltering(2) },
		},
		{
			"bridge vlan add dev p0 vid 100 pvid untagged",
			"07000000040000000000000000000000 0c001a00 0800020006006400",
			func() ([]byte, error) { return encodeVLANs(4, 100, nil) },
		},
		{
			"bridge vlan add dev p0 vid 200",
			"07000000040000000000000000000000 0c001a00 080002000000c800",
			func() ([]byte, error) { return encodeVLANs(4, 0, []uint16{200}) },
		},
		{
			"bridge vlan add dev p0 vid 300-310",
			"07000000040000000000000000000000 14001a00 0800020008002c01 0800020010003601",
			func() ([]byte, error) {
				return encodeVLANs(4, 0, []uint16{300, 301, 302, 303, 304, 305, 306, 307, 308, 309, 310})
			},
		},
		{
			"all three of the above in one message, as the kernel takes it but bridge never sends it",
			"07000000040000000000000000000000 24001a00 0800020006006400 080002000000c800 0800020008002c01 0800020010002d01",
			func() ([]byte, error) { return encodeVLANs(4, 100, []uint16{200, 300, 301}) },
		},
		{
			"bridge vlan del dev p0 vid 1-4094",
			"07000000040000000000000000000000 14001a00 0800020008000100 080002001000fe0f",
			func() ([]byte, error) { return encodeClearVLANs(4) },
		},
	} {
		t.Run(g.command, func(t *testing.T) {
			got, err := g.encode()
			if err != nil {
				t.Fatal(err)
			}
			if want := unhex(t, g.want); string(got) != string(want) {
				t.Errorf("got\n%x\nwant\n%x", got, want)
			}
		})
	}
}
