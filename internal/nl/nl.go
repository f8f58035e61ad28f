// Package nl is the one way from flatnet to a netlink socket: it dials,
// exchanges messages under a deadline, restarts interrupted dumps and reports
// the kernel's errors in the kernel's words. It also encodes and reads attributes
// (see [Attr] and [Reader]). The meaning of messages is left to rtnl, nft and conntrack.
package nl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"time"

	"flatnet/internal/trace"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// timeout bounds each wait for the kernel, because a runtime may hold its own
	// locks meanwhile. As a rule the kernel has answered when the send returns.
	timeout = 20 * time.Second
	// A dump during which the list changed is restarted after a pause, from the first to the
	// last one twice as long each time: in all 2 seconds, for storms of calls end, and the
	// caller may hold a lock for which others wait 10.
	firstPause = time.Millisecond
	lastPause  = firstPause << 10
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

// Limit makes a request whose answer is longer than so many bytes fail with EMSGSIZE, after
// which the connection can only be closed. Dumps are restarted for 15 ms at most.
func (c *Conn) Limit(bytes int) { c.s.limit = bytes }

// Until makes all waits end at a moment, instead of each after its own time. A wait
// that is over fails as one for the kernel's answer does.
func (c *Conn) Until(end time.Time) { c.s.end = end }

// Close closes the socket.
func (c *Conn) Close() error { return c.c.Close() }

// Namespace returns the number of the socket's network namespace (SO_NETNS_COOKIE).
func (c *Conn) Namespace() (cookie uint64, err error) {
	cookie, err = unix.GetsockoptUint64(c.s.fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	return cookie, os.NewSyscallError("getsockopt", err)
}

// Join subscribes to a multicast group (RTNLGRP_*), whose messages Receive
// then returns. After that no request must be sent.
func (c *Conn) Join(group uint32) error {
	c.last = 0
	return c.s.set(unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, int(group))
}

// Do sends one request with NLM_F_REQUEST and flags, and returns the replies
// other than its acknowledgement. A request that expects no reply must ask for
// NLM_F_ACK. A dump during which the list changed (NLM_F_DUMP_INTR) is restarted;
// if that goes on, the error is EAGAIN, beside what was there at some time.
func (c *Conn) Do(typ netlink.HeaderType, flags netlink.HeaderFlags, data []byte) ([]netlink.Message, error) {
	request := netlink.Message{Header: netlink.Header{Type: typ, Flags: netlink.Request | flags}, Data: data}
	interrupted := func(m netlink.Message) bool { return m.Header.Flags&dumpInterrupted != 0 }
	isAck := func(m netlink.Message) bool { return m.Header.Type == netlink.Error }
	for pause := firstPause; ; pause *= 2 {
		if _, err := c.Send([]netlink.Message{request}); err != nil {
			return nil, err
		}
		replies, err := c.Receive()
		if err != nil || !slices.ContainsFunc(replies, interrupted) {
			return slices.DeleteFunc(replies, isAck), err
		}
		if pause > lastPause || c.s.limit > 0 && pause > firstPause<<3 { // a container may change its lists for ever
			return replies, fmt.Errorf("the list changed again and again: %w", unix.EAGAIN)
		}
		time.Sleep(pause)
	}
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

const (
	// replySize holds the largest datagram that the kernel builds for a dump
	// (SKB_WITH_OVERHEAD(32768) of af_netlink.c), with room for single replies.
	replySize = 64 << 10
	// ackSize is more than the kernel's memory for one acknowledgement or capped
	// refusal (netlink_ack of af_netlink.c); fewAcks fit any socket's buffer.
	ackSize = 2048
	fewAcks = 32
)

// A socket is the blocking [netlink.Socket]. The kernel answers within the
// send, so there is never anything to poll for: the runtime's poller, which
// netlink.Dial uses, would wake a thread for each answer.
type socket struct {
	fd    int
	buf   []byte    // of one datagram
	limit int       // bytes of an answer; 0: any number
	got   int       // bytes since the last request
	end   time.Time // of all waits; zero: each has its own
	trace *trace.Socket
}

// open returns a socket of the calling thread's network namespace.
func open(protocol int) (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &socket{fd: fd, buf: make([]byte, replySize), trace: trace.Open(protocol, fd)}
	err = os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
	// These only improve texts, filters and the size of refusals: kernels before
	// 4.12, 4.20 and 4.2 go without.
	for _, option := range []int{unix.NETLINK_EXT_ACK, unix.NETLINK_GET_STRICT_CHK, unix.NETLINK_CAP_ACK} {
		if oerr := s.set(unix.SOL_NETLINK, option, 1); !errors.Is(oerr, unix.ENOPROTOOPT) {
			err = errors.Join(err, oerr)
		}
	}
	if err = errors.Join(err, s.waitAtMost(timeout)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *socket) set(level, option, value int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(s.fd, level, option, value))
}

// waitAtMost bounds a wait, which must not be 0, for the next datagram.
func (s *socket) waitAtMost(d time.Duration) error {
	limit := unix.NsecToTimeval(d.Nanoseconds())
	return os.NewSyscallError("setsockopt", unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit))
}

// Send implements [netlink.Socket].
func (s *socket) Send(m netlink.Message) error { return s.SendMessages([]netlink.Message{m}) }

// SendMessages implements [netlink.Socket]: it sends one datagram, after making
// the socket's buffers large enough for it and for an answer to each message.
func (s *socket) SendMessages(msgs []netlink.Message) error {
	var b []byte
	for _, m := range msgs {
		one, err := m.MarshalBinary()
		if err != nil {
			return err
		}
		b = append(b, one...)
	}
	if len(msgs) > fewAcks {
		s.enlarge(unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, len(msgs)*ackSize)
	}
	s.got = 0
	s.trace.Sends(b)
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	err := unix.Sendto(s.fd, b, 0, kernel)
	if errors.Is(err, unix.EMSGSIZE) { // netlink_sendmsg: nothing was sent
		s.enlarge(unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, len(b))
		if err = unix.Sendto(s.fd, b, 0, kernel); errors.Is(err, unix.EMSGSIZE) {
			err = fmt.Errorf("%d bytes are more than the host's sysctl net.core.wmem_max lets a user send: %w", len(b), err)
		}
	}
	return os.NewSyscallError("sendto", s.trace.Failed(err))
}

// enlarge sets the size of a buffer, which the kernel doubles (socket(7)). In a
// user namespace only the second option is allowed, with the sysctl's limit: if
// that is too small, the send reports it.
func (s *socket) enlarge(force, plain, size int) {
	if s.set(unix.SOL_SOCKET, force, size) != nil {
		s.set(unix.SOL_SOCKET, plain, size)
	}
}

// Receive implements [netlink.Socket]: it waits for one datagram of the kernel.
func (s *socket) Receive() ([]netlink.Message, error) {
	for {
		if !s.end.IsZero() {
			if err := s.waitAtMost(max(time.Until(s.end), time.Microsecond)); err != nil {
				return nil, err
			}
		}
		n, _, flags, from, err := unix.Recvmsg(s.fd, s.buf, nil, 0)
		switch sender, ok := from.(*unix.SockaddrNetlink); {
		case errors.Is(err, unix.EINTR):
			continue // the Go runtime sends signals
		case err != nil:
			return nil, os.NewSyscallError("recvmsg", s.trace.Failed(err))
		case !ok || sender.Pid != 0:
			continue // another process's
		case flags&unix.MSG_TRUNC != 0:
			return nil, fmt.Errorf("the kernel's answer is longer than %d bytes", len(s.buf))
		}
		s.trace.Receives(s.buf[:n])
		if s.got += n; s.limit > 0 && s.got > s.limit {
			return nil, fmt.Errorf("the answer is longer than %d bytes: %w", s.limit, unix.EMSGSIZE)
		}
		return split(append(slices.Clone(s.buf[:n]), make([]byte, align(n)-n)...))
	}
}

// ReceiveIter implements [netlink.Socket].
func (s *socket) ReceiveIter() iter.Seq2[netlink.Message, error] {
	return func(yield func(netlink.Message, error) bool) {
		msgs, err := s.Receive()
		if err != nil {
			yield(netlink.Message{}, err)
		}
		for _, m := range msgs {
			if !yield(m, nil) {
				return
			}
		}
	}
}

// Close implements [netlink.Socket].
func (s *socket) Close() error { return os.NewSyscallError("close", s.trace.Close(unix.Close(s.fd))) }

// align is NLMSG_ALIGN of linux/netlink.h.
func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// split divides a datagram, whose length must be aligned, into its messages, which
// share its memory; none, if one of them is malformed.
func split(b []byte) (msgs []netlink.Message, err error) {
	for len(b) > 0 {
		var m netlink.Message
		if err := m.UnmarshalBinary(b); err != nil {
			return nil, err
		}
		b = b[min(align(int(m.Header.Length)), len(b)):]
		if m.Header.Type == netlink.Error && m.Header.Flags&netlink.Capped != 0 {
			uncap(m.Data)
		}
		msgs = append(msgs, m)
	}
	return msgs, nil
}

// uncap makes the request's header in a capped refusal (struct nlmsgerr: errno,
// header), which has lost what followed that header, agree with it: mdlayher/netlink
// looks for the extended acknowledgement behind the length that the header gives.
func uncap(refusal []byte) {
	if errno := 4; len(refusal) >= errno+unix.NLMSG_HDRLEN {
		binary.NativeEndian.PutUint32(refusal[errno:], unix.NLMSG_HDRLEN)
	}
}
