package lab

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Image is the image that [World.Podman] makes: busybox and nothing else.
const Image = "localhost/busybox"

// containersConf lets Podman work on machines without cgroups v2, or with such that have
// no controllers, and without CAP_SYS_RESOURCE; %s is the network backend.
const containersConf = `[network]
network_backend = "%s"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
log_driver = "k8s-file"
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
lock_type = "file"
`

// A Podman is a world's own Podman.
type Podman struct {
	World *World
	// Backend is where plugins come in: "cni" or "netavark".
	Backend string

	as      []string // the command by which another user than root runs podman
	options []string // of every podman
}

// cgroup is the control group of the world's containers.
func (w *World) cgroup() string { return cgroupOf(w.pid) }

func cgroupOf(pid int) string { return "flatnet-lab-" + strconv.Itoa(pid) }

// removeCgroups removes the control groups that Podman leaves, once nothing
// runs in them.
func (w *World) removeCgroups() {
	for _, hierarchy := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		for _, pid := range *w.pids {
			tops, _ := filepath.Glob(hierarchy + cgroupOf(pid))
			for _, top := range tops {
				removeDirs(top)
			}
		}
	}
}

// removeDirs removes a directory and those in it. The files of control groups go with
// them.
func removeDirs(top string) {
	var dirs []string
	filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for _, dir := range slices.Backward(dirs) {
		os.Remove(dir)
	}
}

// Podman sets up the machine's Podman, with an image, for the plugins that it
// has: CNI up to Podman 4, and netavark's from 5 on. An error says why there is
// none.
func (w *World) Podman() (Podman, error) {
	w.TB.Helper()
	p := Podman{World: w, Backend: "netavark"}
	version, err := p.Try("--version") // podman version 4.3.1
	if err != nil {
		return p, err
	}
	if major, _, _ := strings.Cut(version[strings.LastIndex(version, " ")+1:], "."); major < "5" {
		p.Backend = "cni"
	}
	w.Write("/etc/containers/containers.conf", fmt.Sprintf(containersConf, p.Backend))
	if _, err := p.Try("network", "ls"); err != nil {
		return p, err
	}
	return p, p.Load()
}

// Load makes the image.
func (p Podman) Load() error {
	image, err := busybox()
	if err != nil {
		return err
	}
	cmd := p.World.Cmd(slices.Concat(p.as, []string{"podman"}, p.options, []string{"import", "-q", "-", Image})...)
	cmd.Stdin = image
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("podman import: %w: %s", err, out)
	}
	return nil
}

// In is the same Podman for another test.
func (p Podman) In(t TB) Podman {
	p.World = p.World.In(t)
	return p
}

// With is the same Podman with options for all of its commands.
func (p Podman) With(options ...string) Podman {
	p.options = options
	return p
}

// Cgroup is the option by which the containers of any Podman get into the
// control group that is removed with the world.
func (w *World) Cgroup() string { return "--cgroup-parent=/" + w.cgroup() }

// Try runs podman.
func (p Podman) Try(args ...string) (string, error) {
	out, err := p.As(slices.Concat([]string{"podman"}, p.options, args)...)
	return strings.TrimSpace(out), err
}

// Do runs a podman command that must succeed.
func (p Podman) Do(args ...string) string {
	p.World.TB.Helper()
	out, err := p.Try(args...)
	if err != nil {
		p.World.TB.Fatalf("%v", err)
	}
	return out
}

// Start runs a container on the network flatnet that does nothing until it is
// stopped, and may ping.
func (p Podman) Start(name string, options ...string) {
	p.World.TB.Helper()
	args := []string{"run", "-d", "--name", name, "--network", "flatnet", "--cap-add", "NET_RAW", p.World.Cgroup()}
	args = append(args, options...)
	p.Do(append(args, Image, "sh", "-c", "trap exit TERM; while :; do sleep 1000 & wait; done")...)
}

// PingFrom sends echo requests from a container until one is answered.
func (p Podman) PingFrom(container, addr string) error {
	return Until(10*time.Second, func() error {
		_, err := p.Try("exec", container, "ping", "-c", "1", "-W", "1", addr)
		return err
	})
}

// Network is a field of what inspect says about the container's attachment to
// a network.
func (p Podman) Network(container, network, field string) string {
	p.World.TB.Helper()
	return p.Do("inspect", "-f", "{{(index .NetworkSettings.Networks \""+network+"\")."+field+"}}", container)
}

// busybox is a root file system with the machine's static busybox, as a tar.
func busybox() (*bytes.Buffer, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	if err := tw.WriteHeader(&tar.Header{Name: "bin/busybox", Mode: 0o755, Size: int64(len(program))}); err != nil {
		return nil, err
	}
	if _, err := tw.Write(program); err != nil {
		return nil, err
	}
	for _, applet := range []string{"sh", "sleep", "ip", "ping", "cat"} {
		link := &tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox"}
		if err := tw.WriteHeader(link); err != nil {
			return nil, err
		}
	}
	return &b, tw.Close()
}
