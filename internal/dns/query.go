package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// port is that of DNS (RFC 1035, section 4.2), and the one that containers use.
const port = 53

// replyWait is how long one question waits for its answer.
const replyWait = 100 * time.Millisecond

// header is the one of our questions (RFC 1035, section 4.1.1): an ID, the flag
// RD, for the server to forward what it can't answer, and one question.
const header = "fn\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"

// ask asks a server for a name's IPv4 or IPv6 address once.
func ask(server netip.AddrPort, name string, ipv6 bool) error {
	addr, port := server.Addr(), int(server.Port())
	family, sockaddr := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: port, Addr: addr.As16()})
	if addr.Is4() {
		family, sockaddr = unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: addr.As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	c := os.NewFile(uintptr(fd), server.String())
	defer c.Close()
	if err := errors.Join(unix.Connect(fd, sockaddr), c.SetDeadline(time.Now().Add(replyWait))); err != nil {
		return err
	}
	if _, err := c.Write(encodeQuestion(name, ipv6)); err != nil {
		return err
	}
	reply := make([]byte, 512) // RFC 1035, section 4.2.1
	n, err := c.Read(reply)
	if err != nil {
		return err
	}
	return decodeAnswer(reply[:n])
}

// question returns the name by which the server is asked for the record: one in
// ASCII, if there is any, and in lower case, because that is how older servers
// look names up.
func (r Record) question() string {
	ascii := slices.IndexFunc(r.Names, func(name string) bool {
		return !strings.ContainsFunc(name, func(c rune) bool { return c > 0x7e })
	})
	return strings.ToLower(r.Names[max(ascii, 0)]) + "." + SearchDomain
}

func encodeQuestion(name string, ipv6 bool) []byte {
	b := []byte(header)
	for label := range strings.SplitSeq(name, ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	kind := byte(1) // A (RFC 1035, section 3.2.2)
	if ipv6 {
		kind = 28 // AAAA (RFC 3596, section 2.1)
	}
	return append(b, 0, 0, kind, 0, 1) // the root, QTYPE, QCLASS IN
}

// decodeAnswer returns nil for a reply with an answer.
func decodeAnswer(b []byte) error {
	if len(b) < len(header) || string(b[:2]) != header[:2] || b[2]&0x80 == 0 { // ID, QR
		return errors.New("no reply to the question")
	}
	if code := b[3] & 0xf; code != 0 { // RCODE
		return fmt.Errorf("the name is not known (response code %d)", code)
	}
	if binary.BigEndian.Uint16(b[6:]) == 0 { // ANCOUNT
		return errors.New("the name has no address")
	}
	return nil
}
