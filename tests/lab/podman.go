package lab

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Image is the image that [World.Podman] makes: busybox and nothing else.
const Image = "localhost/busybox"

// containersConf lets Podman's CNI door work on machines without cgroups v2 and
// without CAP_SYS_RESOURCE.
const containersConf = `[network]
network_backend = "cni"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
lock_type = "file"
`

// A Podman is a world's own Podman.
type Podman struct {
	World *World
}

// cgroup is the control group of the world's containers.
func (w *World) cgroup() string { return "flatnet-lab-" + strconv.Itoa(w.pid) }

// removeCgroups removes the control groups that Podman leaves, once nothing
// runs in them.
func (w *World) removeCgroups() {
	for _, hierarchy := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		tops, _ := filepath.Glob(hierarchy + w.cgroup())
		for _, top := range tops {
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
	}
}

// Podman sets up Podman with its CNI door and an image. An error says that
// this machine's Podman can't.
func (w *World) Podman() (Podman, error) {
	w.TB.Helper()
	w.Write("/etc/containers/containers.conf", containersConf)
	p := Podman{w}
	if _, err := p.Try("network", "ls"); err != nil {
		return p, err
	}
	image, err := busybox()
	if err != nil {
		return p, err
	}
	cmd := w.Cmd("podman", "import", "-q", "-", Image)
	cmd.Stdin = image
	if out, err := cmd.CombinedOutput(); err != nil {
		w.TB.Fatalf("podman import: %v: %s", err, out)
	}
	return p, nil
}

// Try runs podman.
func (p Podman) Try(args ...string) (string, error) {
	out, err := p.World.Try(append([]string{"podman"}, args...)...)
	return strings.TrimSpace(out), err
}

// Do runs a podman command that must succeed.
func (p Podman) Do(args ...string) string {
	p.World.TB.Helper()
	return strings.TrimSpace(p.World.Run(append([]string{"podman"}, args...)...))
}

// Start runs a container on the network flatnet that does nothing until it is
// stopped, and may ping.
func (p Podman) Start(name string, options ...string) {
	p.World.TB.Helper()
	args := []string{"run", "-d", "--name", name, "--network", "flatnet", "--cap-add", "NET_RAW", "--cgroup-parent", "/" + p.World.cgroup()}
	args = append(args, options...)
	p.Do(append(args, Image, "sh", "-c", "trap exit TERM; while :; do sleep 1000 & wait; done")...)
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
