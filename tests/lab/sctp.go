package lab

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// ServeSCTP starts a server in the place that refuses each SCTP association:
// that is an answer, too, and the kernel needs no SCTP for it. The address is
// of IPv4.
func (p Place) ServeSCTP(addr string) {
	t := p.world.TB
	t.Helper()
	start(t, p.role("serve-sctp", addr))
}

// AskSCTP asks for an association and waits for an answer from the address and
// port that it asked.
func (p Place) AskSCTP(addr string) error {
	var stderr strings.Builder
	cmd := p.role("ask-sctp", addr)
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("ask %s: %w: %s", addr, err, stderr.String())
	}
	return nil
}

// Chunks of RFC 9260.
const (
	sctpInit  = 1
	sctpAbort = 6

	sctpTag = 0x666c6174 // Initiate Tag
)

// sctp is a packet of one chunk (RFC 9260, section 3).
func sctp(from, to uint16, tag uint32, chunk byte, value []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, from)
	b = binary.BigEndian.AppendUint16(b, to)
	b = binary.BigEndian.AppendUint32(b, tag)
	b = append(b, 0, 0, 0, 0, chunk, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(value)))
	b = append(b, value...)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func beSCTPServer(args []string) error {
	host, own, err := splitPort(args[0])
	if err != nil {
		return err
	}
	c, err := net.ListenPacket("ip4:132", host)
	if err != nil {
		return err
	}
	go func() { // the end of its input is the end of the server
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println("ready")
	for b := make([]byte, 2048); ; {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return err
		}
		if n < 16 || b[12] != sctpInit || binary.BigEndian.Uint16(b[2:]) != own {
			continue
		}
		answer := sctp(own, binary.BigEndian.Uint16(b), sctpTag, sctpAbort, nil)
		if _, err := c.WriteTo(answer, from); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

func beSCTPClient(args []string) error {
	host, port, err := splitPort(args[0])
	if err != nil {
		return err
	}
	to, err := net.ResolveIPAddr("ip4", host)
	if err != nil {
		return err
	}
	c, err := net.ListenPacket("ip4:132", "0.0.0.0")
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(udpTimeout)); err != nil {
		return err
	}
	init := binary.BigEndian.AppendUint32(nil, sctpTag)
	init = append(init, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1) // a_rwnd, streams, initial TSN
	if _, err := c.WriteTo(sctp(40000, port, 0, sctpInit, init), to); err != nil {
		return err
	}
	for b := make([]byte, 2048); ; {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return err
		}
		if n >= 16 && from.String() == host && b[12] == sctpAbort && binary.BigEndian.Uint16(b) == port {
			return nil
		}
	}
}

func splitPort(addr string) (host string, port uint16, err error) {
	host, s, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return host, uint16(n), err
}
