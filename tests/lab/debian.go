package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// podmanPackages are Podman with netavark and what they need.
const podmanPackages = "podman,netavark,aardvark-dns,runc,conmon,nftables,iproute2,iputils-ping,jq,busybox-static,procps,ca-certificates"

// netavarkConf lets Podman 5 work where [containersConf] lets Podman 4.
const netavarkConf = `[network]
network_backend = "netavark"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
lock_type = "file"
`

// NetavarkPlugin is where [World.Debian] puts the plugin.
const NetavarkPlugin = "/usr/libexec/netavark/flatnet"

// enterRoot makes root $1, with plugin $2, the root of a mount namespace of
// its own, and keeps that for as long as its input lasts. Nothing that is
// written gets into $1.
const enterRoot = `
d=/run/debian
mkdir -p $d/upper $d/work $d/root
mount -t overlay overlay -o lowerdir=$1,upperdir=$d/upper,workdir=$d/work $d/root
cd $d/root
mkdir -p oldroot usr/libexec/netavark
cp "$2" .` + NetavarkPlugin + `
mount --rbind /sys sys
mount --rbind /dev dev
mount -t proc proc proc
mount -t tmpfs -o mode=755 tmpfs run
mkdir -p run/lock var/lib/containers var/lib/flatnet
mount -t tmpfs -o mode=755 tmpfs var/lib/containers
mount -t tmpfs -o mode=755 tmpfs var/lib/flatnet
pivot_root . oldroot
umount -l /oldroot
echo ready
exec cat >/dev/null
`

// Debian is the same world as another Debian sees it, from 13 (trixie) on: its
// Podman has no CNI but netavark with program as its plugin, and an image. An
// error says why there is none; as a rule the machine has no debootstrap, or
// can't reach its mirror.
func (w *World) Debian(suite, program string) (Podman, error) {
	w.TB.Helper()
	root, err := debian(suite)
	if err != nil {
		return Podman{}, err
	}
	cmd := w.Cmd("unshare", "--mount", "--propagation", "private", "sh", "-ec", enterRoot, "sh", root, program)
	d := *w
	d.Place.world = &d
	p := Podman{&d}
	start(w.TB, cmd)
	// nsenter has entered the world's PID namespace by a child.
	nsenter := strconv.Itoa(cmd.Process.Pid)
	child, err := os.ReadFile(filepath.Join("/proc", nsenter, "task", nsenter, "children"))
	if err == nil {
		d.pid, err = strconv.Atoi(strings.TrimSpace(string(child)))
	}
	if err != nil {
		w.TB.Fatalf("process of the %s root: %v", suite, err)
	}
	d.Write("/etc/containers/containers.conf", netavarkConf)
	image, err := busybox()
	if err != nil {
		return p, err
	}
	load := d.Cmd("podman", "import", "-q", "-", Image)
	load.Stdin = image
	if out, err := load.CombinedOutput(); err != nil {
		w.TB.Fatalf("podman import: %v: %s", err, out)
	}
	return p, nil
}

// Cgroup is the option by which the containers of any Podman get into the
// control group that is removed with the world.
func (w *World) Cgroup() string { return "--cgroup-parent=/" + w.cgroup() }

// In is the same Podman for another test.
func (p Podman) In(t TB) Podman { return Podman{p.World.In(t)} }

// debian returns a root file system of a suite. It is made once for a user of
// the machine.
func debian(suite string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "flatnet-tests")
	root := filepath.Join(cache, suite)
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return "", err
	}
	lock, err := os.Create(filepath.Join(cache, suite+".lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	temp := root + ".tmp"
	if err := os.RemoveAll(temp); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "debootstrap", "--variant=minbase", "--include="+podmanPackages, suite, temp)
	if out, err := cmd.CombinedOutput(); err != nil {
		os.RemoveAll(temp)
		return "", fmt.Errorf("debootstrap %s: %w: %s", suite, err, out[max(0, len(out)-500):])
	}
	return root, os.Rename(temp, root)
}
