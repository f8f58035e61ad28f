package registry

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"flatnet/bridge/model"

	"golang.org/x/sys/unix"
)

// An exchange is one HTTP request (RFC 9112) over a connection of its own, and what is read
// of the answer, which is no more than its status line.
type exchange struct {
	addr netip.AddrPort
	out  []byte // what is still to be sent
	in   []byte // what has come: at most maxAnswer bytes

	fd     int
	done   bool // the connection is closed
	status int  // of the answer; 0: there was none
	err    error
}

const (
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 8 << 10
	// atOnce bounds the connections that are open at a time.
	atOnce = 64

	// errLate is the error of an exchange that has not ended in time.
	errLate = model.Kind("no answer within a second")
)

// request returns a request of HTTP/1.1; without a body if that is nil.
func request(method, path, host string, body []byte) []byte {
	b := []byte(method + " " + path + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: flatnet\r\nConnection: close\r\n")
	if body != nil {
		b = append(b, "Content-Type: application/json\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n"...)
	}
	return append(append(b, "\r\n"...), body...)
}

// run runs exchanges, side by side, until all have ended or time is up.
func run(all []*exchange, end time.Time) {
	var active []*exchange
	for waiting := all; ; {
		for len(active) < atOnce && len(waiting) > 0 && time.Now().Before(end) { // one that is refused ends at once
			if waiting[0].open(); !waiting[0].done {
				active = append(active, waiting[0])
			}
			waiting = waiting[1:]
		}
		left := time.Until(end)
		if len(active) == 0 || left <= 0 {
			break
		}
		active = step(active, left)
	}
	for _, x := range all {
		if !x.done {
			x.finish(errLate)
		}
	}
}

// step waits until something can go on, and returns the exchanges that have not ended then.
func step(active []*exchange, limit time.Duration) (rest []*exchange) {
	fds := make([]unix.PollFd, len(active))
	for i, x := range active {
		fds[i] = unix.PollFd{Fd: int32(x.fd), Events: unix.POLLIN}
		if len(x.out) > 0 { // connecting, or sending
			fds[i].Events = unix.POLLOUT
		}
	}
	_, err := unix.Poll(fds, int(limit.Milliseconds())+1)
	for i, x := range active {
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			x.finish(err)
		case err == nil && fds[i].Revents != 0:
			x.advance()
		}
		if !x.done {
			rest = append(rest, x)
		}
	}
	return rest
}

// open begins to connect.
func (x *exchange) open() {
	family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(x.addr.Port()), Addr: x.addr.Addr().As16()})
	if a := x.addr.Addr(); a.Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Port: int(x.addr.Port()), Addr: a.As4()}
	}
	var err error
	x.fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(x.fd, to)
	}
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		x.finish(err)
	}
}

// finish closes the connection.
func (x *exchange) finish(err error) {
	if x.fd >= 0 {
		unix.Close(x.fd)
	}
	x.done, x.err = true, err
}

// advance sends or reads what can be without waiting.
func (x *exchange) advance() {
	if len(x.out) > 0 {
		n, err := unix.Write(x.fd, x.out) // also reports why connecting failed
		if err == nil {
			x.out = x.out[n:]
		} else if !again(err) {
			x.finish(err)
		}
		return
	}
	var b [1 << 10]byte
	n, err := unix.Read(x.fd, b[:])
	switch {
	case again(err):
		return
	case err == nil && n == 0:
		err = errors.New("it hung up without an answer")
	case err == nil:
		x.in = append(x.in, b[:n]...)
		var complete bool
		if complete, err = x.parse(); err == nil && !complete {
			return
		}
	}
	x.finish(err)
}

func again(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) }

// parse reports whether the status line of the final answer has come. Interim answers, such
// as 100, are skipped with their headers.
func (x *exchange) parse() (complete bool, err error) {
	for {
		in := string(x.in)
		line, _, found := strings.Cut(in, "\n")
		if !found {
			return false, x.checkSize()
		}
		version, rest, _ := strings.Cut(strings.TrimSuffix(line, "\r"), " ")
		code, _, _ := strings.Cut(rest, " ")
		status, err := strconv.ParseUint(code, 10, 16)
		if err != nil || len(code) != 3 || !strings.HasPrefix(version, "HTTP/1.") {
			return false, fmt.Errorf("%.80q is no answer of HTTP/1.1", line)
		}
		if status >= 200 {
			x.status = int(status)
			return true, nil
		}
		end := strings.Index(in, "\r\n\r\n")
		if end < 0 {
			return false, x.checkSize()
		}
		x.in = x.in[end+4:]
	}
}

func (x *exchange) checkSize() error {
	if len(x.in) > maxAnswer {
		return fmt.Errorf("no answer in %d bytes", maxAnswer)
	}
	return nil
}

// problem returns why the registry did not take a request, or "". An entry that is not there
// need not be removed.
func (x *exchange) problem(method string) string {
	absent := method == "DELETE" && (x.status == 404 || x.status == 410)
	switch {
	case x.err != nil:
		return x.err.Error()
	case x.status >= 300 && !absent:
		return "it answered with status " + strconv.Itoa(x.status)
	}
	return ""
}
