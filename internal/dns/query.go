package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// port is that of DNS (RFC 1035, section 4.2), and the one that containers use.
const port = 53

const (
	// replyWait is how long one question waits for its answer.
	replyWait = 100 * time.Millisecond
	// pause is how long to wait after an answer that is not the right one yet.
	pause = 10 * time.Millisecond
)

// Header fields of RFC 1035, section 4.1.1, and types of sections 3.2.2 and
// RFC 3596, section 2.1.
const (
	headerSize       = 12
	flagResponse     = 1 << 15
	maskRcode        = 0xf
	typeA            = 1
	typeAAAA         = 28
	classIN          = 1
	questionID       = 0x666e
	flagWantsForward = 1 << 8 // RD
)

// ask asks a server for a name once. It takes at least a pause to fail, so that
// a loop of questions is no flood.
func ask(server netip.AddrPort, name string, ipv6 bool) error {
	c, err := dial(server)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(replyWait)); err != nil {
		return err
	}
	query := encodeQuestion(name, ipv6)
	if _, err := c.Write(query); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	reply := make([]byte, 512) // RFC 1035, section 4.2.1
	n, err := c.Read(reply)
	if err == nil {
		err = decodeAnswer(reply[:n])
	}
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if err := c.SetDeadline(time.Now().Add(pause)); err != nil {
		return err
	}
	c.Read(reply) // nothing more comes, but the end of the pause
	return err
}

// dial returns a UDP socket that is connected to the server.
func dial(server netip.AddrPort) (*os.File, error) {
	family, sockaddr := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(server.Port()), Addr: server.Addr().As4()})
	if server.Addr().Is6() {
		family, sockaddr = unix.AF_INET6, &unix.SockaddrInet6{Port: int(server.Port()), Addr: server.Addr().As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, sockaddr); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), server.String()), nil
}

// question is the name by which the server is asked for the record. It is in
// lower case, for older servers know names in no other, and in ASCII.
func (r Record) question() string {
	name := r.Names[0]
	for _, n := range r.Names {
		if !strings.ContainsFunc(n, func(c rune) bool { return c > 0x7e }) {
			name = n
			break
		}
	}
	return strings.ToLower(name) + "." + SearchDomain
}

func encodeQuestion(name string, ipv6 bool) []byte {
	b := make([]byte, headerSize, 512)
	binary.BigEndian.PutUint16(b[0:], questionID)
	binary.BigEndian.PutUint16(b[2:], flagWantsForward)
	binary.BigEndian.PutUint16(b[4:], 1) // QDCOUNT
	for label := range strings.SplitSeq(name, ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	b = append(b, 0)
	kind := uint16(typeA)
	if ipv6 {
		kind = typeAAAA
	}
	b = binary.BigEndian.AppendUint16(b, kind)
	return binary.BigEndian.AppendUint16(b, classIN)
}

// decodeAnswer returns nil for a reply that has an answer.
func decodeAnswer(b []byte) error {
	if len(b) < headerSize || binary.BigEndian.Uint16(b) != questionID || binary.BigEndian.Uint16(b[2:])&flagResponse == 0 {
		return errors.New("no reply to the question")
	}
	if code := binary.BigEndian.Uint16(b[2:]) & maskRcode; code != 0 {
		return fmt.Errorf("the name is not known (response code %d)", code)
	}
	if binary.BigEndian.Uint16(b[6:]) == 0 { // ANCOUNT
		return errors.New("the name has no address")
	}
	return nil
}
