package lab

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// Drain starts a TCP server in the place that reads all that a client sends
// and then tells it at which rate that came.
func (p Place) Drain(addr string) {
	t := p.world.TB
	t.Helper()
	start(t, p.role("drain", addr))
}

// Pour sends as much as it can to a drain for some seconds and returns the rate
// at which it arrived, in bits per second, without the first skip bytes.
func (p Place) Pour(addr string, skip int64, seconds float64) (float64, error) {
	var stdout, stderr strings.Builder
	cmd := p.role("pour", fmt.Sprintf("%d %g %s", skip, seconds, addr))
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("pour to %s: %w: %s", addr, err, stderr.String())
	}
	var rate float64
	_, err := fmt.Sscan(stdout.String(), &rate)
	return rate, err
}

// Transfer sends so many bytes to a drain and returns how long their arrival took.
func (p Place) Transfer(addr string, bytes int) (time.Duration, error) {
	var stdout, stderr strings.Builder
	cmd := p.role("transfer", fmt.Sprintf("%d %s", bytes, addr))
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("transfer to %s: %w: %s", addr, err, stderr.String())
	}
	var rate float64
	_, err := fmt.Sscan(stdout.String(), &rate)
	return time.Duration(float64(bytes) * 8 / rate * float64(time.Second)), err
}

func beTransfer(args []string) error {
	var bytes int
	var addr string
	if _, err := fmt.Sscan(args[0], &bytes, &addr); err != nil {
		return err
	}
	c, err := net.DialTimeout("tcp", addr, peerTimeout)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(append(make([]byte, 8), make([]byte, bytes)...)); err != nil { // skip nothing
		return err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, c)
	return err
}

func beDrain(args []string) error {
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	go func() { // the end of its input is the end of the server
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		if err := drain(c); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		c.Close()
	}
}

func drain(c net.Conn) error {
	var skip int64
	if err := binary.Read(c, binary.BigEndian, &skip); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, c, skip); err != nil {
		return err
	}
	begin := time.Now()
	n, err := io.Copy(io.Discard, c)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(c, float64(n)*8/time.Since(begin).Seconds())
	return err
}

func bePour(args []string) error {
	var skip int64
	var seconds float64
	var addr string
	if _, err := fmt.Sscan(args[0], &skip, &seconds, &addr); err != nil {
		return err
	}
	c, err := net.DialTimeout("tcp", addr, peerTimeout)
	if err != nil {
		return err
	}
	defer c.Close()
	tcp := c.(*net.TCPConn)
	if err := tcp.SetWriteBuffer(64 << 10); err != nil { // little is under way at the end
		return err
	}
	if err := binary.Write(c, binary.BigEndian, skip); err != nil {
		return err
	}
	b := make([]byte, 64<<10)
	for end := time.Now().Add(time.Duration(seconds * float64(time.Second))); time.Now().Before(end); {
		if _, err := c.Write(b); err != nil {
			return err
		}
	}
	if err := tcp.CloseWrite(); err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, c)
	return err
}
