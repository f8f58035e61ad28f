// Package hosts tries flatnet on three hosts: worlds of the laboratory with a network
// between them, and on these what carries packets from one host's containers to
// another's.
package hosts

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"flatnet/tests/lab"
)

var (
	root, _ = filepath.Abs("../..")
	program = filepath.Join(root, "bin", "flatnet")
)

func TestMain(m *testing.M) {
	lab.Main()
	if _, err := os.Stat(program); err != nil {
		println("make build first:", err.Error())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// soon is how long packets may take to find a way that has just been made.
const soon = 40 * time.Second

// A host is one of several.
type host struct {
	*lab.World
	t    *testing.T
	n    int    // from 1 on
	keys string // of its network's configuration
}

// newHosts makes hosts, which have the programs of a directory, unless it is empty.
func newHosts(t *testing.T, count int, engines string) (hosts []*host) {
	t.Helper()
	t.Parallel()
	for i, w := range lab.LAN(t, count) {
		hosts = append(hosts, &host{World: w, t: t, n: i + 1})
		w.Outside.Serve(lab.OutsideAddr + ":80")
		if engines != "" {
			w.Sh("ln -sf " + engines + "/usr/bin/* /usr/bin/")
		}
	}
	return hosts
}

// engines returns the directory of what engines.sh unpacks.
func engines(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("./engines.sh")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("NOT TESTED: engines.sh: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// A daemon is a program that runs until it is stopped, or its test ends.
type daemon struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  *os.File
	once *sync.Once
}

// daemon starts a program on the host. A test that fails shows the last of what it said.
func (h *host) daemon(args ...string) daemon {
	h.t.Helper()
	log, err := os.CreateTemp(h.t.TempDir(), "log")
	if err != nil {
		h.t.Fatal(err)
	}
	d := daemon{h.t, h.Cmd(args...), log, &sync.Once{}}
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.cmd.Start(); err != nil {
		h.t.Fatalf("%v: %v", args, err)
	}
	h.t.Cleanup(func() {
		d.stop()
		if h.t.Failed() {
			h.t.Logf("%v on host %d said\n%s", args, h.n, d.said())
		}
	})
	return d
}

// said returns the last of what a daemon has written.
func (d daemon) said() string {
	all, err := os.ReadFile(d.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(all[max(0, len(all)-4000):])
}

// stop kills a daemon, as a host does that loses its power.
func (d daemon) stop() {
	d.once.Do(func() {
		syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
		d.cmd.Wait()
		d.log.Close()
	})
}

// conf is the host's network's configuration.
func (h *host) conf(more string) string {
	return strings.TrimSuffix(lab.Conf, "}") + "," + h.keys + more + "}"
}

// A container has an address, and a server that tells its clients theirs.
type container struct {
	lab.Place
	add  lab.Call
	addr string
}

// attach makes a container on the host, published at a port unless that is 0.
func (h *host) attach(id string, port int) container {
	h.t.Helper()
	c, r := h.try(id, port)
	if r.Exit != 0 {
		h.t.Fatalf("host %d: ADD: %s %s", h.n, r.Stdout, r.Stderr)
	}
	c.addr = r.Addr()
	c.Serve(net.JoinHostPort(c.addr, "80"))
	return c
}

// try is attach that may fail, without a server.
func (h *host) try(id string, port int) (container, lab.Reply) {
	h.t.Helper()
	more := ""
	if port != 0 {
		more = fmt.Sprintf(`,"runtimeConfig":{"portMappings":[{"hostPort":%d,"containerPort":80}]}`, port)
	}
	c := container{Place: h.NetNS(id)}
	c.add = lab.Call{Command: "ADD", ID: id, NetNS: c.Path, IfName: "eth0", Conf: h.conf(more)}
	return c, h.Call(program, c.add)
}

// detach removes a container.
func (h *host) detach(c container) {
	h.t.Helper()
	del := c.add
	del.Command = "DEL"
	if r := h.Call(program, del); r.Exit != 0 {
		h.t.Errorf("host %d: DEL: %s", h.n, r.Stdout)
	}
	h.Run("ip", "netns", "del", del.ID)
}

// sees checks by which address a server sees a place, once packets find a way.
func sees(t *testing.T, what string, from lab.Place, to, want string) {
	t.Helper()
	err := lab.Until(soon, func() error {
		got, err := from.Ask(net.JoinHostPort(to, "80"))
		if err == nil && got != want {
			err = fmt.Errorf("sees %q, not %s", got, want)
		}
		return err
	})
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// flat checks that containers of different hosts see each other by their own addresses.
func flat(t *testing.T, all ...container) {
	t.Helper()
	var wait sync.WaitGroup
	for i, from := range all {
		for j, to := range all {
			if i != j {
				wait.Go(func() { sees(t, fmt.Sprintf("from %s to %s", from.addr, to.addr), from.Place, to.addr, from.addr) })
			}
		}
	}
	wait.Wait()
}

// outside checks that a container reaches the outside by its host's address, and the
// outside the container by a published port, if there is one.
func (h *host) outside(c container, port int) {
	h.t.Helper()
	sees(h.t, fmt.Sprintf("host %d's outside", h.n), c.Place, lab.OutsideAddr, lab.HostAddr)
	if port == 0 {
		return
	}
	to := net.JoinHostPort(lab.HostAddr, fmt.Sprint(port))
	if got, err := h.Outside.Ask(to); err != nil || got != lab.OutsideAddr {
		h.t.Errorf("published port of host %d: %q, %v", h.n, got, err)
	}
}

// leave cuts a host off from the others, or takes it back.
func (h *host) leave(away bool) {
	h.t.Helper()
	h.Run("ip", "link", "set", lab.LANInterface, map[bool]string{true: "down", false: "up"}[away])
}
