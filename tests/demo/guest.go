package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// guest plays a program of the demo's image, or of its machines: hello serves, and curl
// is a small one. It reports whether it was called as one of them.
func guest() bool {
	name, args := filepath.Base(os.Args[0]), os.Args[1:]
	if name != "hello" && name != "curl" && len(args) > 0 {
		name, args = args[0], args[1:]
	}
	var err error
	switch name {
	case "hello":
		err = hello(strings.Join(args, " "))
	case "curl":
		err = curl(args)
	case "measure":
		err = measure(args)
	default:
		return false
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	return true
}

// hello serves by HTTP/1.0 until it is told to end.
func hello(name string) error {
	l, err := net.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	ended := make(chan os.Signal, 1) // the first process of a container has no default action
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-ended
		os.Exit(0)
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			c.SetDeadline(time.Now().Add(limit))
			r := bufio.NewReader(c)
			for line, err := r.ReadString('\n'); err == nil && strings.TrimSpace(line) != ""; {
				line, err = r.ReadString('\n')
			}
			client, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			fmt.Fprintf(c, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nHello from %s, you are %s\n", name, client)
		}()
	}
}

// limit bounds a request.
const limit = 5 * time.Second

// curl prints what a URL has. It knows -s and -m.
func curl(args []string) error {
	if len(args) == 1 { // the demo's own: "URL SECONDS"
		if f := strings.Fields(args[0]); len(f) == 2 {
			args = []string{"-m", f[1], f[0]}
		}
	}
	wait := limit
	if i := slices.Index(args, "-m"); i >= 0 && i+1 < len(args) {
		var err error
		if wait, err = time.ParseDuration(args[i+1] + "s"); err != nil {
			return err
		}
	}
	reply, err := get(args[len(args)-1], wait)
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		err = fmt.Errorf("no answer within %v", wait)
	}
	os.Stdout.WriteString(reply)
	return err
}

// get returns the body of a page by HTTP/1.0.
func get(page string, wait time.Duration) (string, error) {
	u, err := url.Parse(page)
	if err != nil {
		return "", err
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "80")
	}
	end := time.Now().Add(wait)
	c, err := (&net.Dialer{Deadline: end}).Dial("tcp", host)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(end)
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", u.Host); err != nil {
		return "", err
	}
	reply, err := io.ReadAll(c)
	if err != nil {
		return "", err
	}
	head, body, _ := strings.Cut(string(reply), "\r\n\r\n")
	if !strings.HasPrefix(head, "HTTP/1.0 200 ") {
		return "", fmt.Errorf("the reply is %q", reply)
	}
	return body, nil
}

// image is a root file system that has this program, as hello and as curl, and nothing
// else.
func image(self string) (*bytes.Buffer, error) {
	program, err := os.ReadFile(self)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	if err := tw.WriteHeader(&tar.Header{Name: "bin/hello", Mode: 0o755, Size: int64(len(program))}); err != nil {
		return nil, err
	}
	if _, err := tw.Write(program); err != nil {
		return nil, err
	}
	if err := tw.WriteHeader(&tar.Header{Name: "bin/curl", Typeflag: tar.TypeSymlink, Linkname: "hello"}); err != nil {
		return nil, err
	}
	return &b, tw.Close()
}
