// Package iprule reads the host's routing rules (ip-rule(8)).
package iprule

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"flatnet/internal/nl"

	"golang.org/x/sys/unix"
)

// A Rule says which packets are routed by which table (linux/fib_rules.h).
type Rule struct {
	Src, Dst   netip.Prefix // the zero Prefix: any
	Family     uint8        // AF_INET, AF_INET6 or that of a multicast table
	Action     uint8        // FR_ACT_*
	Protocol   uint8        // who added it: RTPROT_*
	Priority   uint32
	Table      uint32 // of FR_ACT_TO_TBL
	Mark, Mask uint32 // of the packets; 0: any
	Invert     bool   // FIB_RULE_INVERT: it is for the packets that do not match
	Suppress   int    // FRA_SUPPRESS_PREFIXLEN: routes that are not narrower don't count; -1: all do
	In, Out    string // interfaces; empty: any
	Partly     bool   // it has selectors that are not listed here
}

// List lists the rules of a family, or with AF_UNSPEC of all, in the order in which the kernel
// goes through them. Those that can't be decoded are skipped.
func List(family uint8) (all []Rule, err error) {
	c, err := nl.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("rt%w", err)
	}
	defer c.Close()
	msgs, err := c.Do(unix.RTM_GETRULE, unix.NLM_F_DUMP, append([]byte{family}, make([]byte, unix.SizeofRtMsg-1)...))
	if err != nil {
		return nil, fmt.Errorf("list routing rules: %w", err)
	}
	for _, m := range msgs {
		if r, err := Decode(m.Data); err == nil {
			all = append(all, r)
		}
	}
	return all, nil
}

// Decode reads struct fib_rule_hdr, which is as long as struct rtmsg, and its attributes.
func Decode(b []byte) (Rule, error) {
	h, r := nl.Read(b, unix.SizeofRtMsg)
	u32 := func(typ uint16) uint32 { return binary.NativeEndian.Uint32(r.Fixed(typ, 4)) }
	prefix := func(typ uint16, bits byte) netip.Prefix {
		a, _ := netip.AddrFromSlice(r.Octets(typ))
		return netip.PrefixFrom(a, int(bits))
	}
	rule := Rule{Family: h[0], Dst: prefix(unix.FRA_DST, h[1]), Src: prefix(unix.FRA_SRC, h[2]), Table: uint32(h[4]), Action: h[7],
		Priority: u32(unix.FRA_PRIORITY), Mark: u32(unix.FRA_FWMARK), Mask: u32(unix.FRA_FWMASK), Protocol: r.Fixed(unix.FRA_PROTOCOL, 1)[0],
		Invert: binary.NativeEndian.Uint32(h[8:])&unix.FIB_RULE_INVERT != 0, Suppress: -1,
		In: r.Text(unix.FRA_IIFNAME), Out: r.Text(unix.FRA_OIFNAME), Partly: h[3] != 0} // TOS
	r.Each(func(typ uint16, _ []byte) {
		switch typ {
		case unix.FRA_TABLE: // also of numbers that the header has no room for
			rule.Table = u32(typ)
		case unix.FRA_SUPPRESS_PREFIXLEN:
			rule.Suppress = int(int32(u32(typ)))
		case unix.FRA_DST, unix.FRA_SRC, unix.FRA_IIFNAME, unix.FRA_OIFNAME, unix.FRA_PRIORITY, unix.FRA_FWMARK, unix.FRA_FWMASK,
			unix.FRA_PROTOCOL, unix.FRA_FLOW:
		default:
			rule.Partly = true
		}
	})
	return rule, r.Err()
}
