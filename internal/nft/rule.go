package nft

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"flatnet/internal/nl"

	"golang.org/x/sys/unix"
)

// A Rule is a series of expressions in a chain: each passes the packet on to
// the next, or ends the rule.
type Rule struct {
	Table   Table
	Chain   string
	Exprs   []Expr
	Comment string // up to 253 bytes, as nft shows it
	Handle  uint64 // given by the kernel; Delete goes by it
}

func (r Rule) String() string {
	s := "rule " + r.Table.name() + " " + r.Chain
	if r.Comment != "" {
		s += ` "` + r.Comment + `"`
	}
	return s
}

func (r Rule) kind() (uint16, Family) { return unix.NFT_MSG_NEWRULE, r.Table.Family }

// identify always includes the handle: without, the kernel would take all rules of the chain.
func (r Rule) identify() []byte {
	handle := binary.BigEndian.AppendUint64(nil, r.Handle)
	return append(r.place().identify(), nl.Attr(unix.NFTA_RULE_HANDLE, handle)...)
}

func (r Rule) define() []byte {
	var exprs []byte
	for _, e := range r.Exprs {
		exprs = append(exprs, e.encode()...)
	}
	return slices.Concat(r.place().identify(), nl.Nest(unix.NFTA_RULE_EXPRESSIONS, exprs),
		comment(unix.NFTA_RULE_USERDATA, r.Comment))
}

func (r Rule) place() allRules { return allRules{Chain{Table: r.Table, Name: r.Chain}} }

func readRule(family Family, r nl.Reader) Rule {
	rule := Rule{
		Table:   Table{family, r.Text(unix.NFTA_RULE_TABLE)},
		Chain:   r.Text(unix.NFTA_RULE_CHAIN),
		Comment: commentIn(r.Octets(unix.NFTA_RULE_USERDATA)),
		Handle:  binary.BigEndian.Uint64(r.Fixed(unix.NFTA_RULE_HANDLE, 8)),
	}
	for _, e := range r.List(unix.NFTA_RULE_EXPRESSIONS, unix.NFTA_LIST_ELEM) {
		rule.Exprs = append(rule.Exprs, readExpr(e))
	}
	return rule
}

// Equal reports whether two rules do the same and have the same comment. Handles
// don't count.
func (r Rule) Equal(o Rule) bool {
	same := r.Table == o.Table && r.Chain == o.Chain && r.Comment == o.Comment
	return same && slices.EqualFunc(r.Exprs, o.Exprs, Expr.Equal)
}

// allRules are the rules of a chain, or without its name of a table.
type allRules struct{ Chain }

func (r allRules) kind() (uint16, Family) { return unix.NFT_MSG_NEWRULE, r.Table.Family }

func (r allRules) identify() []byte { return r.Table.with(unix.NFTA_RULE_CHAIN, r.Name) }

// commentTag is the type of a comment in nft's own user data, which is a series of
// {type, length, value}: NFTNL_UDATA_RULE_COMMENT and NFTNL_UDATA_SET_ELEM_COMMENT of
// libnftnl's udata.h.
const commentTag = 0

// comment encodes user data that contains a comment as nft writes and shows it. An empty
// one is left out. The kernel refuses more than NFT_USERDATA_MAXLEN.
func comment(typ uint16, s string) []byte {
	if s == "" {
		return nil
	}
	return nl.Attr(typ, append(append([]byte{commentTag, byte(len(s) + 1)}, s...), 0))
}

// commentIn returns the comment in user data. Other programs keep what they like there:
// user data of another form has no comment.
func commentIn(userData []byte) string {
	for b := userData; len(b) >= 2; b = b[2+int(b[1]):] {
		end := 2 + int(b[1])
		if end > len(b) {
			break
		}
		if b[0] == commentTag && end > 2 {
			return string(b[2 : end-1])
		}
	}
	return ""
}

// A Ruleset is a chain with all of its rules.
type Ruleset struct {
	Chain
	Rules []Rule
}

// Append appends rules of the chain with a comment.
func (r *Ruleset) Append(comment string, rules ...[]Expr) {
	for _, exprs := range rules {
		r.Rules = append(r.Rules, Rule{Table: r.Table, Chain: r.Name, Exprs: exprs, Comment: comment})
	}
}

// Put adds the chain with its rules to a batch, in place of the rules that are there.
// A chain that is to have none is deleted.
func (b *Batch) Put(r Ruleset) {
	if len(r.Rules) == 0 {
		b.Flush(r.Chain)
		b.Delete(r.Chain)
		return
	}
	b.Add(r.Table, r.Chain)
	b.Flush(r.Chain)
	for _, rule := range r.Rules {
		b.Add(rule)
	}
}

// Missing returns the chains that are not among rules as they should be.
func Missing(chains []Ruleset, rules []Rule) []Ruleset {
	return slices.DeleteFunc(chains, func(r Ruleset) bool {
		have := slices.DeleteFunc(slices.Clone(rules), func(o Rule) bool { return o.Table != r.Table || o.Chain != r.Name })
		return slices.EqualFunc(have, r.Rules, Rule.Equal)
	})
}

// PutMissing adds a table with sets and its missing chains to a batch. If no chain is
// missing, all is there, for rules refer to each of the sets.
func (b *Batch) PutMissing(t Table, sets []Set, chains []Ruleset) {
	if len(chains) > 0 {
		b.Add(t)
		for _, s := range sets {
			b.Add(s)
		}
	}
	for _, r := range chains {
		b.Put(r)
	}
}

// Expressions that rules are put together of. Every kernel with nf_tables has
// them built in, but for masquerade and ct.

// FamilyOf returns the family of an address.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// MasqueradeIf, DropIf and AcceptIf return a rule's expressions: the conditions, and
// then what is done.
func MasqueradeIf(conditions ...[]Expr) []Expr { return If(Masquerade(), conditions...) }
func DropIf(conditions ...[]Expr) []Expr       { return If(Verdict(Drop, ""), conditions...) }
func AcceptIf(conditions ...[]Expr) []Expr     { return If(Verdict(Accept, ""), conditions...) }

// If returns the conditions' expressions followed by end.
func If(end Expr, conditions ...[]Expr) (exprs []Expr) {
	for _, c := range conditions {
		exprs = append(exprs, c...)
	}
	return append(exprs, end)
}

// Compare compares what an expression loads into Reg1 with data.
func Compare(load Expr, op CmpOp, data []byte) []Expr {
	return []Expr{load, Cmp(Reg1, op, data)}
}

// CompareBits is Compare under a mask.
func CompareBits(load Expr, mask []byte, op CmpOp, data []byte) []Expr {
	return []Expr{load, Bitwise(Reg1, mask), Cmp(Reg1, op, data)}
}

// CompareName compares the name of an interface.
func CompareName(key MetaKey, op CmpOp, name string) []Expr {
	return Compare(Meta(key, Reg1), op, Name(name))
}

// Protocol matches packets of an IPPROTO_*.
func Protocol(protocol byte) []Expr {
	return Compare(Meta(MetaL4Proto, Reg1), Equal, []byte{protocol})
}

// Bits of a packet's connection: NF_CT_STATE_BIT of net/netfilter/nf_conntrack.h
// and IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h.
const (
	CtEstablished = 1 << 1
	CtRelated     = 1 << 2
	CtDNAT        = 1 << 5
)

// CtBits matches packets of connections that have any of the bits.
func CtBits(key CtKey, bits uint32) []Expr {
	return CompareBits(Ct(key, Reg1), HostOrder(bits), NotEqual, HostOrder(0))
}

// HostOrder and BigEndian encode numbers as the kernel compares them.
func HostOrder(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
func BigEndian(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

// A Side chooses an address of a packet.
type Side int

const (
	Source Side = iota
	Destination
)

// Of returns where a packet of a family has the address: in struct iphdr or struct ipv6hdr.
func (s Side) Of(family Family) Payload {
	size, first := uint32(4), uint32(12)
	if family == IPv6 {
		size, first = 16, 8
	}
	return Payload{Base: NetworkHeader, Offset: first + uint32(s)*size, Len: size}
}

// In compares an address of the packet with a prefix. Whole bytes of it are compared
// without a mask, as nft does, so that rules which nft has saved and loaded are the
// same.
func (s Side) In(p netip.Prefix, op CmpOp) []Expr {
	addr := p.Masked().Addr().AsSlice()
	field := s.Of(FamilyOf(p.Addr()))
	if n := p.Bits() / 8; n > 0 && p.Bits()%8 == 0 {
		field.Len = uint32(n)
		return Compare(field.Load(Reg1), op, addr[:n])
	}
	mask := make([]byte, len(addr))
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return CompareBits(field.Load(Reg1), mask, op, addr)
}

// Is compares an address of the packet with one.
func (s Side) Is(a netip.Addr, op CmpOp) []Expr {
	return s.In(netip.PrefixFrom(a, a.BitLen()), op)
}

// DstPort loads the destination port of struct tcphdr, udphdr or sctphdr.
func DstPort(into Reg) Expr {
	return Payload{Base: TransportHeader, Offset: 2, Len: 2}.Load(into)
}

// ToPort matches packets to a port of a protocol.
func ToPort(protocol byte, port uint16) []Expr {
	return append(Protocol(protocol), Compare(DstPort(Reg1), Equal, BigEndian(port))...)
}

// DNS is the port of DNS (RFC 1035, section 4.2).
const DNS = 53

// DNSProtocols are those that DNS is served by.
func DNSProtocols() []byte { return []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} }
