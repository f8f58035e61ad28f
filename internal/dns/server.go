package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"flatnet/internal/input"
	"flatnet/internal/listeners"
	"flatnet/internal/rootless"
	"flatnet/internal/subprocess"

	"golang.org/x/sys/unix"
)

// processName is the program's name, and that of its process.
const processName = "aardvark-dns"

// pidFile is the file in the server's directory that has its process ID
// (AARDVARK_PID_FILE of its config/constants.rs).
const pidFile = "aardvark.pid"

const (
	// confirmWait is how long the server may take to answer by a record, some
	// milliseconds as a rule. A server that never answers the host, as
	// aardvark-dns 1.12, costs every ADD as much.
	confirmWait = 400 * time.Millisecond
	// bindWait is how long the server may take to start and listen: one that ends
	// removes its pid file before it releases its addresses.
	bindWait = time.Second
	// reloadWait is the time after which the server is signaled again:
	// aardvark-dns 1.4 misses a signal that arrives while it reads its files.
	reloadWait = 100 * time.Millisecond
	// pause is the time between two questions, restartPause that after a failed start.
	pause        = 10 * time.Millisecond
	restartPause = 50 * time.Millisecond
	// startWait is how long the server may take to start.
	startWait = 10 * time.Second
	// maxMessage limits the output of a failing start, in bytes.
	maxMessage = 4 << 10
)

// publish writes the record and returns when the server answers by it at every
// address where the network's containers ask. A server that was about to end when
// it was signaled is started again. One that answers the host nothing is used,
// with a warning.
func (s Server) publish(r Record) error {
	if err := s.edit(r.Key.Network, of(r.Key), &r); err != nil {
		return err
	}
	var failed, reload time.Duration
	for i := 0; i < len(r.Listen); {
		began, addr, refused := time.Now(), r.Listen[i], true
		p, err := s.process()
		switch {
		case err != nil:
			return err
		case p == nil:
			reload = failed + reloadWait
			err = s.start()
		case failed >= reload:
			reload = failed + reloadWait
			err = p.Signal(syscall.SIGHUP)
		}
		if err == nil {
			asked := time.Now()
			if err = ask(netip.AddrPortFrom(addr, s.port()), r.question()); err == nil {
				i++
				continue
			}
			if refused = errors.Is(err, syscall.ECONNREFUSED); !refused {
				began = asked // a start may take longer than the answer after it
			}
		}
		<-time.After(pause)
		failed += time.Since(began)
		switch conflict := s.conflict(r.Listen); {
		case conflict != nil:
			return conflict
		case refused && failed > bindWait:
			return fmt.Errorf("aardvark-dns does not listen at %s: %w", addr, err)
		case !refused && failed > confirmWait:
			s.Warn(fmt.Sprintf("aardvark-dns does not answer at %s: %v; names of network %s may not be found", addr, err, r.Key.Network))
			return nil
		}
	}
	return nil
}

// conflict returns an error if the server can't bind one of the addresses, because
// another program has the port of it, or of all addresses, which the server never
// binds.
func (s Server) conflict(addrs []netip.Addr) error {
	for _, addr := range addrs {
		socket, err := listeners.Receiver(netip.AddrPortFrom(addr, s.port()))
		own, oerr := listeners.HeldBy(s.pid()) // later than the socket, which the server may just have made
		foreign := oerr == nil && !slices.Contains(own, socket.Inode)
		if err == nil && (socket.Addr.Addr().IsUnspecified() || foreign) {
			return fmt.Errorf("aardvark-dns can't listen at %s, because another program listens at %s (UDP)", addr, socket.Addr)
		}
	}
	return nil
}

// maxPID bounds a pid file in bytes.
const maxPID = 64

// pid returns the content of the server's pid file, which may be left from a
// server that was killed; "" if there is none.
func (s Server) pid() string {
	data, _ := input.Read(filepath.Join(s.Dir, pidFile), maxPID)
	return strings.TrimSpace(string(data))
}

// process returns the running server, or nil.
func (s Server) process() (*os.Process, error) {
	pid, _ := strconv.Atoi(s.pid()) // /proc has no 0
	p, _ := os.FindProcess(pid)     // never fails on Linux, and opens a pidfd: it stays this process
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	name, _ := os.ReadFile(filepath.Join(proc, "comm"))
	switch {
	case string(name) != processName+"\n" || differs(proc, "ns/pid"): // or a container's, whatever its name
		return nil, nil
	case differs(proc, "ns/net"):
		return nil, fmt.Errorf("aardvark-dns (process %d) runs in another network namespace; end it, and then it is started in the right one", pid)
	}
	return p, nil
}

// differs reports whether a process is in another namespace than this one.
func differs(proc, kind string) bool {
	theirs, err := os.Readlink(filepath.Join(proc, kind))
	ours, oerr := os.Readlink(filepath.Join("/proc/self", kind))
	return err == nil && oerr == nil && ours != theirs
}

// withdraw removes the records that drop selects, and makes the server read its files,
// if it runs. Without any file it ends.
func (s Server) withdraw(network string, drop func(id string) bool) error {
	err := s.edit(network, drop, nil)
	p, perr := s.process()
	if p != nil {
		perr = p.Signal(syscall.SIGHUP)
	}
	if perr != nil && !errors.Is(perr, os.ErrProcessDone) {
		s.Warn(fmt.Sprintf("container names: %v", perr))
	}
	return err
}

// start runs the server, which goes into the background once it is ready. As
// with netavark, systemd does not stop it together with its caller.
func (s Server) start() error {
	program := s.Program()
	args := []string{program, "--config", s.Dir, "-p", strconv.Itoa(int(s.port())), "run"}
	if _, err := os.Stat("/run/systemd/system"); err == nil { // sd_booted(3)
		if systemd := subprocess.Find("systemd-run", filepath.SplitList(os.Getenv("PATH"))); systemd != "" {
			scope := []string{systemd, "-q", "--scope"}
			if rootless.Podman() {
				scope = append(scope, "--user")
			}
			args = append(scope, args...)
		}
	}
	env := []string{"RUST_LOG=error"} // else it warns that it has no level
	stderr, err := subprocess.Command{Args: args, Dir: "/", Env: env, Output: 2, Limit: maxMessage, Timeout: startWait}.Run()
	if err != nil {
		<-time.After(restartPause)
		message := strings.ReplaceAll(strings.TrimSpace(string(stderr)), "\n", "; ")
		return fmt.Errorf("start %s: %w: %s", program, err, message)
	}
	return nil
}

// port is that of DNS (RFC 1035, section 4.2), and the one that containers use.
const port = 53

// replyWait is how long one question waits for its answer.
const replyWait = 100 * time.Millisecond

// header is the one of our questions (RFC 1035, section 4.1.1): an ID, the flag
// RD, for the server to forward what it can't answer, and one question.
const header = "fn\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"

// ask asks a server a question once. It returns nil for a reply with an answer.
func ask(server netip.AddrPort, question []byte) error {
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
	if _, err := c.Write(question); err != nil {
		return err
	}
	reply := make([]byte, 512) // RFC 1035, section 4.2.1
	n, err := c.Read(reply)
	if err != nil {
		return err
	}
	return decodeAnswer(reply[:n])
}

// question returns the question about the record's first address. Its name is one in
// ASCII, if there is any, and in lower case, because that is how older servers look
// names up.
func (r Record) question() []byte {
	ascii := slices.IndexFunc(r.Names, func(name string) bool {
		return !strings.ContainsFunc(name, func(c rune) bool { return c > 0x7e })
	})
	b := []byte(header)
	for label := range strings.SplitSeq(strings.ToLower(r.Names[max(ascii, 0)])+"."+SearchDomain, ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	// A (RFC 1035, section 3.2.2) or AAAA (RFC 3596, section 2.1)
	kind := map[bool]byte{false: 1, true: 28}[r.Addresses[0].Is6()]
	return append(b, 0, 0, kind, 0, 1) // the root, QTYPE, QCLASS IN
}

// decodeAnswer returns nil for a reply with an answer.
func decodeAnswer(b []byte) error {
	switch {
	case len(b) < len(header) || string(b[:2]) != header[:2] || b[2]&0x80 == 0: // ID, QR
		return errors.New("no reply to the question")
	case b[3]&0xf != 0: // RCODE
		return fmt.Errorf("the name is not known (response code %d)", b[3]&0xf)
	case binary.BigEndian.Uint16(b[6:]) == 0: // ANCOUNT
		return errors.New("the name has no address")
	}
	return nil
}
