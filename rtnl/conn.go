// Package rtnl speaks rtnetlink(7): links, addresses and routes, one file per
// kernel noun. Encoding and decoding are pure; what the messages are for is
// the bridge package's business.
package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"

	"flatnet/internal/nl"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Conn is an rtnetlink socket. It works on the network namespace in which it
// was dialed.
type Conn struct{ nl *nl.Conn }

// Dial opens an rtnetlink socket in the calling thread's network namespace.
func Dial() (*Conn, error) {
	c, err := nl.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("rt%w", err)
	}
	return New(c), nil
}

// New uses a connection that is open already.
func New(c *nl.Conn) *Conn { return &Conn{c} }

// Close closes the socket.
func (c *Conn) Close() error { return c.nl.Close() }

// Untrusted bounds answers to maxUntrusted bytes each, which then fail with EMSGSIZE:
// for a namespace in which somebody else decides how much there is to list.
func (c *Conn) Untrusted() { c.nl.Limit(maxUntrusted) }

// maxUntrusted is some 10,000 addresses or routes of one link.
const maxUntrusted = 1 << 20

// ack sends a request that is answered by its acknowledgement alone.
func (c *Conn) ack(typ netlink.HeaderType, flags netlink.HeaderFlags, data []byte, err error) error {
	if err != nil {
		return err
	}
	_, err = c.nl.Do(typ, flags|netlink.Acknowledge, data)
	return err
}

// dump lists objects. One that decode refuses is left out: it is of an address
// family, or in a form, that this package can't read, and that is no reason why the
// others can't be listed.
func dump[T any](c *Conn, typ netlink.HeaderType, data []byte, decode func([]byte) (T, error)) ([]T, error) {
	msgs, err := c.nl.Dump(typ, data)
	if err != nil {
		return nil, err
	}
	out := make([]T, 0, len(msgs))
	for _, m := range msgs {
		if v, err := decode(m.Data); err == nil {
			out = append(out, v)
		}
	}
	return out, nil
}

var errShort = errors.New("rtnetlink message is too short")

// split takes a message's fixed header off and begins decoding its attributes.
func split(b []byte, header int) ([]byte, *netlink.AttributeDecoder, error) {
	if len(b) < header {
		return nil, nil, errShort
	}
	ad, err := netlink.NewAttributeDecoder(b[header:])
	return b[:header], ad, err
}

// encode puts a message's attributes behind its fixed header.
func encode(header []byte, attrs func(*netlink.AttributeEncoder)) ([]byte, error) {
	ae := netlink.NewAttributeEncoder()
	attrs(ae)
	b, err := ae.Encode()
	return append(header, b...), err
}

var native = binary.NativeEndian
