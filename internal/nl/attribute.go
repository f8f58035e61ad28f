package nl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

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
	attrs []attr
	err   *error
}

// An attr is an attribute where it lies. Copies of all, as [netlink.UnmarshalAttributes] makes
// them, were a fifth of the memory that an ADD takes.
type attr struct {
	typ     uint16
	payload []byte
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
	attrs := make([]attr, 0, len(b)/32+1)
	for len(b) > 0 {
		length := 0
		if len(b) >= unix.NLA_HDRLEN {
			length = int(binary.NativeEndian.Uint16(b))
		}
		if length < unix.NLA_HDRLEN || length > len(b) {
			r.Fail(errors.New("invalid attribute; length too short or too large"))
			return Reader{nil, r.err}
		}
		typ := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
		attrs = append(attrs, attr{typ, b[unix.NLA_HDRLEN:length:length]})
		b = b[min(align(length), len(b)):]
	}
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

// Each passes all attributes on, in their order.
func (r Reader) Each(visit func(typ uint16, payload []byte)) {
	for _, a := range r.attrs {
		visit(a.typ, a.payload)
	}
}

// All returns the payloads of the attributes of a type.
func (r Reader) All(typ uint16) (payloads [][]byte) {
	for _, a := range r.attrs {
		if a.typ == typ {
			payloads = append(payloads, a.payload)
		}
	}
	return payloads
}

// Octets returns a payload of any length, or nil.
func (r Reader) Octets(typ uint16) (payload []byte) {
	for _, a := range r.attrs {
		if a.typ == typ {
			payload = a.payload
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
