package rtnl

import (
	"net/netip"
	"slices"
	"testing"

	"flatnet/internal/nl"

	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nltest"
	"golang.org/x/sys/unix"
)

// lists is a kernel that lists objects of those bytes.
func lists(t *testing.T, objects ...string) *Conn {
	t.Helper()
	return New(nl.New(nltest.Dial(func(reqs []netlink.Message) ([]netlink.Message, error) {
		h := netlink.Header{Flags: netlink.Multi, Sequence: reqs[0].Header.Sequence, PID: nltest.PID}
		var msgs []netlink.Message
		for _, o := range objects {
			h.Type = 20 // any that is not NLMSG_*
			msgs = append(msgs, netlink.Message{Header: h, Data: unhex(t, o)})
		}
		h.Type = netlink.Done
		return append(msgs, netlink.Message{Header: h, Data: make([]byte, 4)}), nil
	})))
}

// What can't be read hides nothing else from a list: objects of other families,
// kinds and types, and broken ones.
func TestListsGoOnAfterWhatTheyCannotRead(t *testing.T) {
	if native.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the bytes were written for a little-endian machine")
	}
	addrs, err := lists(t,
		"2d00800001000000 0500020008000000",  // AF_MCTP
		"2300800001000000 0500020008000000",  // AF_PHONET
		"0218",                               // broken
		"0218000003000000 06000800ffff0000",  // IFA_FLAGS of two bytes
		"0218000003000000 08000200 0a570101", // 10.87.1.1/24
		"0a40000004000000 14000100fd87000000000000"+
			"0000000000000001 0c00ff00aabbccddeeff0011", // fd87::1/64, with an attribute to come
	).Addresses(0)
	want := []Addr{{Index: 3, Prefix: netip.MustParsePrefix("10.87.1.1/24")}, {Index: 4, Prefix: netip.MustParsePrefix("fd87::1/64")}}
	if err != nil || !slices.Equal(addrs, want) {
		t.Errorf("addresses %+v, %v", addrs, err)
	}

	routes, err := lists(t,
		"1c140000fe03000100000000 0800010000010100",                  // AF_MPLS
		"02210000fe03000100000000 080001000a570102",                  // longer than an address
		"02180000fe0300ff00000000 080001000a570200",                  // of a type to come
		"02180000fe03000600000000 080001000a570300",                  // blackhole
		"02180000fe03000100000000 080001000a570400 08001e0001000000", // RTA_NH_ID
		"02180000fe03000100000000 080001000a570500 0600150009000000 08001680"+ // RTA_ENCAP_TYPE, RTA_ENCAP
			"04000100 0800040005000000",
		"02180000fe03000100000000 080001000a570600 0a001200 0a00fd870000 0000", // RTA_VIA
	).Routes(unix.AF_UNSPEC, 0)
	var got []string
	for _, r := range routes {
		got = append(got, r.Dst.String())
	}
	if want := []string{"10.87.4.0/24", "10.87.5.0/24", "10.87.6.0/24"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("routes %v, %v", got, err)
	}

	links, err := lists(t,
		"0000",
		"00000000020000000000000000000000 06000400dc050000",                                   // IFLA_MTU of two bytes
		"0000ffff030000000000000000000000 08000300786f7200 10001200 0c0001006e6577206b696e64", // of a kind to come
	).Links()
	if err != nil || len(links) != 1 || links[0].Name != "xor" || links[0].Kind != "new kind" {
		t.Errorf("links %+v, %v", links, err)
	}
}
