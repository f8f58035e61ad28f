package nft

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// An Object is what a [Batch] adds and deletes: a [Table], [Chain], [Rule],
// [Set] or [Elements].
type Object interface {
	fmt.Stringer
	create() []request
	remove() []request
}

// A Container is an Object that has a name of its own: a [Table], [Chain] or [Set].
type Container interface {
	Object
	get() request
	flush() request
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
// rule is always appended. An existing chain's policy is set. What exists
// costs time for nothing, see [Conn.Close].
func (b *Batch) Add(objects ...Object) {
	for _, o := range objects {
		b.put("add", o, netlink.Create, o.create())
	}
}

// Create adds objects that must not exist: else Commit's error is EEXIST.
func (b *Batch) Create(objects ...Object) {
	for _, o := range objects {
		b.put("create", o, netlink.Create|netlink.Excl, o.create())
	}
}

// Delete deletes objects that must exist: else Commit's error is ENOENT. It
// goes by names, keys and for a rule by its Handle. A table goes with all that
// it has, another object only if nothing refers to it (EBUSY).
func (b *Batch) Delete(objects ...Object) {
	for _, o := range objects {
		b.put("delete", o, 0, o.remove())
	}
}

// Flush deletes the rules of a table or chain, or the elements of a set. Each
// must exist.
func (b *Batch) Flush(containers ...Container) {
	for _, o := range containers {
		b.put("flush", o, 0, []request{o.flush()})
	}
}

// Insert adds rules at the beginning of their chains; the last one is first.
func (b *Batch) Insert(rules ...Rule) {
	for _, r := range rules {
		requests := r.create()
		requests[0].flags &^= netlink.Append
		b.put("insert", r, netlink.Create, requests)
	}
}

func (b *Batch) put(verb string, o Object, flags netlink.HeaderFlags, requests []request) {
	for _, r := range requests {
		r.flags |= flags
		m, err := r.encode()
		op := op{verb, o, m}
		if err != nil {
			b.err = errors.Join(b.err, fmt.Errorf("%v: %w", op, err))
		}
		b.ops = append(b.ops, op)
	}
}

// Len returns the number of messages so far.
func (b *Batch) Len() int { return len(b.ops) }

// String lists what the batch does, one message a line.
func (b *Batch) String() string {
	var s strings.Builder
	for _, o := range b.ops {
		fmt.Fprintln(&s, o)
	}
	return s.String()
}

// messages puts the batch between NFNL_MSG_BATCH_BEGIN and _END, whose res_id
// is the subsystem. If the ruleset is no longer that of NFNL_BATCH_GENID, the
// kernel refuses the whole batch with ERESTART. Only the last operation asks for an acknowledgement:
// refused ones are reported in any case, and older kernels such as 5.10 don't
// acknowledge _END itself (nfnetlink_rcv_batch of nfnetlink.c).
func (b *Batch) messages() []netlink.Message {
	mark := func(typ netlink.HeaderType) netlink.Message {
		return netlink.Message{
			Header: netlink.Header{Type: typ, Flags: netlink.Request},
			Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES},
		}
	}
	begin := mark(unix.NFNL_MSG_BATCH_BEGIN)
	attrs, _ := encode(func(c *codec) { optional(c, unix.NFNL_BATCH_GENID, b.base) }) // a number can't fail
	begin.Data = append(begin.Data, attrs...)
	msgs := append(make([]netlink.Message, 0, len(b.ops)+2), begin)
	for _, o := range b.ops {
		msgs = append(msgs, o.msg)
	}
	msgs[len(msgs)-1].Header.Flags |= netlink.Acknowledge
	return append(msgs, mark(unix.NFNL_MSG_BATCH_END))
}
