// Package rtnl speaks rtnetlink(7): links, addresses, routes and queueing
// disciplines, one file per kernel noun. It encodes and decodes messages; the
// bridge package decides which to send.
package rtnl

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"flatnet/internal/nl"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Conn is an rtnetlink socket. It works on the network namespace in which it
// was dialed. Its errors name the object and the operation, and wrap the kernel's errno.
type Conn struct {
	nl    *nl.Conn
	where string // appended to the names of objects in errors
}

// Dial opens an rtnetlink socket in the calling thread's network namespace.
func Dial() (*Conn, error) {
	c, err := nl.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("rt%w", err)
	}
	return New(c), nil
}

// New uses a connection that is open already.
func New(c *nl.Conn) *Conn { return &Conn{nl: c} }

// Close closes the socket.
func (c *Conn) Close() error { return c.nl.Close() }

// Untrusted bounds answers to 1 MiB each, some 10,000 addresses or routes of one
// link; longer ones fail with EMSGSIZE. It is for a namespace in which somebody else
// decides how much there is to list. Errors name objects as being where.
func (c *Conn) Untrusted(where string) {
	c.nl.Limit(1 << 20)
	c.where = " " + where
}

// wrap returns the error of an operation with a text that describes that, or nil.
func (c *Conn) wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s%s: %w", fmt.Sprintf(format, args...), c.where, err)
}

// do sends a request, a fixed header and attributes, that the kernel answers with
// an acknowledgement alone.
func (c *Conn) do(typ netlink.HeaderType, flags netlink.HeaderFlags, parts ...[]byte) error {
	_, err := c.nl.Do(typ, flags|netlink.Acknowledge, slices.Concat(parts...))
	return err
}

// create sends a request to make an object that must not exist yet (EEXIST).
func (c *Conn) create(typ netlink.HeaderType, parts ...[]byte) error {
	return c.do(typ, netlink.Create|netlink.Excl, parts...)
}

// get sends a request that the kernel answers with one object.
func get[T any](c *Conn, typ netlink.HeaderType, decode func([]byte) (T, error), parts ...[]byte) (v T, err error) {
	return one(c.together(request(typ, 0, parts...))[0], decode)
}

// one decodes an answer that is one object.
func one[T any](a answer, decode func([]byte) (T, error)) (v T, err error) {
	if a.err != nil {
		return v, a.err
	}
	if len(a.msgs) != 1 {
		return v, fmt.Errorf("%d replies instead of one", len(a.msgs))
	}
	return decode(a.msgs[0].Data)
}

// An answer is the kernel's to one of several requests: its replies, or its refusal.
type answer struct {
	msgs []netlink.Message
	err  error
}

// request returns one of the requests that together sends.
func request(typ netlink.HeaderType, flags netlink.HeaderFlags, parts ...[]byte) netlink.Message {
	return netlink.Message{Header: netlink.Header{Type: typ, Flags: netlink.Request | flags}, Data: slices.Concat(parts...)}
}

// together sends requests that the kernel answers with one datagram each, and serves one
// after the other, also after a refusal. Nothing else that waits for the kernel's lock
// (RTNL) comes between: what a change makes it do in the background, such as for a carrier
// that has come, would keep the next request waiting.
func (c *Conn) together(requests ...netlink.Message) []answer {
	answers := make([]answer, 0, len(requests))
	for msgs, err := range c.nl.Each(requests) {
		answers = append(answers, answer{msgs, err})
	}
	for len(answers) < len(requests) { // the socket has failed
		answers = append(answers, answers[len(answers)-1])
	}
	return answers
}

// dump lists objects; objects is their name in an error.
func dump[T any](c *Conn, objects string, typ netlink.HeaderType, decode func([]byte) (T, error), parts ...[]byte) ([]T, error) {
	msgs, err := c.nl.Do(typ, netlink.Dump, slices.Concat(parts...))
	return decodeAll(msgs, decode), c.wrap(err, "list %s", objects)
}

// decodeAll skips objects that decode rejects: they are of an address family, or
// in a form, that this package can't read, and must not hide the others.
func decodeAll[T any](msgs []netlink.Message, decode func([]byte) (T, error)) []T {
	out := make([]T, 0, len(msgs))
	for _, m := range msgs {
		if v, err := decode(m.Data); err == nil {
			out = append(out, v)
		}
	}
	return out
}

var native = binary.NativeEndian

// words encodes a structure of 32-bit fields.
func words(fields ...uint32) (b []byte) {
	for _, v := range fields {
		b = native.AppendUint32(b, v)
	}
	return b
}

func u8(typ uint16, v uint8) []byte   { return nl.Attr(typ, []byte{v}) }
func u32(typ uint16, v uint32) []byte { return nl.Attr(typ, native.AppendUint32(nil, v)) }

// nonzero is u32, left out if v is 0.
func nonzero(typ uint16, v uint32) []byte {
	if v == 0 {
		return nil
	}
	return u32(typ, v)
}

// A reader is a [nl.Reader] with rtnetlink's types of attributes. Its getters return zero
// for an attribute that is absent.
type reader struct{ nl.Reader }

// read is [nl.Read].
func read(b []byte, size int) (header []byte, r reader) {
	header, r.Reader = nl.Read(b, size)
	return header, r
}

func (r reader) nest(typ uint16) reader { return reader{r.Nest(typ)} }
func (r reader) flag(typ uint16) bool   { return r.Fixed(typ, 1)[0] != 0 }
func (r reader) u32(typ uint16) uint32  { return native.Uint32(r.Fixed(typ, 4)) }

func (r reader) addr(typ uint16) netip.Addr {
	b := r.Octets(typ)
	a, ok := netip.AddrFromSlice(b)
	if !ok && b != nil {
		r.Fail(fmt.Errorf("rtnetlink attribute %d is no IP address", typ))
	}
	return a
}

// nsid returns a NETNSA_NSID, or -1 (NETNSA_NSID_NOT_ASSIGNED) without one.
func (r reader) nsid(typ uint16) int {
	if r.Octets(typ) == nil {
		return unix.NETNSA_NSID_NOT_ASSIGNED
	}
	return int(int32(r.u32(typ)))
}

// prefix joins an address and the length in a header of struct ifaddrmsg or rtmsg,
// which begin alike. Other families than IPv4 and IPv6 are errors, too.
func (r reader) prefix(header []byte, a netip.Addr) netip.Prefix {
	p := netip.PrefixFrom(a, int(header[1]))
	if !p.IsValid() || family(a) != header[0] {
		r.Fail(fmt.Errorf("no valid prefix of family %d with length %d", header[0], header[1]))
	}
	return p
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
