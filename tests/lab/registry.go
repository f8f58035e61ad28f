package lab

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// Registry starts a server in the place that appends each request that it gets, as "METHOD
// path body", to a file, and answers as its behaviour says:
//
//	201, 404, 500   with that status
//	100             with that one first, and then 201
//	slow            byte by byte, within a second
//	trickle         byte by byte, for ever
//	endless         with headers for ever
//	interim         with that it goes on, for ever
//	garbage         with what is no HTTP
//	hang, hangup, reset   not
func (p Place) Registry(addr, behaviour, file string) {
	t := p.world.TB
	t.Helper()
	start(t, p.role("registry", addr+" "+behaviour+" "+file))
}

func beRegistry(args []string) error {
	f := strings.Fields(args[0])
	l, err := net.Listen("tcp", f[0])
	if err != nil {
		return err
	}
	log, err := os.OpenFile(f[2], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go answer(c.(*net.TCPConn), f[1], log)
	}
}

// answer serves one connection. What goes wrong with it, the client's test sees.
func answer(c *net.TCPConn, behaviour string, log io.Writer) {
	defer c.Close()
	if behaviour == "reset" {
		c.SetLinger(0)
		return
	}
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		fmt.Fprintf(log, "error %v\n", err)
		return
	}
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(log, "%s %s %s\n", r.Method, r.URL.Path, body)
	bytewise := func(text string, each time.Duration) (err error) {
		for i := 0; i < len(text) && err == nil; i++ {
			_, err = c.Write([]byte{text[i]})
			time.Sleep(each) // this is what is tested
		}
		return err
	}
	const created = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
	switch behaviour {
	case "100":
		io.WriteString(c, "HTTP/1.1 100 Continue\r\nX: y\r\n\r\n"+created)
	case "slow":
		bytewise(created, 5*time.Millisecond)
	case "trickle":
		bytewise(strings.Repeat("H", 1<<20), 10*time.Millisecond)
	case "endless":
		_, err := io.WriteString(c, "HTTP/1.1 100 Continue\r\n")
		for err == nil {
			_, err = io.WriteString(c, "X-More: "+strings.Repeat("x", 1<<10)+"\r\n")
		}
	case "interim":
		var err error
		for err == nil {
			_, err = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		}
	case "garbage":
		io.WriteString(c, "SSH-2.0-\x1b]0;owned\a\r\n")
	case "hang":
		io.Copy(io.Discard, c)
	case "hangup":
	default:
		fmt.Fprintf(c, "HTTP/1.1 %s Text\r\nContent-Length: 0\r\n\r\n", behaviour)
	}
}
