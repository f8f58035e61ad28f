package foreign

import (
	"bytes"
	"encoding/binary"
	"slices"

	"flatnet/bridge/model"
	"flatnet/internal/nft"
	"flatnet/internal/nl"

	"golang.org/x/sys/unix"
)

// A fate is what becomes of a packet in a chain.
type fate int

const (
	undecided fate = iota // it depends on what is not known of the packet, or of the rules
	passed                // it reaches the end, or returns
	accepted
	dropped
)

// A packet is the first one of a connection, with what is known of its headers: a container of
// the network sends it to the outside by TCP or UDP.
type packet struct {
	subnet   model.Subnet
	protocol byte
	in, out  string // interfaces; empty: not known
}

// Bounds of what is read of others' rules for one packet.
const (
	maxDepth = 16 // NFT_JUMP_STACK_SIZE of the kernel
	maxSteps = 4096
	maxSubs  = 64 // chains that are jumped to
)

// A judge follows a packet through a chain and those that it jumps to. It drops a packet only
// by rules whose conditions are all known to match, and that no rule comes before which may
// accept it.
type judge struct {
	packet
	rules func(chain string) ([]nft.Rule, error) // of the chain's table
	subs  map[string][]nft.Rule
	steps int
}

// walk follows the rules of a chain.
func (j *judge) walk(rules []nft.Rule, depth int) fate {
	for _, r := range rules {
		if j.steps++; j.steps > maxSteps {
			return undecided
		}
		matches, known, end := j.match(r)
		if known && !matches || end == nil {
			continue
		}
		became := j.judge(*end, depth)
		switch {
		case known && became != passed:
			return became
		case known && (end.code == unix.NFT_RETURN || end.code == unix.NFT_GOTO):
			return passed
		case known || became == dropped: // or it goes on
		case became != passed || end.code != unix.NFT_JUMP:
			return undecided
		}
	}
	return passed
}

// An end is what a rule does with a packet that matches.
type end struct {
	code  int32
	chain string
}

// unclear is an end that is none of the known verdicts.
const unclear = 1 << 16

// judge returns what becomes of a packet that a rule with this end matches.
func (j *judge) judge(e end, depth int) fate {
	switch e.code {
	case int32(nft.Drop):
		return dropped
	case int32(nft.Accept):
		return accepted
	case unix.NFT_RETURN:
		return passed
	case unix.NFT_JUMP, unix.NFT_GOTO:
		rules, seen := j.subs[e.chain]
		if !seen {
			var err error
			if len(j.subs) < maxSubs {
				rules, err = j.rules(e.chain)
			}
			if err != nil || len(j.subs) >= maxSubs {
				return undecided
			}
			j.subs[e.chain] = rules
		}
		if depth < maxDepth {
			return j.walk(rules, depth+1)
		}
	}
	return undecided
}

// A datum is what a register has: bits that are known, and their values.
type datum struct{ value, known []byte }

func certain(value []byte) datum { return datum{value, bytes.Repeat([]byte{0xff}, len(value))} }

// match reports whether a rule's conditions are met, and whether that is known; and its end,
// which is nil for a rule that only counts or logs.
func (j *judge) match(r nft.Rule) (matches, known bool, e *end) {
	regs := map[uint32]datum{}
	matches, known = true, true
	for _, x := range r.Exprs {
		_, a := nl.Read(x.Data, 0)
		switch x.Name {
		case "counter", "log", "comment":
		case "meta":
			regs[number(a, unix.NFTA_META_DREG)] = j.meta(number(a, unix.NFTA_META_KEY))
		case "ct":
			regs[number(a, unix.NFTA_CT_DREG)] = tracked(number(a, unix.NFTA_CT_KEY))
		case "payload":
			regs[number(a, unix.NFTA_PAYLOAD_DREG)] = j.payload(a)
		case "bitwise":
			regs[number(a, unix.NFTA_BITWISE_DREG)] = masked(regs[number(a, unix.NFTA_BITWISE_SREG)], a)
		case "cmp":
			equal, sure := compare(regs[number(a, unix.NFTA_CMP_SREG)], x.Compared())
			op := number(a, unix.NFTA_CMP_OP)
			sure = sure && op <= unix.NFT_CMP_NEQ
			if sure && equal != (op == unix.NFT_CMP_EQ) {
				return false, true, nil
			}
			known = known && sure
		case "immediate":
			if v := verdict(a); v != nil {
				e = v
			}
		case "reject":
			e = &end{code: int32(nft.Drop)}
		case "target":
			if e = target(a); e == nil {
				continue
			}
		default: // sets, extensions of iptables, limits, and what is not known
			known = false
			if !slices.Contains([]string{"match", "limit", "fib", "socket", "rt", "exthdr", "range", "quota", "connlimit"}, x.Name) {
				e = &end{code: unclear}
			}
		}
	}
	return matches, known, e
}

// number returns an attribute of 4 bytes, or one that none has.
func number(a nl.Reader, typ uint16) uint32 {
	if v := a.Octets(typ); len(v) == 4 {
		return binary.BigEndian.Uint32(v)
	}
	return 1<<32 - 1
}

// verdict returns the end that an immediate has; nil if it is the continuation.
func verdict(a nl.Reader) *end {
	v := a.Nest(unix.NFTA_IMMEDIATE_DATA).Nest(unix.NFTA_DATA_VERDICT)
	code := int32(number(v, unix.NFTA_VERDICT_CODE))
	if number(a, unix.NFTA_IMMEDIATE_DREG) != unix.NFT_REG_VERDICT || code == unix.NFT_CONTINUE && len(v.Octets(unix.NFTA_VERDICT_CODE)) == 4 {
		return nil
	}
	return &end{code, v.Text(unix.NFTA_VERDICT_CHAIN)}
}

// target returns the end that a target of xtables is.
func target(a nl.Reader) *end {
	switch string(bytes.TrimRight(a.Octets(unix.NFTA_TARGET_NAME), "\x00")) {
	case "REJECT":
		return &end{code: int32(nft.Drop)}
	case "LOG", "NFLOG":
		return nil
	}
	return &end{code: unclear}
}

func (j *judge) meta(key uint32) datum {
	family, ether := byte(unix.NFPROTO_IPV4), uint16(unix.ETH_P_IP)
	if j.subnet.Addr().Is6() {
		family, ether = unix.NFPROTO_IPV6, unix.ETH_P_IPV6
	}
	switch {
	case key == unix.NFT_META_IIFNAME && j.in != "":
		return certain(nft.Name(j.in))
	case key == unix.NFT_META_OIFNAME && j.out != "":
		return certain(nft.Name(j.out))
	case key == unix.NFT_META_L4PROTO:
		return certain([]byte{j.protocol})
	case key == unix.NFT_META_NFPROTO:
		return certain([]byte{family})
	case key == unix.NFT_META_PROTOCOL:
		return certain(nft.BigEndian(ether))
	}
	return datum{}
}

// tracked returns what connection tracking has of the packet: its connection is new
// (NF_CT_STATE_BIT of IP_CT_NEW).
func tracked(key uint32) datum {
	if key == unix.NFT_CT_STATE {
		return certain(nft.HostOrder(1 << 3))
	}
	return datum{}
}

// payload returns what is loaded of a header: of the source address, the part that all of the
// subnet have, and IPv4's protocol.
func (j *judge) payload(a nl.Reader) datum {
	addr := j.subnet.Masked().Addr().AsSlice()
	header := datum{make([]byte, 20), make([]byte, 20)}
	first := 12
	if len(addr) == 16 {
		header, first = datum{make([]byte, 40), make([]byte, 40)}, 8
		header.value[6], header.known[6] = j.protocol, 0xff
	} else {
		header.value[9], header.known[9] = j.protocol, 0xff
	}
	copy(header.value[first:], addr)
	for i := range j.subnet.Bits() {
		header.known[first+i/8] |= 0x80 >> (i % 8)
	}
	from, n := number(a, unix.NFTA_PAYLOAD_OFFSET), number(a, unix.NFTA_PAYLOAD_LEN)
	size := uint32(len(header.value))
	if number(a, unix.NFTA_PAYLOAD_BASE) != unix.NFT_PAYLOAD_NETWORK_HEADER || from > size || n > size-from {
		return datum{}
	}
	return datum{header.value[from : from+n], header.known[from : from+n]}
}

// masked applies a bitwise expression.
func masked(d datum, a nl.Reader) datum {
	mask := a.Nest(unix.NFTA_BITWISE_MASK).Octets(unix.NFTA_DATA_VALUE)
	xor := a.Nest(unix.NFTA_BITWISE_XOR).Octets(unix.NFTA_DATA_VALUE)
	if len(d.value) == 0 || len(mask) != len(d.value) || len(xor) != len(d.value) {
		return datum{}
	}
	out := datum{make([]byte, len(mask)), make([]byte, len(mask))}
	for i := range mask {
		out.value[i] = d.value[i]&mask[i] ^ xor[i]
		out.known[i] = d.known[i] | ^mask[i]
	}
	return out
}

// compare reports whether a register begins with some bytes, and whether that is known.
func compare(d datum, data []byte) (equal, known bool) {
	if len(data) == 0 || len(data) > len(d.value) {
		return false, false
	}
	known = true
	for i, b := range data {
		if (d.value[i]^b)&d.known[i] != 0 {
			return false, true
		}
		known = known && d.known[i] == 0xff
	}
	return known, known
}
