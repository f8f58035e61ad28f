package lab

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// bootSystemd boots root $1 by its own systemd, in control group $2 and namespaces of
// its own, but in the caller's network namespace. Nothing that is written gets into $1.
const bootSystemd = `
cg=/sys/fs/cgroup
[ -e $cg/cgroup.controllers ] || cg=$cg/unified
mkdir -p $cg/$2/systemd
echo $$ >$cg/$2/systemd/cgroup.procs
exec unshare --mount --pid --fork --kill-child --uts --ipc --cgroup --propagation private sh -ec '
	d=/run/systemd-root
	mkdir -p $d
	mount -t tmpfs tmpfs $d
	mkdir $d/upper $d/work $d/root
	mount -t overlay overlay -o lowerdir=$1,upperdir=$d/upper,workdir=$d/work $d/root
	cd $d/root
	mkdir -p oldroot
	mount -t proc proc proc
	mount --rbind /sys sys
	mount -t cgroup2 cgroup2 sys/fs/cgroup
	mount --rbind /dev dev
	mount -t tmpfs -o mode=755 tmpfs run
	mkdir run/netns
	mount --rbind /run/netns run/netns
	ln -s /dev/null etc/systemd/system/systemd-modules-load.service
	pivot_root . oldroot
	umount -l oldroot
	echo ready
	container=lab exec /usr/lib/systemd/systemd --system --show-status=no --log-target=journal </dev/null >/dev/null
' sh "$1"
`

// Systemd is the same world as a Debian 13 sees it that its systemd has booted, without
// a Podman. An error says why there is none, as of [World.Debian].
func (w *World) Systemd() (*World, error) {
	w.TB.Helper()
	root, err := systemd()
	if err != nil {
		return nil, err
	}
	cmd := w.Cmd("sh", "-ec", bootSystemd, "sh", root, w.cgroup())
	start(w.TB, cmd)
	w.TB.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	d := *w
	d.Place.world = &d
	// nsenter's child is the shell that has become unshare, whose child is systemd.
	d.pid = cmd.Process.Pid
	for range 2 {
		if d.pid, err = onlyChild(d.pid); err != nil {
			w.TB.Fatalf("process of systemd: %v", err)
		}
	}
	return &d, Until(time.Minute, func() error {
		_, err := d.Try("systemctl", "is-active", "multi-user.target")
		return err
	})
}

// booting are the packages that a Debian 13 needs besides Podman's to boot and to run
// other firewalls.
const booting = "systemd dbus firewalld iptables-persistent"

// systemd returns a root file system of Debian 13 with systemd. Of its firewalls none
// starts at boot; the rules that are there when it is made, the machine's, are not saved.
func systemd() (string, error) {
	base, err := debian("trixie")
	if err != nil {
		return "", err
	}
	return cached("systemd", filepath.Base(base)+" "+booting, func(ctx context.Context, temp string) ([]byte, error) {
		return exec.CommandContext(ctx, "sh", "-ec", `
			cp -a "$1" "$2"
			cp /etc/resolv.conf "$2/etc/resolv.conf"
			chroot "$2" sh -ec "
				export DEBIAN_FRONTEND=noninteractive
				for v in v4 v6; do
					echo iptables-persistent iptables-persistent/autosave_\$v boolean false
				done | debconf-set-selections
				apt-get -q -o Acquire::Check-Valid-Until=false update
				apt-get -q -o Dpkg::Options::=--force-unsafe-io install -y --no-install-recommends $3
				systemctl disable firewalld netfilter-persistent
				apt-get clean"`, "sh", base, temp, booting).CombinedOutput()
	})
}

// onlyChild is the child of a process.
func onlyChild(pid int) (int, error) {
	text := strconv.Itoa(pid)
	children, err := os.ReadFile(filepath.Join("/proc", text, "task", text, "children"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(children)))
}
