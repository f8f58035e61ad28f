package nft

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"flatnet/internal/nl"
)

// The messages about an object, counted from its NFT_MSG_NEW* (enum
// nf_tables_msg_types).
const (
	newMsg = iota
	getMsg
	delMsg
)

// An Object can be added and deleted: a [Table], [Chain], [Rule], [Set] or [Elements].
type Object interface {
	fmt.Stringer
	kind() (msg uint16, family Family) // NFT_MSG_NEW*
	identify(c *nl.Codec)              // appends the attributes that get and delete go by
	define(c *nl.Codec)                // appends all attributes
}

// A Batch is a transaction: the kernel does all of it, in order, or nothing.
// The zero value is an empty one.
type Batch struct {
	ops  []op
	base uint32 // NFTA_GEN_ID that the ruleset must still have; 0: any
	err  error
}

// An op is one message of a batch.
type op struct {
	verb   string
	object Object
	msg    netlink.Message
}

func (o op) String() string { return o.verb + " " + o.object.String() }

// Add adds objects, or leaves those that exist as they are (NLM_F_CREATE). A
// rule is always appended. An existing chain's policy is set. To add what exists
// costs time for nothing, see [Conn.Close].
func (b *Batch) Add(objects ...Object) {
	b.put("add", newMsg, netlink.Create, objects...)
}

// Create adds objects that must not exist: else Commit's error is EEXIST.
func (b *Batch) Create(objects ...Object) {
	b.put("create", newMsg, netlink.Create|netlink.Excl, objects...)
}

// Delete deletes objects that must exist: else Commit's error is ENOENT. It
// goes by names, keys and for a rule by its Handle. A table goes with all that
// it has, another object only if nothing refers to it (EBUSY).
func (b *Batch) Delete(objects ...Object) { b.put("delete", delMsg, 0, objects...) }

// Flush deletes the rules of a chain, which must exist.
func (b *Batch) Flush(ch Chain) { b.put("flush", delMsg, 0, allRules{ch}) }

// Insert adds rules at the beginning of their chains; the last one is first.
func (b *Batch) Insert(rules ...Rule) {
	for _, r := range rules {
		b.put("insert", newMsg, netlink.Create, r)
	}
}

func (b *Batch) put(verb string, msg uint16, flags netlink.HeaderFlags, objects ...Object) {
	for _, o := range objects {
		all, ok := o.(Elements)
		if !ok {
			b.append(verb, msg, flags, o)
		}
		for _, some := range all.messages() {
			b.append(verb, msg, flags, some)
		}
	}
}

func (b *Batch) append(verb string, msg uint16, flags netlink.HeaderFlags, o Object) {
	if _, ok := o.(Rule); ok && verb == "add" {
		flags |= netlink.Append
	}
	m, err := encode(o, msg, flags)
	op := op{verb, o, m}
	if err != nil {
		b.err = errors.Join(b.err, fmt.Errorf("%v: %w", op, err))
	}
	b.ops = append(b.ops, op)
}

// Len returns the number of messages so far.
func (b *Batch) Len() int { return len(b.ops) }

// messages puts the batch between NFNL_MSG_BATCH_BEGIN and _END, whose res_id
// is the subsystem. If the ruleset is no longer that of NFNL_BATCH_GENID, the
// kernel refuses the whole batch with ERESTART. Only the last operation asks for an
// acknowledgement: refused ones are reported in any case, and older kernels such as
// 5.10 don't acknowledge _END itself (nfnetlink_rcv_batch of nfnetlink.c).
func (b *Batch) messages() []netlink.Message {
	mark := func(typ netlink.HeaderType, base uint32) netlink.Message {
		header := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}
		attrs, _ := nl.Encode(func(c *nl.Codec) { nl.Optional(c, unix.NFNL_BATCH_GENID, base) }) // a number can't fail
		return netlink.Message{Header: netlink.Header{Type: typ, Flags: netlink.Request}, Data: append(header, attrs...)}
	}
	msgs := []netlink.Message{mark(unix.NFNL_MSG_BATCH_BEGIN, b.base)}
	for _, o := range b.ops {
		msgs = append(msgs, o.msg)
	}
	msgs[len(msgs)-1].Header.Flags |= netlink.Acknowledge
	return append(msgs, mark(unix.NFNL_MSG_BATCH_END, 0))
}
