package lab

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// ServeUDP starts a UDP server in the place that answers each datagram with its
// own address and the client's.
func (p Place) ServeUDP(addr string) {
	t := p.world.TB
	t.Helper()
	start(t, p.role("serve-udp", addr))
}

// AskUDP sends one datagram, from a port of the client's choice, and returns
// the answer. With port 0 the kernel chooses.
func (p Place) AskUDP(addr string, port int) (string, error) {
	var stdout, stderr strings.Builder
	cmd := p.role("ask-udp", fmt.Sprintf("%d %s", port, addr))
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("ask %s: %w: %s", addr, err, stderr.String())
	}
	return stdout.String(), nil
}

func beUDPServer(args []string) error {
	c, err := net.ListenPacket("udp", args[0])
	if err != nil {
		return err
	}
	go func() { // the end of its input is the end of the server
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println("ready")
	for b := make([]byte, 64); ; {
		_, from, err := c.ReadFrom(b)
		if err != nil {
			return err
		}
		host, _, _ := net.SplitHostPort(from.String())
		own, _, _ := net.SplitHostPort(args[0])
		if _, err := c.WriteTo([]byte(own+" to "+host), from); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

func beUDPClient(args []string) error {
	var port int
	var addr string
	if _, err := fmt.Sscan(args[0], &port, &addr); err != nil {
		return err
	}
	d := net.Dialer{LocalAddr: &net.UDPAddr{Port: port}}
	c, err := d.Dial("udp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(udpTimeout)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("?")); err != nil {
		return err
	}
	b := make([]byte, 256)
	n, err := c.Read(b)
	if err == nil {
		_, err = os.Stdout.Write(b[:n])
	}
	return err
}

// udpTimeout is how long an answer may take on a busy machine: one that does not come
// costs a test this.
const udpTimeout = peerTimeout
