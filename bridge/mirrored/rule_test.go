package mirrored

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"flatnet/bridge/model"
	"flatnet/internal/iprule"

	"golang.org/x/sys/unix"
)

// Each row is what iproute2 6.1 sent (strace -e write), or what the kernel's dump has of
// it: struct fib_rule_hdr and attributes.
func TestRuleMessages(t *testing.T) {
	ip := []string{ // ip rule add pref 0 fwmark 0x10000000/0x10000000 lookup local proto static
		"02000000 ff000001 00000000", "08000600 00000000", "08000a00 00000010", "08001000 00000010",
		"05001500 04 000000",
	}
	if got, want := hex.EncodeToString(ours()), strings.ReplaceAll(strings.Join(ip, ""), " ", ""); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, c := range []struct {
		rule, dumped     string
		mirroring, added bool
	}{
		{"0: from all fwmark 0x10000000/0x10000000 lookup local proto static",
			"02000000 ff000001 00000000 08000f00 ff000000 08000e00 ffffffff 08000a00 00000010 08001000 00000010 05001500 04 000000", false, true},
		{"0: from all fwmark 0x10000000/0x10000000 lookup local, by somebody else",
			"02000000 ff000001 00000000 08000f00 ff000000 08000e00 ffffffff 08000a00 00000010 08001000 00000010 05001500 03 000000", false, false},
		{"1: from all ipproto tcp lookup 127",
			"02000000 7f000001 00000000 08000f00 7f000000 08000e00 ffffffff 08000600 01000000 05001600 06 000000 05001500 03 000000", true, false},
		{"1: from all lookup 127, by an older kernel's header alone", "02000000 7f000001 00000000", true, false},
		{"1: from all blackhole", "02000000 7f000006 00000000 08000600 01000000", false, false},
		{"32766: from all lookup main", "02000000 fe000001 00000000 08000f00 fe000000 08000600 fe7f0000", false, false},
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(c.dumped, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		e, err := iprule.Decode(b)
		if all := []iprule.Rule{e}; err != nil || mirroring(all) != c.mirroring || added(all) != c.added {
			t.Errorf("%s: %+v, %v", c.rule, e, err)
		}
	}
	for _, b := range [][]byte{nil, {unix.AF_INET}, append(make([]byte, 12), 8, 0, unix.FRA_FWMARK, 0, 1), append(make([]byte, 12), 5, 0, unix.FRA_FWMARK, 0, 1, 0, 0, 0)} {
		if e, err := iprule.Decode(b); err == nil {
			t.Errorf("%x is read as %+v", b, e)
		}
	}
}

// Ports of IPv6 alone are not asked for: there, WSL has no such rules.
func TestConcerns(t *testing.T) {
	p4, p6 := port("0.0.0.0:80"), port("[::]:80")
	for _, c := range []struct {
		ports []model.Publication
		want  bool
	}{{nil, false}, {[]model.Publication{p6}, false}, {[]model.Publication{p6, p4}, true}} {
		if got := concerns([]*model.Attachment{{}, {Ports: c.ports}}); got != c.want {
			t.Errorf("%v: %v", c.ports, got)
		}
	}
}

func port(host string) model.Publication {
	return model.Publication{Protocol: model.TCP, Host: netip.MustParseAddrPort(host)}
}
