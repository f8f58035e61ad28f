package nl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Attr encodes an attribute (struct nlattr). One without a payload is left out. A payload
// that is too long for an attribute is cut: nothing that is longer than the kernel accepts
// comes near that.
func Attr(typ uint16, payload []byte) []byte {
	if len(payload) == 0 {
		return nil
	}
	length := min(unix.NLA_HDRLEN+len(payload), math.MaxUint16)
	b := make([]byte, align(length))
	binary.NativeEndian.PutUint16(b, uint16(length))
	binary.NativeEndian.PutUint16(b[2:], typ)
	copy(b[unix.NLA_HDRLEN:length], payload)
	return b
}

// Text encodes a NLA_STRING with the NUL byte at its end. An empty one is left out.
func Text(typ uint16, s string) []byte {
	if s == "" {
		return nil
	}
	return Attr(typ, append([]byte(s), 0))
}

// Nest encodes a NLA_NESTED that contains encoded attributes. One without any is left out.
func Nest(typ uint16, attrs ...[]byte) []byte {
	return Attr(typ|unix.NLA_F_NESTED, slices.Concat(attrs...))
}

// A Reader decodes the attributes of a message or of a nest. Its getters return the last
// one of a type, and what is zero if there is none. The first error of a message and its
// nests sticks.
type Reader struct {
	attrs []netlink.Attribute
	err   *error
}

// Read returns a message's fixed header, which has a size, and its attributes. The header
// of a message that is too short is zero.
func Read(b []byte, size int) (header []byte, r Reader) {
	r.err = new(error)
	if len(b) < size {
		r.Fail(errors.New("the message is shorter than its header"))
		b = make([]byte, size)
	}
	return b[:size], r.inside(b[size:])
}

func (r Reader) inside(b []byte) Reader {
	attrs, err := netlink.UnmarshalAttributes(b)
	r.Fail(err)
	return Reader{attrs, r.err}
}

// Fail adds an error, or nil.
func (r Reader) Fail(err error) {
	if *r.err == nil {
		*r.err = err
	}
}

// Err returns the first error.
func (r Reader) Err() error { return *r.err }

// All returns the payloads of the attributes of a type.
func (r Reader) All(typ uint16) (payloads [][]byte) {
	for _, a := range r.attrs {
		if a.Type&^(netlink.Nested|netlink.NetByteOrder) == typ {
			payloads = append(payloads, a.Data)
		}
	}
	return payloads
}

// Octets returns a payload of any length, or nil.
func (r Reader) Octets(typ uint16) (payload []byte) {
	for _, a := range r.attrs {
		if a.Type&^(netlink.Nested|netlink.NetByteOrder) == typ {
			payload = a.Data
		}
	}
	return payload
}

// Fixed returns a payload that must have a size.
func (r Reader) Fixed(typ uint16, size int) []byte {
	b := r.Octets(typ)
	if len(b) == size {
		return b
	}
	if b != nil {
		r.Fail(fmt.Errorf("attribute %d has %d bytes instead of %d", typ, len(b), size))
	}
	return make([]byte, size)
}

// Text returns a NLA_STRING.
func (r Reader) Text(typ uint16) string { return strings.TrimRight(string(r.Octets(typ)), "\x00") }

// Nest returns a reader of a NLA_NESTED.
func (r Reader) Nest(typ uint16) Reader { return r.inside(r.Octets(typ)) }

// List returns readers of the nests of a type inside of a NLA_NESTED.
func (r Reader) List(typ, item uint16) (items []Reader) {
	for _, b := range r.Nest(typ).All(item) {
		items = append(items, r.inside(b))
	}
	return items
}
