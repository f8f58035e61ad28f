package iprule

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"flatnet/internal/nl"

	"golang.org/x/sys/unix"
)

// header is struct fib_rule_hdr.
func header(family, dst, src, tos, table, action byte, flags uint32) []byte {
	return binary.NativeEndian.AppendUint32([]byte{family, dst, src, tos, table, 0, 0, action}, flags)
}

func u32(typ uint16, v uint32) []byte { return nl.Attr(typ, binary.NativeEndian.AppendUint32(nil, v)) }

func TestDecode(t *testing.T) {
	join := func(parts ...[]byte) (all []byte) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	all := u32(unix.FRA_SUPPRESS_PREFIXLEN, 0xffffffff)
	for _, tt := range []struct {
		name string // as ip rule has it
		data []byte
		want Rule
	}{
		{"from all lookup main", join(header(unix.AF_INET, 0, 0, 0, 254, 1, 0), u32(unix.FRA_TABLE, 254), all, u32(unix.FRA_PRIORITY, 32766), nl.Attr(unix.FRA_PROTOCOL, []byte{2})),
			Rule{Family: unix.AF_INET, Table: 254, Action: unix.FR_ACT_TO_TBL, Suppress: -1, Priority: 32766, Protocol: unix.RTPROT_KERNEL}},
		{"not from all fwmark 0xca6c lookup 51820", join(header(unix.AF_INET, 0, 0, 0, 0, 1, unix.FIB_RULE_INVERT), u32(unix.FRA_TABLE, 51820), all,
			u32(unix.FRA_FWMARK, 0xca6c), u32(unix.FRA_FWMASK, 0xffffffff)), Rule{Family: unix.AF_INET, Table: 51820, Action: unix.FR_ACT_TO_TBL, Suppress: -1, Invert: true, Mark: 0xca6c, Mask: 0xffffffff}},
		{"from all lookup main suppress_prefixlength 0", join(header(unix.AF_INET6, 0, 0, 0, 254, 1, 0), u32(unix.FRA_SUPPRESS_PREFIXLEN, 0)),
			Rule{Family: unix.AF_INET6, Table: 254, Action: unix.FR_ACT_TO_TBL}},
		{"from fd10:3::/64 to 10.1.0.0/16 iif br0 oif eth0 prohibit", join(header(unix.AF_INET, 16, 64, 0, 0, 8, 0), all, nl.Attr(unix.FRA_DST, []byte{10, 1, 0, 0}),
			nl.Attr(unix.FRA_SRC, netip.MustParseAddr("fd10:3::").AsSlice()), nl.Text(unix.FRA_IIFNAME, "br0"), nl.Text(unix.FRA_OIFNAME, "eth0")),
			Rule{Family: unix.AF_INET, Action: unix.FR_ACT_PROHIBIT, Suppress: -1, In: "br0", Out: "eth0",
				Dst: netip.MustParsePrefix("10.1.0.0/16"), Src: netip.MustParsePrefix("fd10:3::/64")}},
		{"tos 0x10", join(header(unix.AF_INET, 0, 0, 0x10, 254, 1, 0), all), Rule{Family: unix.AF_INET, Table: 254, Action: unix.FR_ACT_TO_TBL, Suppress: -1, Partly: true}},
		{"ipproto tcp", join(header(unix.AF_INET, 0, 0, 0, 254, 1, 0), all, nl.Attr(unix.FRA_IP_PROTO, []byte{6})),
			Rule{Family: unix.AF_INET, Table: 254, Action: unix.FR_ACT_TO_TBL, Suppress: -1, Partly: true}},
	} {
		if got, err := Decode(tt.data); err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v", tt.name, got, err)
		}
	}
	for name, data := range map[string][]byte{
		"short": {2}, "a table of 2 bytes": join(header(2, 0, 0, 0, 0, 1, 0), nl.Attr(unix.FRA_TABLE, []byte{1, 2})),
	} {
		if r, err := Decode(data); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(header(unix.AF_INET, 0, 0, 0, 254, 1, 0))
	f.Fuzz(func(t *testing.T, b []byte) { Decode(b) })
}

// The kernel has the rules of each network namespace.
func TestList(t *testing.T) {
	all, err := List(unix.AF_UNSPEC)
	if err != nil {
		t.Fatal(err)
	}
	main := Rule{Family: unix.AF_INET, Table: unix.RT_TABLE_MAIN, Action: unix.FR_ACT_TO_TBL, Suppress: -1, Priority: 32766, Protocol: unix.RTPROT_KERNEL}
	for _, r := range all {
		if r == main {
			return
		}
	}
	t.Errorf("no rule for the main table among %+v", all)
}
