package mirrored

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"flatnet/internal/nl"

	"golang.org/x/sys/unix"
)

// Attributes and the action of linux/fib_rules.h.
const (
	fraPriority = 6  // FRA_PRIORITY
	fraMark     = 10 // FRA_FWMARK
	fraTable    = 15 // FRA_TABLE
	fraMask     = 16 // FRA_FWMASK
	fraProtocol = 21 // FRA_PROTOCOL
	toTable     = 1  // FR_ACT_TO_TBL
)

// A ruler reads and changes the host's rules of policy routing for IPv4 (ip-rule(8)).
type ruler struct{ *nl.Conn }

func dial() (ruler, error) {
	c, err := nl.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return ruler{}, fmt.Errorf("rt%w", err)
	}
	return ruler{c}, nil
}

// header is struct fib_rule_hdr: family, dst_len, src_len, tos, table, res1, res2, action
// and flags (4).
func header(table, action byte) []byte {
	return []byte{0: unix.AF_INET, 4: table, 7: action, 11: 0}
}

func u32(typ uint16, v uint32) []byte { return nl.Attr(typ, binary.NativeEndian.AppendUint32(nil, v)) }

// ours is the rule that package mirrored adds, as ip adds it with
//
//	ip rule add pref 0 fwmark 0x10000000/0x10000000 lookup local proto static
func ours() []byte {
	return slices.Concat(header(unix.RT_TABLE_LOCAL, toTable),
		u32(fraPriority, 0), u32(fraMark, mark), u32(fraMask, mark), nl.Attr(fraProtocol, []byte{unix.RTPROT_STATIC}))
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

// An entry is what is read of a rule.
type entry struct {
	priority, mark, mask, table uint32
	action, protocol            byte
}

// list lists the rules. One that can't be decoded is somebody else's.
func (r ruler) list() (all []entry, err error) {
	msgs, err := r.Do(unix.RTM_GETRULE, unix.NLM_F_DUMP, header(0, 0))
	if err != nil {
		return nil, fmt.Errorf("list ip rules: %w", err)
	}
	for _, m := range msgs {
		if e, err := decode(m.Data); err == nil {
			all = append(all, e)
		}
	}
	return all, nil
}

func decode(b []byte) (entry, error) {
	h, r := nl.Read(b, len(header(0, 0)))
	number := func(typ uint16) uint32 { return binary.NativeEndian.Uint32(r.Fixed(typ, 4)) }
	e := entry{number(fraPriority), number(fraMark), number(fraMask), number(fraTable), h[7], r.Fixed(fraProtocol, 1)[0]}
	if e.table == 0 {
		e.table = uint32(h[4])
	}
	return e, r.Err()
}

// added reports whether the rule is among all.
func added(all []entry) bool {
	return slices.Contains(all, entry{0, mark, mark, unix.RT_TABLE_LOCAL, toTable, unix.RTPROT_STATIC})
}

// mirroring reports whether one of the rules leads to the table of WSL2's mirrored mode.
func mirroring(all []entry) bool {
	return slices.ContainsFunc(all, func(e entry) bool { return e.table == windows && e.action == toTable })
}
