package registry

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"flatnet/bridge/model"
	"flatnet/internal/span"

	"golang.org/x/sys/unix"
)

// A server is a registry and the requests that it is to get.
type server struct {
	url      string // as it was configured
	endpoint span.Endpoint
	method   string
	body     []byte
	ids      []string // without a request so far

	open    int    // its connections
	failed  int    // IDs that it did not take
	problem string // with the first of these
}

// An exchange is one HTTP request (RFC 9112) over a connection of its own, and what is read
// of the answer, which is no more than its status line.
type exchange struct {
	to   *server
	out  []byte // what is still to be sent
	in   []byte // what has come, without interim answers
	read int    // the bytes that have come: at most maxAnswer

	fd     int
	begun  bool // to connect, or more
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

// run sends the servers' requests, side by side, until all have ended or time is up. Each server
// has the same share of the connections, so that one that doesn't answer takes none of another's.
func run(servers []*server, end time.Time) {
	share := max(1, atOnce/max(1, len(servers)))
	var active []*exchange
	for {
		for _, s := range servers {
			for s.open < share && len(s.ids) > 0 {
				if x := s.next(); !x.done {
					active = append(active, x)
				}
			}
		}
		left := time.Until(end)
		if len(active) == 0 || left <= 0 {
			break
		}
		active = step(active, left)
	}
	for _, x := range active {
		x.finish(errLate)
	}
	for _, s := range servers {
		s.fail(len(s.ids), errLate.Error())
	}
}

// next begins the request for the next of a server's IDs. The path of an ID is below the
// server's; that of "" is its own.
func (s *server) next() *exchange {
	id, path := s.ids[0], s.endpoint.Path
	if id != "" {
		path = strings.TrimSuffix(path, "/") + "/" + id
	}
	s.ids = s.ids[1:]
	s.open++
	x := &exchange{fd: -1, to: s, out: request(s.method, path, s.endpoint.Addr.String(), s.body)}
	x.open()
	return x
}

// ended counts an exchange that has ended. A server that can't be reached gets no more requests.
func (s *server) ended(x *exchange) {
	s.open--
	problem := x.problem(s.method)
	if problem == "" {
		return
	}
	s.fail(1, problem)
	if !x.begun || errors.Is(x.err, unix.ECONNREFUSED) || errors.Is(x.err, unix.EHOSTUNREACH) {
		s.fail(len(s.ids), problem)
		s.ids = nil
	}
}

// fail counts IDs that a server did not take.
func (s *server) fail(n int, problem string) {
	if s.failed == 0 && n > 0 {
		s.problem = problem
	}
	s.failed += n
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
	addr, port := x.to.endpoint.Addr.Addr(), int(x.to.endpoint.Addr.Port())
	family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: port, Addr: addr.As16()})
	if addr.Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: addr.As4()}
	}
	var err error
	x.fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(x.fd, to)
	}
	if x.begun = err == nil || errors.Is(err, unix.EINPROGRESS); !x.begun {
		x.finish(err)
	}
}

// finish closes the connection and counts the exchange.
func (x *exchange) finish(err error) {
	if x.fd >= 0 {
		unix.Close(x.fd)
	}
	x.done, x.err = true, err
	x.to.ended(x)
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
	n, err := unix.Read(x.fd, b[:min(len(b), maxAnswer-x.read)])
	switch {
	case again(err):
		return
	case err == nil && n == 0:
		err = errors.New("it hung up without an answer")
	case err == nil:
		var complete bool
		if complete, err = x.take(b[:n]); err == nil && !complete {
			return
		}
	}
	x.finish(err)
}

func again(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) }

// take adds what has come of an answer, and reports whether that is enough.
func (x *exchange) take(b []byte) (complete bool, err error) {
	x.in = append(x.in, b...)
	x.read += len(b)
	if complete, err = x.parse(); err == nil && !complete && x.read >= maxAnswer {
		err = fmt.Errorf("no answer in %d bytes", maxAnswer)
	}
	return complete, err
}

// parse reports whether the status line of the final answer has come. Interim answers, such
// as 100, are skipped with their headers.
func (x *exchange) parse() (complete bool, err error) {
	for {
		in := string(x.in)
		line, _, found := strings.Cut(in, "\n")
		if !found {
			return false, nil
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
			return false, nil
		}
		x.in = x.in[end+4:]
	}
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
