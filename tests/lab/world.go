// Package lab makes worlds to try flatnet in: each is a machine of its own as
// far as networking, processes and the directories that plugins and Podman
// write to are concerned. It needs root, and leaves the real machine alone.
//
// A program that uses the package calls [Main] before anything else, because
// worlds and peers are the program itself, run again.
package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// roleEnv tells a program that runs itself again what it is.
const roleEnv = "FLATNET_LAB_ROLE"

// Main plays the role that this process was started for and exits, or returns
// in a process that was started by somebody else.
func Main() {
	roles := map[string]func([]string) error{"init": beInit, "serve": beServer, "ask": beClient, "serve-udp": beUDPServer, "ask-udp": beUDPClient,
		"drain": beDrain, "pour": bePour, "transfer": beTransfer, "serve-sctp": beSCTPServer, "ask-sctp": beSCTPClient, "send-frame": beFrameSender, "peer-links": bePeerLister, "raw-rule": beRuleMaker,
		"advertise": beRouter, "registry": beRegistry, "race": beRacer, "flood": beFlooder}
	role, ok := roles[os.Getenv(roleEnv)]
	if !ok {
		return
	}
	if err := role(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A TB is what a world needs of a [testing.TB]; a [Script] is one outside tests.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
	TempDir() string
}

// The way out of every world: a veth to a namespace that plays the rest of the
// world and has no route back to the containers.
const (
	Uplink      = "up0"
	UplinkMTU   = 1400
	HostAddr    = "192.0.2.1" // the host's address on the uplink
	OutsideAddr = "192.0.2.2"
)

// A World is a private machine. The [Place] in it is its host.
type World struct {
	Place
	Outside Place
	TB      TB
	pid     int // init's
	// pids are those by which containers' control groups are named: init's, and of each
	// Debian in the world.
	pids *[]int
}

// New makes a world that ends with t. Its processes end when t's process does.
func New(t TB) *World {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("own program: %v", err)
	}
	cmd := exec.Command(self)
	cmd.Env = environ("init")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	w := &World{TB: t, pids: new([]int)}
	w.Place = Place{world: w}
	t.Cleanup(w.removeCgroups)
	start(t, cmd)
	w.pid = cmd.Process.Pid
	*w.pids = append(*w.pids, w.pid)

	w.Outside = w.NetNS("outside")
	w.IP(`link add up0 mtu 1400 type veth peer name eth0 mtu 1400 netns outside`)
	w.ready("up0")
	w.Outside.ready("eth0")
	w.IP(`addr add 192.0.2.1/24 dev up0
		addr add 2001:db8::1/64 dev up0 nodad
		link set up0 up`)
	w.Outside.IP(`addr add 192.0.2.2/24 dev eth0
		addr add 2001:db8::2/64 dev eth0 nodad
		link set eth0 up`)
	w.IP(`route add default via 192.0.2.2
		route add default via 2001:db8::2`)
	return w
}

// ready lets a link's link-local address be used as soon as it is there, as if the link had
// been up for long: nobody solicits a neighbor for a packet that is forwarded before.
func (p Place) ready(link string) {
	p.world.TB.Helper()
	p.Sh("echo 0 >/proc/sys/net/ipv6/conf/" + link + "/accept_dad")
}

// In is the same world for another test, which is to fail when its commands do.
func (w *World) In(t TB) *World {
	other := *w
	other.TB = t
	other.Place.world, other.Outside.world = &other, &other
	return &other
}

// environ is the environment of a process in a role. A program with the race
// detector would else wait for a second when it ends.
func environ(role string) []string {
	return append(os.Environ(), roleEnv+"="+role, "GORACE=atexit_sleep_ms=0")
}

// start starts a role's process and returns when it says that it is ready. The
// process ends at the end of its input: with t, or else with our own process.
// It is killed if it isn't ready, or doesn't end, in time.
func start(t TB, cmd *exec.Cmd) {
	t.Helper()
	cmd.Stderr = os.Stderr
	in, errIn := cmd.StdinPipe()
	out, errOut := cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut); err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	late := func() { syscall.Kill(cmd.Process.Pid, syscall.SIGKILL) }
	t.Cleanup(func() {
		in.Close()
		defer time.AfterFunc(deadline, late).Stop()
		cmd.Wait()
	})
	defer time.AfterFunc(deadline, late).Stop()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%v said %q: %v", cmd.Args, line, err)
	}
}

// beInit is a world's first process: it makes the directories private, adopts
// orphans, and ends, and all others with it, at the end of its input.
func beInit([]string) error {
	children := make(chan os.Signal, 1)
	if err := privateMounts(); err != nil {
		return err
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("lo: %w: %s", err, out)
	}
	signal.Notify(children, syscall.SIGCHLD)
	fmt.Println("ready")
	go func() {
		for range children {
			for {
				if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
					break
				}
			}
		}
	}()
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// privateMounts gives this mount namespace a /proc of its own, writable copies
// of /etc, /usr and /var/lib that nobody else sees, and an empty /run and
// state directories.
func privateMounts() error {
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	mount := func(kind, dir, data string) error {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(kind, dir, kind, 0, data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", kind, dir, err)
		}
		return nil
	}
	if err := mount("proc", "/proc", ""); err != nil {
		return err
	}
	if err := mount("tmpfs", "/run", "mode=755"); err != nil {
		return err
	}
	for _, dir := range []string{"/etc", "/usr", "/var/lib"} {
		upper, work := filepath.Join("/run/lab", dir, "upper"), filepath.Join("/run/lab", dir, "work")
		if err := os.MkdirAll(upper, 0o755); err != nil {
			return err
		}
		if err := os.MkdirAll(work, 0o755); err != nil {
			return err
		}
		if err := mount("overlay", dir, "lowerdir="+dir+",upperdir="+upper+",workdir="+work); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/var/lib/flatnet", "/var/lib/cni", "/var/lib/containers"} {
		if err := mount("tmpfs", dir, "mode=755"); err != nil {
			return err
		}
	}
	return hideInstalled()
}

// foreign is where a flatnet of this machine and its networks may be, and
// how somebody may have configured the machine's container runtimes.
var foreign = []string{
	"/usr/bin/flatnet", "/usr/local/bin/flatnet", "/usr/lib/cni/flatnet", "/usr/libexec/cni/flatnet", "/usr/local/lib/cni/flatnet",
	"/usr/lib*/netavark/flatnet", "/usr/local/lib*/netavark/flatnet",
	"/etc/cni/net.d/*", "/etc/containers/networks/*", "/etc/containers/containers.conf", "/etc/containers/storage.conf", "/etc/containers/containers.conf.d/*",
}

// hideInstalled removes all that from the world, which is a machine that has
// packages and no more.
func hideInstalled() error {
	for _, pattern := range foreign {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, path := range paths {
			if err := os.RemoveAll(path); err != nil {
				return fmt.Errorf("hide this machine's: %w", err)
			}
		}
	}
	return nil
}
