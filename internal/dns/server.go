package dns

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"flatnet/internal/flock"
	"flatnet/internal/subprocess"
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
	// maxMessage bounds what it says of a start that fails, in bytes.
	maxMessage = 4 << 10
)

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
			switch by := holder(addr).Addr.Addr(); {
			case by.IsValid() && by.IsUnspecified():
				if err := s.taken(addr); err != nil {
					return err
				}
			case by.IsValid():
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
		if systemd := executable("systemd-run", filepath.SplitList(os.Getenv("PATH"))); systemd != "" {
			args = append([]string{systemd, "-q", "--scope"}, args...)
		}
	}
	stderr, err := subprocess.Command{
		Args:    args,
		Dir:     "/",
		Env:     []string{"RUST_LOG=error"}, // else it warns that it has no level
		Output:  2,
		Limit:   maxMessage,
		Timeout: startWait,
	}.Run()
	if err != nil {
		says := strings.ReplaceAll(strings.TrimSpace(string(stderr)), "\n", "; ")
		return fmt.Errorf("start %s: %w: %s", s.Program, err, says)
	}
	return nil
}

// lock locks a file of netavark's as netavark does, with flock(2), and returns
// what unlocks it. One that it makes is closed to other users, who could hold it.
func lock(path string, wait time.Duration) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock.Lock(f, syscall.LOCK_EX, wait); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}
