package trace

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Socket is a traced netlink socket; nil: the trace is off. It is for one goroutine at a time.
type Socket struct {
	tracer
	name     string
	protocol int
	pending  []*request // sent, and not written yet
}

// A request is a message that was sent.
type request struct {
	typ, flags uint16
	sequence   uint32

	begin   time.Time
	text    string
	replies int
	last    string // the only reply
}

// A header is struct nlmsghdr of linux/netlink.h, with what follows it.
type header struct {
	typ, flags uint16
	sequence   uint32
	data       []byte
}

// Open begins the trace of a socket of a NETLINK_* protocol.
func Open(protocol, fd int) *Socket {
	began, on := start()
	if !on {
		return nil
	}
	s := &Socket{tracer: tracer{began, os.Stderr}, protocol: protocol}
	s.name = fmt.Sprintf("%s#%d", protocolName(protocol), fd)
	netns, _ := os.Readlink("/proc/thread-self/ns/net")
	s.line(time.Now(), s.name+" socket in "+quote([]byte(netns)))
	return s
}

func protocolName(protocol int) string {
	switch protocol {
	case unix.NETLINK_ROUTE:
		return "route"
	case unix.NETLINK_NETFILTER:
		return "netfilter"
	case unix.NETLINK_SOCK_DIAG:
		return "sock_diag"
	}
	return fmt.Sprintf("netlink-%d", protocol)
}

// Sends records the messages of a datagram that is about to be sent.
func (s *Socket) Sends(datagram []byte) {
	if s == nil {
		return
	}
	s.flush(nil)
	for _, h := range messages(datagram) {
		s.pending = append(s.pending, &request{typ: h.typ, flags: h.flags, sequence: h.sequence, text: s.decode(h, true)})
	}
	begin := time.Now() // the kernel works while they are sent
	for _, r := range s.pending {
		r.begin = begin
	}
}

// Receives records the messages of a datagram that was received.
func (s *Socket) Receives(datagram []byte) {
	if s == nil {
		return
	}
	for _, h := range messages(datagram) {
		r := s.until(h.sequence)
		switch end, outcome := outcome(h); {
		case r == nil: // a notification, or the answer to a message that is forgotten
			s.line(time.Now(), s.name+" < "+s.decode(h, false))
		case !end:
			r.replies++
			r.last = s.decode(h, false)
			if h.flags&unix.NLM_F_MULTI == 0 && r.flags&unix.NLM_F_ACK == 0 {
				s.finish("")
			}
		default:
			s.finish(outcome)
		}
		if !slices.ContainsFunc(s.pending, s.answered) { // such as the end of a batch
			s.flush(nil)
		}
	}
}

// outcome reports whether a message ends the answer to a request, and how.
func outcome(h header) (end bool, text string) {
	data := h.data
	if h.typ != unix.NLMSG_ERROR && h.typ != unix.NLMSG_DONE {
		return false, ""
	}
	text = "ack"
	if h.typ == unix.NLMSG_DONE {
		text = ""
	}
	if len(data) < 4 { // the error number
		return true, text
	}
	if errno := -int32(binary.NativeEndian.Uint32(data)); errno != 0 {
		text = errnoText(errno)
	}
	if said := extendedAck(h); said != "" {
		text = strings.TrimSpace(text + " (" + said + ")")
	}
	return true, text
}

// errnoText returns the name of an error number that netlink uses (asm-generic/errno.h), or the
// number.
func errnoText(errno int32) string {
	const names = "EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV ENODEV " +
		"ENOTDIR EISDIR EINVAL ENFILE EMFILE =27 EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE =36 ENAMETOOLONG =40 ELOOP =54 EXFULL " +
		"=61 ENODATA =71 EPROTO =75 EOVERFLOW =85 ERESTART =93 EPROTONOSUPPORT =95 EOPNOTSUPP =97 EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL " +
		"ENETDOWN ENETUNREACH =105 ENOBUFS =113 EHOSTUNREACH EALREADY"
	if name, _ := find(names, uint16(errno)); name != "" && errno > 0 && errno < 200 {
		return name
	}
	return fmt.Sprintf("errno %d", errno)
}

// extendedAck returns the text of an extended acknowledgement (enum nlmsgerr_attrs): it follows the
// errno and, after an error, the request or its header.
func extendedAck(h header) (said string) {
	data, at := h.data, 4
	if h.typ == unix.NLMSG_ERROR {
		at += unix.NLMSG_HDRLEN
		if h.flags&unix.NLM_F_CAPPED == 0 && len(data) >= at {
			at = 4 + align(int(binary.NativeEndian.Uint32(data[4:])))
		}
	}
	if h.flags&unix.NLM_F_ACK_TLVS == 0 || at < 4 || at > len(data) {
		return ""
	}
	for _, a := range attributes(data[at:]) {
		if a.typ == unix.NLMSGERR_ATTR_MSG {
			said = quote(trimNUL(a.payload))
		}
	}
	return said
}

// until writes the requests before the one with a sequence number, which need no answer, and
// returns that one, or nil if there is none.
func (s *Socket) until(sequence uint32) *request {
	for i, r := range s.pending {
		if r.sequence == sequence {
			s.flush(s.pending[i:])
			return r
		}
	}
	return nil
}

// flush writes requests that got no answer, except those of rest, the last ones.
func (s *Socket) flush(rest []*request) {
	for len(s.pending) > len(rest) {
		s.finish("")
	}
}

// answered reports whether the kernel answers a request that succeeds.
func (s *Socket) answered(r *request) bool {
	return r.flags&unix.NLM_F_ACK != 0 || isGet(s.protocol, r.typ)
}

// finish writes the first request with its outcome.
func (s *Socket) finish(outcome string) {
	r := s.pending[0]
	s.pending = s.pending[1:]
	dump := r.flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP && isGet(s.protocol, r.typ)
	switch {
	case outcome == "" && r.replies == 0 && !dump && s.answered(r):
		outcome = "no answer"
	case outcome == "" && r.replies == 0 && !dump:
		s.write(r.begin, "- "+s.name+" "+r.text+" = no answer asked for")
	case r.replies == 1 && !dump:
		outcome = r.last + " " + outcome
	case r.replies == 1:
		outcome = "1 message " + outcome
	case r.replies > 1 || dump:
		outcome = fmt.Sprintf("%d messages %s", r.replies, outcome)
	}
	if outcome != "" {
		s.line(r.begin, s.name+" "+r.text+" = "+strings.TrimSpace(outcome))
	}
}

// Failed records that the socket could not send or receive, and returns the error.
func (s *Socket) Failed(err error) error {
	if s != nil && err != nil {
		s.flush(nil)
		s.line(time.Now(), s.name+" failed: "+quote([]byte(err.Error())))
	}
	return err
}

// Close ends the trace of the socket that was closed, and returns close's error.
func (s *Socket) Close(err error) error {
	if s != nil {
		s.flush(nil)
	}
	return err
}
