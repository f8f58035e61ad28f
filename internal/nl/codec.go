package nl

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Codec passes over the attributes of a message or nest in one of two
// directions: its methods append the value that they are given, or return the
// one that is there. So each layout is written down once. When an attribute to
// read is absent, they return the value that they are given. Integers are in
// network byte order, as everywhere in nfnetlink. The first error sticks.
type Codec struct {
	w   *netlink.AttributeEncoder // nil when reading
	r   []netlink.Attribute       // not read yet
	err error
}

// Encode returns the attributes that pass appends.
func Encode(pass func(*Codec)) ([]byte, error) {
	c := &Codec{w: netlink.NewAttributeEncoder()}
	if pass(c); c.err != nil {
		return nil, c.err
	}
	return c.w.Encode()
}

// Decode lets pass read attributes. What it returns shares b's memory.
func Decode(b []byte, pass func(*Codec)) error {
	attrs, err := netlink.UnmarshalAttributes(b)
	if err != nil {
		return err
	}
	c := &Codec{r: attrs}
	pass(c)
	return c.err
}

// Reading reports the direction.
func (c *Codec) Reading() bool { return c.w == nil }

// Fail makes the pass fail, unless it has already.
func (c *Codec) Fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// Bytes passes over an attribute of any form. To be left out, v must be nil. Of
// several of one type, the last one is read.
func (c *Codec) Bytes(typ uint16, v []byte) []byte {
	if !c.Reading() {
		if v != nil {
			c.w.Bytes(typ, v)
		}
		return v
	}
	for i := len(c.r) - 1; i >= 0; i-- {
		if c.r[i].Type&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER) == typ {
			v = c.r[i].Data
			c.r = slices.Delete(c.r, i, i+1)
			break
		}
	}
	return v
}

// Fixed passes over an attribute that must have v's length.
func (c *Codec) Fixed(typ uint16, v []byte) []byte {
	b := c.Bytes(typ, v)
	if len(b) != len(v) {
		c.Fail(fmt.Errorf("attribute %d has %d bytes instead of %d", typ, len(b), len(v)))
		return v
	}
	return b
}

// Number passes over a NLA_U32.
func Number[T ~uint32 | ~int32](c *Codec, typ uint16, v T) T {
	return T(binary.BigEndian.Uint32(c.Fixed(typ, binary.BigEndian.AppendUint32(nil, uint32(v)))))
}

// Optional passes over a NLA_U32 that is left out if it is zero.
func Optional[T ~uint32 | ~int32](c *Codec, typ uint16, v T) T {
	if !c.Reading() && v == 0 {
		return v
	}
	return Number(c, typ, v)
}

// Flag passes over a NLA_U32 that is a bit, or is zero or left out.
func (c *Codec) Flag(typ uint16, bit uint32, set bool) bool {
	if set {
		return Number(c, typ, bit) == bit
	}
	v := Optional(c, typ, uint32(0))
	if v&^bit != 0 {
		c.Fail(fmt.Errorf("attribute %d has unknown flags %#x", typ, v&^bit))
	}
	return v != 0
}

// Constant passes over a NLA_U32 that must have one value.
func (c *Codec) Constant(typ uint16, want uint32) {
	if v := Number(c, typ, want); v != want {
		c.Fail(fmt.Errorf("attribute %d is %d instead of %d", typ, v, want))
	}
}

// Text passes over a NLA_STRING, which ends with a NUL byte and is left out if it is
// empty.
func (c *Codec) Text(typ uint16, s string) string {
	if strings.ContainsRune(s, 0) {
		c.Fail(fmt.Errorf("%q has a NUL byte", s))
	}
	var b []byte
	if s != "" {
		b = append([]byte(s), 0)
	}
	return strings.TrimSuffix(string(c.Bytes(typ, b)), "\x00")
}

// Nest passes over a NLA_NESTED. When reading, pass is not called if it is absent.
func (c *Codec) Nest(typ uint16, pass func(*Codec)) {
	if !c.Reading() {
		c.w.Nested(typ, func(w *netlink.AttributeEncoder) error {
			n := &Codec{w: w}
			pass(n)
			return n.err
		})
	} else if b := c.Bytes(typ, nil); b != nil {
		c.Fail(Decode(b, pass))
	}
}

// List passes over a nest of nests of one type, one for each item.
func List[T any](c *Codec, typ, itemType uint16, items []T, pass func(*Codec, T) T) []T {
	c.Nest(typ, func(n *Codec) {
		for _, item := range items {
			n.Nest(itemType, func(e *Codec) { pass(e, item) })
		}
		for _, a := range n.r {
			var item T
			n.Fail(Decode(a.Data, func(e *Codec) { item = pass(e, item) }))
			items = append(items, item)
		}
	})
	return items
}

// OnlyZeros reports whether all attributes that have not been read consist of zeros:
// defaults that this or a newer kernel spells out.
func (c *Codec) OnlyZeros() bool {
	return !slices.ContainsFunc(c.r, func(a netlink.Attribute) bool {
		return slices.ContainsFunc(a.Data, func(b byte) bool { return b != 0 })
	})
}
