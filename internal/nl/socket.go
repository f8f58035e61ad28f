package nl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

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
}

// open returns a socket of the calling thread's network namespace.
func open(protocol int) (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &socket{fd: fd, buf: make([]byte, replySize)}
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
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	err := unix.Sendto(s.fd, b, 0, kernel)
	if errors.Is(err, unix.EMSGSIZE) { // netlink_sendmsg: nothing was sent
		s.enlarge(unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, len(b))
		err = unix.Sendto(s.fd, b, 0, kernel)
	}
	return os.NewSyscallError("sendto", err)
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
			return nil, os.NewSyscallError("recvmsg", err)
		case !ok || sender.Pid != 0:
			continue // another process's
		case flags&unix.MSG_TRUNC != 0:
			return nil, fmt.Errorf("the kernel's answer is longer than %d bytes", len(s.buf))
		}
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
func (s *socket) Close() error { return os.NewSyscallError("close", unix.Close(s.fd)) }

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
