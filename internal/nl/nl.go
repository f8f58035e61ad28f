// Package nl is the one way from flatnet to a netlink socket: it dials,
// exchanges messages under a deadline, restarts interrupted dumps and reports
// the kernel's errors in the kernel's words. It also passes over attributes
// (see [Codec]). The meaning of messages is left to rtnl, nft and conntrack.
package nl

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// timeout bounds each wait for the kernel, because a runtime may hold its own
	// locks meanwhile. As a rule the kernel has answered when the send returns.
	timeout = 20 * time.Second
	// dumpTries bounds how often a dump is restarted because the list changed
	// meanwhile.
	dumpTries = 8
	// pipelined is the number of requests that [Conn.Each] sends at once: their
	// answers fit the receive buffer of any socket.
	pipelined = 32

	dumpInterrupted netlink.HeaderFlags = unix.NLM_F_DUMP_INTR
)

// A Conn is a netlink socket. It stays in the network namespace in which it
// was dialed, whatever its caller's thread does later. It is for one goroutine
// at a time.
type Conn struct {
	c    *netlink.Conn
	s    *socket // below c; not open in tests
	last uint32  // sequence number of the last datagram's first message; 0: none was sent
}

// Dial opens a socket of a NETLINK_* protocol in the calling thread's network
// namespace.
func Dial(protocol int) (*Conn, error) {
	s, err := open(protocol)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &Conn{c: netlink.NewConn(s, 0), s: s}, nil
}

// New wraps a connection that is open already, for tests.
func New(c *netlink.Conn) *Conn { return &Conn{c: c, s: &socket{fd: -1}} }

// Limit makes a request whose answer is longer than so many bytes fail with EMSGSIZE.
// After that the connection can only be closed.
func (c *Conn) Limit(bytes int) { c.s.limit = bytes }

// Until makes all waits end at a moment, instead of each after its own time. A wait
// that is over fails as one for the kernel's answer does.
func (c *Conn) Until(end time.Time) { c.s.end = end }

// Close closes the socket.
func (c *Conn) Close() error { return c.c.Close() }

// Join subscribes to a multicast group (RTNLGRP_*), whose messages Receive
// then returns. After that no request must be sent.
func (c *Conn) Join(group uint32) error {
	c.last = 0
	return c.s.set(unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, int(group))
}

// Do sends one request with NLM_F_REQUEST and flags, and returns the replies
// other than its acknowledgement. A request that expects no reply must ask for
// NLM_F_ACK. A dump during which the list changed (NLM_F_DUMP_INTR) is restarted;
// if that goes on, the error is EAGAIN.
func (c *Conn) Do(typ netlink.HeaderType, flags netlink.HeaderFlags, data []byte) ([]netlink.Message, error) {
	request := netlink.Message{Header: netlink.Header{Type: typ, Flags: netlink.Request | flags}, Data: data}
	interrupted := func(m netlink.Message) bool { return m.Header.Flags&dumpInterrupted != 0 }
	isAck := func(m netlink.Message) bool { return m.Header.Type == netlink.Error }
	for range dumpTries {
		if _, err := c.Send([]netlink.Message{request}); err != nil {
			return nil, err
		}
		replies, err := c.Receive()
		if err != nil || !slices.ContainsFunc(replies, interrupted) {
			return slices.DeleteFunc(replies, isAck), err
		}
	}
	return nil, fmt.Errorf("%d dumps were interrupted by changes: %w", dumpTries, unix.EAGAIN)
}

// Each sends requests that the kernel answers with one datagram each, many at a
// time. It yields the answers in the order of the requests: the reply or
// acknowledgement, or the kernel's refusal. An error of the socket itself is the
// last one. The caller may stop at any answer.
func (c *Conn) Each(requests []netlink.Message) iter.Seq2[[]netlink.Message, error] {
	return func(yield func([]netlink.Message, error) bool) {
		for some := range slices.Chunk(requests, pipelined) {
			sent, err := c.Send(some)
			if err != nil {
				yield(nil, err)
				return
			}
			for range sent {
				reply, err := c.Receive()
				if !yield(reply, err) || err != nil && Refused(err) == nil {
					return
				}
			}
		}
	}
}

// Send sends messages as one datagram and returns them with their sequence
// numbers; the caller must [Conn.Receive] the acknowledgements it asked for.
func (c *Conn) Send(msgs []netlink.Message) ([]netlink.Message, error) {
	sent, err := c.c.SendMessages(msgs)
	if err == nil {
		c.last = sent[0].Header.Sequence
	}
	return sent, readable(err)
}

// Receive waits for one datagram that answers the last one sent; answers to
// earlier ones are skipped, so that a caller need not wait for all. [Refused]
// recognizes a refused message's error.
func (c *Conn) Receive() ([]netlink.Message, error) {
	for {
		msgs, err := c.c.Receive()
		sequence := c.last
		if op := Refused(err); op != nil {
			sequence = op.Sequence
		} else if len(msgs) > 0 {
			sequence = msgs[0].Header.Sequence
		}
		if c.last == 0 || int32(sequence-c.last) >= 0 {
			return msgs, readable(err)
		}
	}
}

// Refused returns the kernel's refusal of a message, which holds the sequence
// number of that message; nil if the error is another one, such as the socket's own.
func Refused(err error) *netlink.OpError {
	var op *netlink.OpError
	if errors.As(err, &op) && op.Sequence != 0 {
		return op
	}
	return nil
}

// An opError is a kernel's refusal in the kernel's own words.
type opError struct{ *netlink.OpError }

func (e opError) Error() string {
	switch {
	case e.Timeout():
		return fmt.Sprintf("no answer from the kernel within %v", timeout)
	case e.Message != "":
		return fmt.Sprintf("%v (%s)", e.Err, e.Message)
	}
	return e.Err.Error()
}

func (e opError) Unwrap() error { return e.OpError }

func readable(err error) error {
	var op *netlink.OpError
	if errors.As(err, &op) {
		return opError{op}
	}
	return err
}
