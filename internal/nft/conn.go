// Package nft speaks to nf_tables: tables, chains, rules, sets and maps as
// plain data, changed by one atomic batch (see [Batch]) and asked for one by
// one. It has their form in netlink messages, and nothing about their
// purpose. Names are those of nft(8) and linux/netfilter/nf_tables.h.
package nft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"flatnet/internal/nl"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Conn is a netlink socket to the nf_tables of one network namespace. It is
// for one goroutine at a time.
type Conn struct{ nl *nl.Conn }

// Dial opens a socket in the calling thread's network namespace.
func Dial() (*Conn, error) {
	c, err := nl.Dial(unix.NETLINK_NETFILTER)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, unsupported("CONFIG_NF_TABLES", err)
	}
	if err != nil {
		return nil, fmt.Errorf("nf_tables: %w", err)
	}
	return &Conn{c}, nil
}

// Close closes the socket. After a batch that deleted something, or added a
// chain that existed, it takes 10 to 30 ms: the kernel waits for a grace period
// before it frees what is left over. Everything else costs nothing here.
func (c *Conn) Close() error { return c.nl.Close() }

// Namespace returns the number of the socket's network namespace (SO_NETNS_COOKIE), which
// no other one gets until the next boot. Linux before 5.14 has none.
func (c *Conn) Namespace() (cookie uint64, err error) { return c.nl.Namespace() }

// headerSize is the size of struct nfgenmsg: nfgen_family, version, res_id.
const headerSize = 4

// attrsAt is where a message's attributes begin, counted from its nlmsghdr.
const attrsAt = unix.NLMSG_HDRLEN + headerSize

// encode returns the message about an object: msg is the distance from its
// NFT_MSG_NEW*.
func encode(o Object, msg uint16, flags netlink.HeaderFlags) netlink.Message {
	kind, family := o.kind()
	attrs := o.identify
	if msg == newMsg {
		attrs = o.define
	}
	return netlink.Message{
		Header: netlink.Header{Type: msgType(kind + msg), Flags: netlink.Request | flags},
		Data:   append([]byte{byte(family), unix.NFNETLINK_V0, 0, 0}, attrs()...),
	}
}

// number encodes a NLA_U32 in network byte order, as everywhere in nfnetlink, and
// nonzero one that is left out if it is zero.
func number[T ~uint32 | ~int32](typ uint16, v T) []byte {
	return nl.Attr(typ, binary.BigEndian.AppendUint32(nil, uint32(v)))
}

func nonzero[T ~uint32 | ~int32](typ uint16, v T) []byte {
	if v == 0 {
		return nil
	}
	return number(typ, v)
}

func u32(r nl.Reader, typ uint16) uint32 { return binary.BigEndian.Uint32(r.Fixed(typ, 4)) }

func msgType(msg uint16) netlink.HeaderType {
	return netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | msg)
}

// read passes each message's family and attributes on.
func read(msgs []netlink.Message, each func(Family, nl.Reader)) error {
	for _, m := range msgs {
		header, r := nl.Read(m.Data, headerSize)
		each(Family(header[0]), r)
		if err := r.Err(); err != nil {
			return err
		}
	}
	return nil
}

// ask sends a request that changes nothing about an object, and returns the answers.
func (c *Conn) ask(o Object, flags netlink.HeaderFlags) ([]netlink.Message, error) {
	m := encode(o, getMsg, flags)
	answers, err := c.nl.Do(m.Header.Type, flags, m.Data)
	return answers, c.explain(err)
}

// explain returns ErrUnsupported in place of EINVAL if the kernel lacks nf_tables.
// nfnetlink returns EINVAL for a subsystem that it doesn't have: then every request
// fails so, even the one that has no arguments.
func (c *Conn) explain(err error) error {
	if errors.Is(err, unix.EINVAL) {
		if _, all := c.generation(); errors.Is(all, ErrUnsupported) {
			return all
		}
	}
	return err
}

// generation returns the number of the ruleset's last change (NFTA_GEN_ID), or 0
// if the kernel does not report it.
func (c *Conn) generation() (id uint32, err error) {
	answers, err := c.nl.Do(msgType(unix.NFT_MSG_GETGEN), 0, []byte{0, unix.NFNETLINK_V0, 0, 0})
	if errors.Is(err, unix.EINVAL) {
		return 0, unsupported("CONFIG_NF_TABLES", err)
	}
	derr := read(answers, func(_ Family, r nl.Reader) { id = u32(r, unix.NFTA_GEN_ID) })
	if err = errors.Join(err, derr); err != nil {
		return 0, fmt.Errorf("generation of the ruleset: %w", err)
	}
	return id, nil
}

// Has reports whether an object of that family and name exists, at a cost that
// doesn't grow with their number. Its inside is not compared.
func (c *Conn) Has(o Object) (bool, error) {
	there, err := Existing(c, o)
	return len(there) > 0, err
}

// Existing returns those of the objects that exist, asked for together.
func Existing[T Object](c *Conn, objects ...T) (there []T, err error) {
	var requests []netlink.Message
	for _, o := range objects {
		requests = append(requests, encode(o, getMsg, 0))
	}
	for _, err := range c.nl.Each(requests) {
		o := objects[0]
		objects = objects[1:]
		switch {
		case err == nil:
			there = append(there, o)
		case !errors.Is(err, unix.ENOENT):
			return nil, fmt.Errorf("get %v: %w", o, c.explain(err))
		}
	}
	return there, nil
}

// list returns the objects that a request finds: one, or with netlink.Dump all.
func list[T any](c *Conn, o Object, flags netlink.HeaderFlags, decode func(Family, nl.Reader) T) (all []T, err error) {
	answers, err := c.ask(o, flags)
	derr := read(answers, func(f Family, r nl.Reader) { all = append(all, decode(f, r)) })
	if err = errors.Join(err, derr); err != nil {
		return nil, fmt.Errorf("list %v: %w", o, err)
	}
	return all, nil
}

// Chain returns a chain as the kernel has it, or the zero value if it has none of that
// family and name. A base chain whose device has gone may be left without one; one
// whose device was renamed has the new name or, from Linux 6.16 on, the old one and no
// frames.
func (c *Conn) Chain(ch Chain) (Chain, error) {
	all, err := list(c, ch, 0, readChain)
	if errors.Is(err, unix.ENOENT) {
		err = nil
	}
	return append(all, Chain{})[0], err // the zero one if there is no other
}

// Chains lists the chains of all tables of a family. One of a device has a hook
// of another kind.
func (c *Conn) Chains(family Family) ([]Chain, error) {
	return list(c, Chain{Table: Table{Family: family}}, netlink.Dump, readChain)
}

// Rules lists the rules of a chain in their order, with their handles; without a
// name of a chain, those of all chains of the table. One that doesn't exist has
// none.
func (c *Conn) Rules(t Table, chain string) ([]Rule, error) {
	return list(c, allRules{Chain{Table: t, Name: chain}}, netlink.Dump, readRule)
}

// Elements lists the elements of a set, in no particular order. A set that
// doesn't exist is ENOENT.
func (c *Conn) Elements(s Set) ([]Element, error) {
	lists, err := list(c, allElements{s}, netlink.Dump, s.elements)
	return slices.Concat(lists...), err
}

// Find returns the elements that are at the places of others, each once and in their
// order. A set that doesn't exist has none. The cost grows with the number of places
// only.
func (c *Conn) Find(at []Element) (found []Element, err error) {
	var requests []netlink.Message
	var sets []Set // of the requests
	asked := map[Element]bool{}
	for _, e := range at {
		if !asked[e.Place()] {
			asked[e.Place()] = true
			requests, sets = append(requests, encode(Elements{e}, getMsg, 0)), append(sets, e.Set)
		}
	}
	for replies, err := range c.nl.Each(requests) {
		set := sets[0]
		sets = sets[1:]
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		known := len(found)
		derr := read(replies, func(f Family, r nl.Reader) { found = append(found, set.elements(f, r)...) })
		if err = errors.Join(err, derr); err == nil && len(found) != known+1 {
			err = fmt.Errorf("the kernel returned %d", len(found)-known)
		}
		if err != nil {
			return nil, fmt.Errorf("get element of %v: %w", set, c.explain(err))
		}
	}
	return found, nil
}

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
	identify() []byte                  // the attributes that get and delete go by
	define() []byte                    // all attributes
}

// A Batch is a transaction: the kernel does all of it, in order, or nothing.
// The zero value is an empty one.
type Batch struct {
	ops  []op
	base uint32 // NFTA_GEN_ID that the ruleset must still have; 0: any
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
	b.put("add", newMsg, netlink.Create|netlink.Append, objects...)
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
	add := func(o Object) { b.ops = append(b.ops, op{verb, o, encode(o, msg, flags)}) }
	for _, o := range objects {
		all, ok := o.(Elements)
		if !ok {
			add(o)
		}
		for _, some := range all.messages() {
			add(some)
		}
	}
}

// Len returns the number of messages so far.
func (b *Batch) Len() int { return len(b.ops) }

// Encoded returns all that the messages say so far, to compare batches.
func (b *Batch) Encoded() (all []byte) {
	for _, o := range b.ops {
		all = append(append(all, o.verb...), o.msg.Data...)
	}
	return all
}

// Base returns the generation (NFTA_GEN_ID) that the ruleset must still have when the
// batch is committed; 0: any.
func (b *Batch) Base() uint32 { return b.base }

// After returns the generation that the ruleset had when the batch was committed: the
// next one, for the kernel counts transactions (nf_tables_commit of nf_tables_api.c), or
// the same if nothing was to be done. It is 0 if that is unknown. A batch that only adds
// what exists is no transaction to the kernel: callers have asked what is missing.
func (b *Batch) After() uint32 {
	if b.base == 0 || len(b.ops) == 0 {
		return b.base
	}
	return b.base + 1
}

// Changes reports whether the batch changes more of a table than elements of its sets.
func (b *Batch) Changes(t Table) bool {
	name := t.identify()
	return slices.ContainsFunc(b.ops, func(o op) bool {
		_, elements := o.object.(Elements)
		_, family := o.object.kind()
		return !elements && family == t.Family && bytes.HasPrefix(o.object.identify(), name)
	})
}

// messages puts the batch between NFNL_MSG_BATCH_BEGIN and _END, whose res_id
// is the subsystem. If the ruleset is no longer that of NFNL_BATCH_GENID, the
// kernel refuses the whole batch with ERESTART. Only the last operation asks for an
// acknowledgement: refused ones are reported in any case, and older kernels such as
// 5.10 don't acknowledge _END itself (nfnetlink_rcv_batch of nfnetlink.c).
func (b *Batch) messages() []netlink.Message {
	mark := func(typ netlink.HeaderType, base uint32) netlink.Message {
		header := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}
		return netlink.Message{Header: netlink.Header{Type: typ, Flags: netlink.Request}, Data: append(header, nonzero(unix.NFNL_BATCH_GENID, base)...)}
	}
	msgs := []netlink.Message{mark(unix.NFNL_MSG_BATCH_BEGIN, b.base)}
	for _, o := range b.ops {
		msgs = append(msgs, o.msg)
	}
	msgs[len(msgs)-1].Header.Flags |= netlink.Acknowledge
	return append(msgs, mark(unix.NFNL_MSG_BATCH_END, 0))
}

const (
	// patience bounds how long a transaction starts over because rules change
	// all the time. 100 processes that change rules at once need a tenth of it.
	patience = time.Second
	// verifyTries bounds how often a transaction then looks whether it is done.
	verifyTries = 8
	// goneTries bounds how often a transaction starts over because what it deletes is gone
	// although no rule has changed. With a device the kernel deletes its chains in the
	// netdev family without a new generation (nft_netdev_event of nft_chain_filter.c).
	goneTries = 3
)

// ErrChanging reports that other programs changed rules during all attempts of
// a transaction.
var ErrChanging = errors.New("rules kept changing")

// Transact changes rules according to those that are there. fill asks, through c, and
// puts the changes into a batch. The batch is committed only if no rule of the
// namespace has changed since before fill was called; otherwise fill is called
// again, with an empty batch, and must ask for everything again. An error of
// fill counts only if no rule changed meanwhile. fill must leave the batch empty
// if nothing needs to be done.
//
// If another program changes rules without a break, the batch is committed
// nevertheless, and fill is called again until it finds nothing to do.
func (c *Conn) Transact(fill func(*Batch) error) error {
	for start, gone := time.Now(), 0; time.Since(start) < patience; {
		err := c.attempt(fill)
		if errors.Is(err, unix.ENOENT) {
			gone++
		}
		if !errors.Is(err, unix.ERESTART) && !(errors.Is(err, unix.ENOENT) && gone < goneTries) {
			return err
		}
	}
	var err error
	for range verifyTries {
		var b Batch
		if err = fill(&b); err == nil {
			if b.Len() == 0 {
				return nil
			}
			err = c.Commit(&b)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrChanging, err)
	}
	return ErrChanging
}

// attempt is one attempt of a transaction: ERESTART if rules have changed.
func (c *Conn) attempt(fill func(*Batch) error) error {
	base, err := c.generation()
	if err != nil {
		return err
	}
	b := Batch{base: base}
	if err := fill(&b); err != nil {
		if now, gerr := c.generation(); gerr == nil && now != base {
			return unix.ERESTART
		}
		return err
	}
	return c.Commit(&b)
}

// Commit sends a batch as one datagram. The error is that of the first
// operation that was refused, which it names; errors.Is finds the kernel's
// errno, and [ErrUnsupported] where the kernel lacks what the operation needs.
// Nothing has been done then. A refused batch costs some 15 ms (the kernel
// waits for all CPUs), so what may exist is better asked for with [Conn.Has].
func (c *Conn) Commit(b *Batch) error {
	if len(b.ops) == 0 {
		return nil
	}
	sent, err := c.nl.Send(b.messages())
	if err == nil {
		_, err = c.nl.Receive()
	}
	if err == nil {
		return nil
	}
	if op := nl.Refused(err); op != nil {
		if i := int(op.Sequence - sent[0].Header.Sequence); i > 0 && i <= len(b.ops) {
			return b.ops[i-1].refused(err)
		}
	}
	if errors.Is(err, unix.EOPNOTSUPP) { // nfnetlink has no nf_tables
		return unsupported("CONFIG_NF_TABLES", err)
	}
	return fmt.Errorf("nf_tables batch: %w", err)
}

// ErrUnsupported is a kernel that lacks nf_tables or a part of it. The text
// names the CONFIG_ option. Such an error is not also the errno that reported it:
// ENOENT, say, must not be taken for an object that is absent.
var ErrUnsupported = errors.New("not supported by this kernel")

func unsupported(config string, err error) error {
	return fmt.Errorf("%s: %w (%v)", config, ErrUnsupported, err)
}

// refused is the error of an operation that the kernel refused.
func (o op) refused(err error) error {
	if o.verb == "add" || o.verb == "create" {
		if config := missing(o.object, err); config != "" {
			err = unsupported(config, err)
		}
	}
	return fmt.Errorf("%v: %w", o, err)
}

// missing returns the CONFIG_ options whose lack is the reason why an object
// was refused, if any. ENOENT means that a chain type or expression has no
// implementation if the kernel points at it (NLMSGERR_ATTR_OFFS). Older kernels
// such as 5.10 point at nothing then, but do point at a table, chain or set
// that is absent.
func missing(o Object, err error) string {
	at := 0
	if op := nl.Refused(err); op != nil {
		at = op.Offset
	}
	absent := errors.Is(err, unix.ENOENT) && at != attrsAt // where the table's name is
	switch o := o.(type) {
	case Table:
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
			return "CONFIG_NF_TABLES_" + o.Family.option()
		}
	case Chain:
		if absent && o.Type == NAT {
			return "CONFIG_NFT_NAT"
		}
		if absent && o.Type != "" && o.Device == "" { // else the device may be what is absent
			return "CONFIG_NF_TABLES_" + o.Table.Family.option()
		}
	case Rule:
		if absent {
			return o.missing(at)
		}
	}
	return ""
}

// missing is that of the expression at an offset, or of all if it is 0.
func (r Rule) missing(at int) string {
	var configs []string
	for i, e := range r.Exprs {
		upTo := Rule{Table: r.Table, Chain: r.Chain, Exprs: r.Exprs[:i+1]}
		here := attrsAt + len(upTo.define()) - len(e.encode())
		if config := module(e, r.Table.Family); config != "" && (at == 0 || at == here) {
			configs = append(configs, config)
		}
	}
	return strings.Join(configs, " or ")
}

// module is the option that builds an expression which nf_tables itself does
// not have built in.
func module(e Expr, f Family) string {
	if e.Name == "meta" && f == Bridge { // nft_meta_get_init leaves all keys to nft_meta_bridge, if that is a module
		return "CONFIG_NFT_BRIDGE_META"
	}
	switch e.Name {
	case "bitwise", "cmp", "immediate", "lookup", "meta", "payload":
		return ""
	case "ct", "masq", "nat":
		return "CONFIG_NFT_" + strings.ToUpper(e.Name)
	case "fib":
		return "CONFIG_NFT_FIB_" + f.option()
	default:
		return "expression " + e.Name
	}
}
