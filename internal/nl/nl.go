// Package nl is the one way from flatnet to a netlink socket: it dials,
// exchanges messages under a deadline, restarts interrupted dumps and makes
// the kernel's errors readable. What the messages mean is for rtnl and nft.
package nl

import (
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// timeout bounds each wait for the kernel, so that nobody waits for ever: a
	// runtime may hold its own locks meanwhile. As a rule the kernel has answered
	// when the send returns.
	timeout = 20 * time.Second
	// replySize holds the largest datagram that the kernel builds for a dump
	// (SKB_WITH_OVERHEAD(32768) of af_netlink.c), with room for single replies.
	replySize = 64 << 10
	// dumpTries bounds how often a dump is begun anew because what it lists
	// changed meanwhile.
	dumpTries = 8
)

// pipelined is how many requests [Conn.Each] sends at once: their answers fit the
// receive buffer of any socket.
const pipelined = 32

// NLM_F_DUMP_INTR of linux/netlink.h.
const dumpInterrupted netlink.HeaderFlags = unix.NLM_F_DUMP_INTR

// A Conn is a netlink socket. It stays in the network namespace in which it
// was dialed, whatever its caller's thread does later.
type Conn struct {
	c *netlink.Conn
	s *socket // below c; nil in tests
}

// Dial opens a socket of a NETLINK_* protocol in the calling thread's network
// namespace.
func Dial(protocol int) (*Conn, error) {
	s, pid, err := open(protocol)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &Conn{netlink.NewConn(s, pid), s}, nil
}

// New wraps a connection that is open already.
func New(c *netlink.Conn) *Conn { return &Conn{c: c} }

// Limit makes a request whose answer is longer than so many bytes fail with EMSGSIZE.
// After that the connection can only be closed.
func (c *Conn) Limit(bytes int) {
	if c.s != nil {
		c.s.limit = bytes
	}
}

// Until makes all waits end at a moment, instead of each after its own time. A wait
// that is over fails as one for the kernel's answer does.
func (c *Conn) Until(end time.Time) {
	if c.s != nil {
		c.s.end = end
	}
}

// Close closes the socket.
func (c *Conn) Close() error { return c.c.Close() }

// Do sends one request with NLM_F_REQUEST and flags, and returns the replies
// other than its acknowledgement. A request that expects no reply must ask for
// NLM_F_ACK.
func (c *Conn) Do(typ netlink.HeaderType, flags netlink.HeaderFlags, data []byte) ([]netlink.Message, error) {
	replies, err := c.c.Execute(netlink.Message{
		Header: netlink.Header{Type: typ, Flags: netlink.Request | flags},
		Data:   data,
	})
	if err != nil {
		return nil, readable(err)
	}
	out := replies[:0]
	for _, m := range replies {
		if m.Header.Type != netlink.Error {
			out = append(out, m)
		}
	}
	return out, nil
}

// Each sends requests that the kernel answers with one message each, many at a
// time, and passes each answer on, in the order of the requests: the reply or
// acknowledgement, or the kernel's refusal. The first error that answered returns
// ends it, when all answers to what was sent have been read. An error of the socket
// itself ends it at once.
func (c *Conn) Each(requests []netlink.Message, answered func(i int, reply netlink.Message, err error) error) error {
	for start := 0; start < len(requests); start += pipelined {
		sent, err := c.Send(requests[start:min(start+pipelined, len(requests))])
		if err != nil {
			return err
		}
		var first error
		for i, request := range sent {
			reply, err := c.answer(request)
			if err != nil && !refused(err, request) {
				return err // and what follows would be waited for in vain
			}
			if first == nil {
				first = answered(start+i, reply, err)
			}
		}
		if first != nil {
			return first
		}
	}
	return nil
}

var errAnswer = errors.New("an answer to another request")

// answer waits for the one answer to a request.
func (c *Conn) answer(request netlink.Message) (netlink.Message, error) {
	msgs, err := c.Receive()
	if err != nil {
		return netlink.Message{}, err
	}
	if len(msgs) != 1 || msgs[0].Header.Sequence != request.Header.Sequence {
		return netlink.Message{}, errAnswer
	}
	return msgs[0], nil
}

// refused reports whether an error is the kernel's answer to a request.
func refused(err error, request netlink.Message) bool {
	var op *netlink.OpError
	return errors.As(err, &op) && op.Sequence == request.Header.Sequence
}

// Dump lists what a NLM_F_DUMP request finds. A dump during which the list
// changed (NLM_F_DUMP_INTR) is begun anew, and is an error if that goes on.
func (c *Conn) Dump(typ netlink.HeaderType, data []byte) ([]netlink.Message, error) {
	for range dumpTries {
		replies, err := c.Do(typ, netlink.Dump, data)
		if err != nil {
			return nil, err
		}
		if !interrupted(replies) {
			return replies, nil
		}
	}
	return nil, fmt.Errorf("%d dumps were interrupted by changes: %w", dumpTries, unix.EAGAIN)
}

func interrupted(replies []netlink.Message) bool {
	for _, m := range replies {
		if m.Header.Flags&dumpInterrupted != 0 {
			return true
		}
	}
	return false
}

// Join subscribes to a multicast group (RTNLGRP_*), whose messages Receive
// then returns.
func (c *Conn) Join(group uint32) error { return readable(c.c.JoinGroup(group)) }

// Send sends messages as one datagram and returns them with their sequence
// numbers; the caller must [Conn.Receive] the acknowledgements it asked for.
func (c *Conn) Send(msgs []netlink.Message) ([]netlink.Message, error) {
	sent, err := c.c.SendMessages(msgs)
	return sent, readable(err)
}

// Receive waits for one datagram. The error of a refused message is a
// [netlink.OpError] that holds its sequence number.
func (c *Conn) Receive() ([]netlink.Message, error) {
	msgs, err := c.c.Receive()
	return msgs, readable(err)
}

// An opError is a kernel's refusal in the kernel's own words.
type opError struct{ op *netlink.OpError }

func (e opError) Error() string {
	switch {
	case e.op.Timeout():
		return fmt.Sprintf("no answer from the kernel within %v", timeout)
	case e.op.Message != "":
		return fmt.Sprintf("%v (%s)", e.op.Err, e.op.Message)
	}
	return e.op.Err.Error()
}

func (e opError) Unwrap() error { return e.op }

func readable(err error) error {
	var op *netlink.OpError
	if errors.As(err, &op) {
		return opError{op}
	}
	return err
}
