package lab

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// peerTimeout bounds a connection to a peer that does not answer.
const peerTimeout = 3 * time.Second

// Serve starts a TCP server in the place that tells each client the address it
// sees it by and hangs up.
func (p Place) Serve(addr string) {
	t := p.world.TB
	t.Helper()
	cmd := p.role("serve", addr)
	start(t, cmd)
}

// Ask connects from the place to a server and returns the address that the
// server sees.
func (p Place) Ask(addr string) (string, error) {
	var stdout, stderr strings.Builder
	cmd := p.role("ask", addr)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("ask %s: %w: %s", addr, err, stderr.String())
	}
	return stdout.String(), nil
}

func beServer(args []string) error {
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
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		if _, err := io.WriteString(c, host); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		c.Close()
	}
}

func beClient(args []string) error {
	c, err := net.DialTimeout("tcp", args[0], peerTimeout)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(peerTimeout)); err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, c)
	return err
}
