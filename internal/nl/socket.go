package nl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
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

// open returns a socket of the calling thread's network namespace, and its
// port ID.
func open(protocol int) (*socket, uint32, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, 0, os.NewSyscallError("socket", err)
	}
	s := &socket{fd: fd}
	pid, err := s.prepare()
	if err != nil {
		return nil, 0, errors.Join(err, s.Close())
	}
	return s, pid, nil
}

func (s *socket) prepare() (uint32, error) {
	if err := unix.Bind(s.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, os.NewSyscallError("bind", err)
	}
	addr, err := unix.Getsockname(s.fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	own, ok := addr.(*unix.SockaddrNetlink)
	if !ok {
		return 0, fmt.Errorf("getsockname: %T", addr)
	}
	// These only improve texts, filters and the size of refusals: kernels before
	// 4.12, 4.20 and 4.2 go without.
	for _, option := range []int{unix.NETLINK_EXT_ACK, unix.NETLINK_GET_STRICT_CHK, unix.NETLINK_CAP_ACK} {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, option, 1); err != nil && !errors.Is(err, unix.ENOPROTOOPT) {
			return 0, os.NewSyscallError("setsockopt", err)
		}
	}
	return own.Pid, s.waitAtMost(timeout)
}

// waitAtMost bounds a wait, which must not be 0, for the next datagram.
func (s *socket) waitAtMost(d time.Duration) error {
	limit := unix.NsecToTimeval(d.Nanoseconds())
	return os.NewSyscallError("setsockopt", unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit))
}

// Send implements [netlink.Socket].
func (s *socket) Send(m netlink.Message) error { return s.SendMessages([]netlink.Message{m}) }

// ackSize is more than the kernel's memory for one acknowledgement or capped
// refusal (netlink_ack of af_netlink.c); fewAcks fit any socket's buffer.
const (
	ackSize = 2048
	fewAcks = 32
)

// SendMessages implements [netlink.Socket]: it sends one datagram, after making
// the socket's buffers large enough for it and for an answer to each message.
func (s *socket) SendMessages(msgs []netlink.Message) error {
	size := 0
	for _, m := range msgs {
		size += unix.NLMSG_HDRLEN + align(len(m.Data))
	}
	b := make([]byte, 0, size)
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
	err := s.sendto(b)
	if errors.Is(err, unix.EMSGSIZE) { // netlink_sendmsg: nothing was sent
		s.enlarge(unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, len(b))
		err = s.sendto(b)
	}
	return os.NewSyscallError("sendto", err)
}

func (s *socket) sendto(b []byte) error {
	s.got = 0
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	_, err := again(func() (int, error) { return len(b), unix.Sendto(s.fd, b, 0, kernel) })
	return err
}

// enlarge sets the size of a buffer, which the kernel doubles (socket(7)). In a
// user namespace only the second option is allowed, with the sysctl's limit: if
// that is too small, the send reports it.
func (s *socket) enlarge(force, plain, size int) {
	if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, force, size) != nil {
		unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, plain, size)
	}
}

// Receive implements [netlink.Socket]: it waits for one datagram.
func (s *socket) Receive() ([]netlink.Message, error) {
	if s.buf == nil {
		s.buf = make([]byte, replySize)
	}
	for {
		if !s.end.IsZero() {
			if err := s.waitAtMost(max(time.Until(s.end), time.Microsecond)); err != nil {
				return nil, err
			}
		}
		var flags int
		var from unix.Sockaddr
		n, err := again(func() (n int, err error) {
			n, _, flags, from, err = unix.Recvmsg(s.fd, s.buf, nil, 0)
			return n, err
		})
		switch sender, ok := from.(*unix.SockaddrNetlink); {
		case err != nil:
			return nil, os.NewSyscallError("recvmsg", err)
		case !ok || sender.Pid != 0:
			continue // another process's: only the kernel is listened to
		case flags&unix.MSG_TRUNC != 0:
			return nil, fmt.Errorf("the kernel's answer is longer than %d bytes", len(s.buf))
		}
		if s.got += n; s.limit > 0 && s.got > s.limit {
			return nil, fmt.Errorf("the answer is longer than %d bytes: %w", s.limit, unix.EMSGSIZE)
		}
		b := make([]byte, align(n))
		copy(b, s.buf[:n])
		return split(b)
	}
}

// ReceiveIter implements [netlink.Socket].
func (s *socket) ReceiveIter() iter.Seq2[netlink.Message, error] {
	return func(yield func(netlink.Message, error) bool) {
		msgs, err := s.Receive()
		if err != nil {
			yield(netlink.Message{}, err)
			return
		}
		for _, m := range msgs {
			if !yield(m, nil) {
				return
			}
		}
	}
}

// JoinGroup subscribes to a multicast group.
func (s *socket) JoinGroup(group uint32) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, int(group)))
}

// LeaveGroup ends a subscription.
func (s *socket) LeaveGroup(group uint32) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_DROP_MEMBERSHIP, int(group)))
}

// Close implements [netlink.Socket].
func (s *socket) Close() error { return os.NewSyscallError("close", unix.Close(s.fd)) }

// again repeats a call that a signal interrupted; the Go runtime sends some.
func again(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// align is NLMSG_ALIGN of linux/netlink.h.
func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// split takes a datagram apart, whose length must be aligned. The messages
// share its memory.
func split(b []byte) ([]netlink.Message, error) {
	var msgs []netlink.Message
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

const errnoSize = 4 // struct nlmsgerr

// uncap makes the request's header in a capped refusal, which has lost what
// followed that header, agree with it: mdlayher/netlink looks for the extended
// acknowledgement behind the length that the header says.
func uncap(refusal []byte) {
	if len(refusal) >= errnoSize+unix.NLMSG_HDRLEN {
		binary.NativeEndian.PutUint32(refusal[errnoSize:], unix.NLMSG_HDRLEN)
	}
}
