package nft

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A codec passes over the attributes of a message or nest in one of two
// directions: its methods append the value that they are given, or return the
// one that is there. So each layout is written down once. Integers are in
// network byte order, as everywhere in nfnetlink. The first error sticks.
type codec struct {
	w   *netlink.AttributeEncoder // nil when reading
	r   []netlink.Attribute       // what has not been read yet
	err error
}

func encode(pass func(*codec)) ([]byte, error) {
	c := &codec{w: netlink.NewAttributeEncoder()}
	c.w.ByteOrder = binary.BigEndian
	pass(c)
	if c.err != nil {
		return nil, c.err
	}
	return c.w.Encode()
}

func decode(b []byte, pass func(*codec)) error {
	attrs, err := netlink.UnmarshalAttributes(b)
	if err != nil {
		return err
	}
	c := &codec{r: attrs}
	pass(c)
	return c.err
}

func (c *codec) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// find is the index of an attribute to read, the last one of its type; -1 if
// there is none.
func (c *codec) find(typ uint16) int {
	for i := len(c.r) - 1; i >= 0; i-- {
		if c.r[i].Type&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER) == typ {
			return i
		}
	}
	return -1
}

// has says that there is an attribute to read.
func (c *codec) has(typ uint16) bool { return c.find(typ) >= 0 }

func (c *codec) take(typ uint16) ([]byte, bool) {
	i := c.find(typ)
	if i < 0 {
		return nil, false
	}
	b := c.r[i].Data
	c.r = slices.Delete(c.r, i, i+1)
	return b, true
}

// takeN takes an attribute that must have n bytes.
func (c *codec) takeN(typ uint16, n int) ([]byte, bool) {
	b, ok := c.take(typ)
	if ok && len(b) != n {
		c.fail(fmt.Errorf("attribute %d has %d bytes instead of %d", typ, len(b), n))
		return nil, false
	}
	return b, ok
}

// number passes over a NLA_U32.
func number[T ~uint8 | ~uint32 | ~int32](c *codec, typ uint16, v T) T {
	if c.w != nil {
		c.w.Uint32(typ, uint32(v))
		return v
	}
	b, ok := c.takeN(typ, 4)
	if !ok {
		return v
	}
	n := binary.BigEndian.Uint32(b)
	if v = T(n); uint32(v) != n {
		c.fail(fmt.Errorf("attribute %d is out of range: %d", typ, n))
	}
	return v
}

// optional passes over a NLA_U32 that is left out if it is zero.
func optional[T ~uint8 | ~uint32 | ~int32](c *codec, typ uint16, v T) T {
	if c.w != nil && v == 0 {
		return v
	}
	return number(c, typ, v)
}

// flag passes over a NLA_U32 that is left out, or is a bit.
func (c *codec) flag(typ uint16, bit uint32, set bool) bool {
	var v uint32
	if set {
		v = bit
	}
	v = optional(c, typ, v)
	if v&^bit != 0 {
		c.fail(fmt.Errorf("attribute %d has unknown flags %#x", typ, v&^bit))
	}
	return v != 0
}

// constant passes over a NLA_U32 that must have one value.
func (c *codec) constant(typ uint16, want uint32) {
	if v := number(c, typ, want); v != want {
		c.fail(fmt.Errorf("attribute %d is %d instead of %d", typ, v, want))
	}
}

// implied is a constant that need not be written, as the kernel knows it.
func (c *codec) implied(typ uint16, want uint32) {
	if c.w == nil {
		c.constant(typ, want)
	}
}

// long passes over a NLA_U64 that is left out if it is zero.
func (c *codec) long(typ uint16, v uint64) uint64 {
	if c.w != nil {
		if v != 0 {
			c.w.Uint64(typ, v)
		}
		return v
	}
	if b, ok := c.takeN(typ, 8); ok {
		return binary.BigEndian.Uint64(b)
	}
	return v
}

func (c *codec) octets(typ uint16, v []byte) []byte {
	if c.w != nil {
		c.w.Bytes(typ, v)
		return v
	}
	b, _ := c.take(typ)
	return b
}

// text passes over a NLA_STRING, which ends with a NUL byte.
func (c *codec) text(typ uint16, v string) string {
	if c.w != nil {
		if strings.ContainsRune(v, 0) {
			c.fail(fmt.Errorf("%q has a NUL byte", v))
		}
		c.w.String(typ, v)
		return v
	}
	b, _ := c.take(typ)
	return strings.TrimSuffix(string(b), "\x00")
}

// nest passes over a NLA_NESTED. When reading, one that isn't there is left.
func (c *codec) nest(typ uint16, pass func(*codec)) {
	if c.w != nil {
		c.w.Nested(typ, func(w *netlink.AttributeEncoder) error {
			n := &codec{w: w}
			pass(n)
			return n.err
		})
	} else if b, ok := c.take(typ); ok {
		c.fail(decode(b, pass))
	}
}

// list passes over a nest of NFTA_LIST_ELEM.
func list[T any](c *codec, typ uint16, items []T, pass func(*codec, T) T) []T {
	if c.w != nil {
		c.nest(typ, func(n *codec) {
			for _, item := range items {
				n.nest(unix.NFTA_LIST_ELEM, func(e *codec) { pass(e, item) })
			}
		})
		return items
	}
	b, ok := c.take(typ)
	if !ok {
		return items
	}
	d, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		c.fail(err)
		return nil
	}
	for d.Next() {
		c.fail(decode(d.Bytes(), func(e *codec) {
			var item T
			items = append(items, pass(e, item))
		}))
	}
	c.fail(d.Err())
	return items
}
