package conntrack

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"flatnet/internal/nl"

	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nltest"
	"golang.org/x/sys/unix"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "\n", "", "\t", "").Replace(s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	// Of conntrack -D -p udp --orig-port-dst 8053, with
	//	src=192.0.2.1 dst=192.0.2.9 sport=40000 dport=8053 [UNREPLIED]
	//	src=192.0.2.8 dst=192.0.2.1 sport=53 dport=40000
	original = "34000180 14000180 08000100c0000201 08000200c0000209 1c000280 0500010011000000 060002009c400000 060003001f750000"
	reply    = "34000280 14000180 08000100c0000208 08000200c0000201 1c000280 0500010011000000 0600020000350000 060003009c400000"
	id       = "08000c00155a8668"
	// what the kernel answers
	listed = "02000000" + original + reply + "08000300000001a8 0800080000000000" + id + "08000b0000000001 080007000000001d"
)

func TestFlow(t *testing.T) {
	f, err := decode(unhex(t, listed))
	if err != nil {
		t.Fatal(err)
	}
	if f.Protocol != unix.IPPROTO_UDP || f.Src != netip.MustParseAddrPort("192.0.2.1:40000") ||
		f.Dst != netip.MustParseAddrPort("192.0.2.9:8053") || f.Server != netip.MustParseAddrPort("192.0.2.8:53") {
		t.Errorf("got %v, server %v", f, f.Server)
	}
	// The same names it for deletion; conntrack repeats more of it, and no ID.
	got := f.encode()
	if want := unhex(t, "02000000"+original+id); !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

// CTA_FILTER as ctnetlink_alloc_filter of nf_conntrack_netlink.c wants it.
func TestQuery(t *testing.T) {
	for want, q := range map[string]Query{
		"0a000000 18000180 14000280 0500010011000000 060003001f750000 14001980 0800010028000000 0800020000000000": {Protocol: unix.IPPROTO_UDP, IPv6: true, Port: 8053},
		"02000000 10000180 0c000280 0500010011000000 14001980 0800010008000000 0800020000000000":                  {Protocol: unix.IPPROTO_UDP},
		"02000000 10000180 0c000280 0500010011000000 10000280 0c000180 08000100c0000208 14001980 0800010008000000 0800020001000000": {
			Protocol: unix.IPPROTO_UDP, Server: netip.MustParseAddr("192.0.2.8")},
	} {
		if got := q.encode(); !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("%+v: got  %x\nwant %s", q, got, want)
		}
	}
}

func fake(answer nltest.Func) *nl.Conn { return nl.New(nltest.Dial(answer)) }

func TestKernelThatIgnoresTheFilter(t *testing.T) {
	other := strings.Replace(listed, "0500010011000000 060002009c400000", "0500010006000000 060002009c400000", 1) // TCP
	c := fake(nltest.CheckRequest([]netlink.HeaderType{msgGet}, []netlink.HeaderFlags{netlink.Request | netlink.Dump},
		func(reqs []netlink.Message) ([]netlink.Message, error) {
			h := netlink.Header{Sequence: reqs[0].Header.Sequence, PID: nltest.PID}
			return nltest.Multipart([]netlink.Message{{Header: h, Data: unhex(t, other)}, {Header: h, Data: unhex(t, listed)}, {Header: h}})
		}))
	flows, err := list(c, Query{Protocol: unix.IPPROTO_UDP, Port: 8053})
	if err != nil || len(flows) != 1 || flows[0].Dst.Port() != 8053 {
		t.Errorf("got %v, %v", flows, err)
	}
}

func TestKernelWithoutCtnetlink(t *testing.T) {
	c := fake(func(reqs []netlink.Message) ([]netlink.Message, error) { return nltest.Error(int(unix.EINVAL), reqs) })
	if _, err := list(c, Query{Protocol: unix.IPPROTO_UDP, Port: 53}); !errors.Is(err, errUnsupported) {
		t.Errorf("got %v", err)
	}
}

func TestDeleteOfAFlowThatIsGone(t *testing.T) {
	for errno, want := range map[unix.Errno]error{unix.ENOENT: nil, unix.EPERM: unix.EPERM} {
		c := fake(func(reqs []netlink.Message) ([]netlink.Message, error) { return nltest.Error(int(errno), reqs) })
		if err := remove(c, []Flow{{}}); !errors.Is(err, want) {
			t.Errorf("%v: got %v", errno, err)
		}
	}
}

func FuzzFlow(f *testing.F) {
	f.Add(unhex(f, listed))
	f.Add([]byte{2, 0, 0, 0, 8, 0, 1, 128, 4, 0, 1, 128})
	f.Fuzz(func(t *testing.T, b []byte) {
		flow, err := decode(b)
		if err != nil {
			return
		}
		if got, err := decode(flow.encode()); err != nil || got.Dst != flow.Dst && flow.original != nil || got.Protocol != flow.Protocol && flow.original != nil {
			t.Errorf("got %v, %v, want %v", got, err, flow)
		}
	})
}
