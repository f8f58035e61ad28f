package rtnl

import "testing"

// The bytes are recorded as those of the golden table are.
func TestEncodeVLANGolden(t *testing.T) {
	testSent(t, []row{
		{
			"ip link set br0 type bridge vlan_filtering 1",
			"10000500 00000000020000000000000000000000 1c001280 0a000100627269646765 0000 0c000280 0500070001 000000",
			func(c *Conn) { c.SetVLANFiltering(Link{Index: 2}) },
		},
		{
			"bridge vlan add dev p0 vid 100 pvid untagged",
			"13000500 07000000040000000000000000000000 0c001a00 0800020006006400",
			func(c *Conn) { c.AddVLANs(Link{Index: 4}, 100, nil) },
		},
		{
			"that, vid 200 and vid 300 in one message, as the kernel takes it but bridge never sends it",
			"13000500 07000000040000000000000000000000 1c001a00 0800020006006400 080002000000c800 0800020000002c01",
			func(c *Conn) { c.AddVLANs(Link{Index: 4}, 100, []uint16{200, 300}) },
		},
		{
			"bridge vlan del dev p0 vid 1-4094",
			"11000500 07000000040000000000000000000000 14001a00 0800020008000100 080002001000fe0f",
			func(c *Conn) { c.ClearVLANs(Link{Index: 4}) },
		},
	})
}
