package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"flatnet/internal/flock"
	"flatnet/internal/sockdiag"
)

// processName is the program's name, and that of its process.
const processName = "aardvark-dns"

// pidFile is the file in the server's directory that says its process ID
// (AARDVARK_PID_FILE of its config/constants.rs).
const pidFile = "aardvark.pid"

const (
	// startWait is how long the server may take to start.
	startWait = 10 * time.Second
	// retryWait is how long a start that fails is tried again, since a server
	// that ends removes its pid file before it lets its addresses go; endWait is
	// how long if it still has one of ours.
	retryWait = 300 * time.Millisecond
	endWait   = time.Second
	// retryPause is between two such tries.
	retryPause = 50 * time.Millisecond

	// confirmWait is how long the server may take to answer by a record, some
	// milliseconds as a rule. A server that never answers the host, as
	// aardvark-dns 1.12, costs every ADD as much.
	confirmWait = 400 * time.Millisecond
	// bindWait is how long it may take to be there at all.
	bindWait = time.Second
	// tellWait is after how long it is told of the record again: aardvark-dns 1.4
	// misses a signal that comes while it reads its files.
	tellWait = 100 * time.Millisecond
)

// errUnconfirmed is a server that is there and does not answer by the record.
var errUnconfirmed = errors.New("aardvark-dns does not answer")

// serve returns when the server answers by the record at all addresses where
// the network's containers ask. A server that was about to end when it was told
// of the record is started again.
func (s Server) serve(r Record) error {
	var asked, told time.Duration
	for _, addr := range r.Listen {
		for {
			if err := s.ensure(r.Listen); err != nil {
				return err
			}
			began := time.Now()
			err := ask(netip.AddrPortFrom(addr, port), r.question(), r.Addresses[0].Is6())
			if err == nil {
				break
			}
			asked += time.Since(began)
			by, refused := taken(addr), errors.Is(err, syscall.ECONNREFUSED)
			switch {
			case by != nil:
				return by
			case refused && asked > bindWait:
				return fmt.Errorf("aardvark-dns does not listen at %s: %w", addr, err)
			case !refused && asked > confirmWait:
				return fmt.Errorf("%w at %s: %w", errUnconfirmed, addr, err)
			}
			if asked > told+tellWait {
				told = asked
				if err := s.tell(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// holder returns the address of the socket that gets queries to addr, or an
// invalid one where there is no such socket or no telling.
func holder(addr netip.Addr) netip.Addr {
	c, err := sockdiag.Dial()
	if err != nil {
		return netip.Addr{}
	}
	defer c.Close()
	socket, err := c.Receiver(netip.AddrPortFrom(addr, port))
	if err != nil {
		return netip.Addr{}
	}
	return socket.Addr.Addr()
}

// taken returns why the server can't bind addr: another program has the port
// of all addresses, which the server itself never has.
func taken(addr netip.Addr) error {
	if by := holder(addr); by.IsValid() && by.IsUnspecified() {
		return fmt.Errorf("aardvark-dns can't listen at %s, because another program listens at UDP port %d of all addresses (%s)", addr, port, by)
	}
	return nil
}

// ensure starts the server if it does not run. It is to listen at addrs, among
// others.
func (s Server) ensure(addrs []netip.Addr) error {
	for began := time.Now(); ; <-time.After(retryPause) {
		p, err := s.process()
		if err != nil {
			return err
		}
		if p != nil {
			return p.Release()
		}
		if err = s.start(); err == nil {
			return nil
		}
		wait := retryWait
		for _, addr := range addrs {
			if by := taken(addr); by != nil {
				return by
			}
			if holder(addr).IsValid() {
				wait = endWait
			}
		}
		if time.Since(began) > wait {
			return err
		}
	}
}

// tell makes the server read its files, if it runs.
func (s Server) tell() error {
	p, err := s.process()
	if err != nil || p == nil {
		return err
	}
	return hangUp(p)
}

// process finds the running server, or returns nil. The file that says its
// process ID may be left from one that was killed.
func (s Server) process() (*os.Process, error) {
	data, err := os.ReadFile(filepath.Join(s.Dir, pidFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 0 {
		return nil, nil
	}
	p, err := os.FindProcess(pid) // opens a pidfd, so that it stays this process
	if err != nil {
		return nil, err
	}
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	if name, _ := os.ReadFile(filepath.Join(proc, "comm")); strings.TrimSpace(string(name)) != processName {
		return nil, p.Release()
	}
	if differs(proc, "ns/pid") { // a container's process, which may have any name
		return nil, p.Release()
	}
	if differs(proc, "ns/net") {
		return nil, errors.Join(fmt.Errorf("aardvark-dns (process %d) runs in another network namespace; end it, and then it is started in the right one", pid), p.Release())
	}
	return p, nil
}

// differs reports whether a process is in another namespace than this one.
func differs(proc, kind string) bool {
	theirs, err := os.Readlink(filepath.Join(proc, kind))
	ours, oerr := os.Readlink(filepath.Join("/proc/self", kind))
	return err == nil && oerr == nil && ours != theirs
}

// hangUp makes the server read its files; without any, it ends. That it has
// ended meanwhile is no error.
func hangUp(p *os.Process) error {
	err := p.Signal(syscall.SIGHUP)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	return errors.Join(err, p.Release())
}

// start runs the server, which goes into the background once it is ready. As
// with netavark it is no part of what systemd stops together with its caller.
func (s Server) start() error {
	args := []string{s.Program, "--config", s.Dir, "-p", strconv.Itoa(port), "run"}
	if _, err := os.Stat("/run/systemd/system"); err == nil { // sd_booted(3)
		if systemd, err := exec.LookPath("systemd-run"); err == nil {
			args = append([]string{systemd, "-q", "--scope"}, args...)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), startWait)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "RUST_LOG=error") // else it warns that it has no level
	cmd.Dir, cmd.Stderr, cmd.WaitDelay = "/", &stderr, time.Second
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // else the server inherits that it is ignored
	if err := cmd.Run(); err != nil {
		says := strings.ReplaceAll(strings.TrimSpace(stderr.String()), "\n", "; ")
		return fmt.Errorf("start %s: %w: %s", s.Program, err, says)
	}
	return nil
}

// lock locks a file of netavark's as netavark does, with flock(2), and returns
// what unlocks it.
func lock(path string, wait time.Duration) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := flock.Lock(f, syscall.LOCK_EX, wait); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}
