package mirrored

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"flatnet/internal/iprule"
	"flatnet/internal/nl"

	"golang.org/x/sys/unix"
)

// A ruler changes the host's rules of policy routing for IPv4 (ip-rule(8)).
type ruler struct{ *nl.Conn }

func dial() (ruler, error) {
	c, err := nl.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return ruler{}, fmt.Errorf("rt%w", err)
	}
	return ruler{c}, nil
}

func u32(typ uint16, v uint32) []byte { return nl.Attr(typ, binary.NativeEndian.AppendUint32(nil, v)) }

// ours is the rule that package mirrored adds, as ip adds it with
//
//	ip rule add pref 0 fwmark 0x10000000/0x10000000 lookup local proto static
func ours() []byte {
	return slices.Concat([]byte{0: unix.AF_INET, 4: unix.RT_TABLE_LOCAL, 7: unix.FR_ACT_TO_TBL, 11: 0}, // struct fib_rule_hdr
		u32(unix.FRA_PRIORITY, 0), u32(unix.FRA_FWMARK, mark), u32(unix.FRA_FWMASK, mark), nl.Attr(unix.FRA_PROTOCOL, []byte{unix.RTPROT_STATIC}))
}

// set adds or removes the rule. One that is there, or is not, is no error.
func (r ruler) set(there bool) error {
	if !there {
		_, err := r.Do(unix.RTM_DELRULE, unix.NLM_F_ACK, ours())
		if errors.Is(err, unix.ENOENT) {
			err = nil
		}
		return wrap("delete", err)
	}
	_, err := r.Do(unix.RTM_NEWRULE, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, ours())
	if errors.Is(err, unix.EEXIST) {
		err = nil
	}
	return wrap("add", err)
}

func wrap(verb string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s the %s: %w", verb, ruleText, err)
}

// added reports whether the rule is among all.
func added(all []iprule.Rule) bool {
	return slices.Contains(all, iprule.Rule{Family: unix.AF_INET, Mark: mark, Mask: mark, Table: unix.RT_TABLE_LOCAL, Action: unix.FR_ACT_TO_TBL,
		Protocol: unix.RTPROT_STATIC, Suppress: -1})
}

// mirroring reports whether one of the rules leads to the table of WSL2's mirrored mode.
func mirroring(all []iprule.Rule) bool {
	return slices.ContainsFunc(all, func(r iprule.Rule) bool { return r.Table == windows && r.Action == unix.FR_ACT_TO_TBL })
}
