package lab

import (
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// packages are what a suite's root has: a Podman, what its plugins and its
// containers need, and what installs flatnet.
func packages(suite string) string {
	list := "podman,runc,conmon,nftables,iproute2,iputils-ping,jq,busybox-static,procps,ca-certificates,make"
	if suite == "bookworm" {
		return list + ",containernetworking-plugins,iptables,buildah,aardvark-dns,slirp4netns,uidmap"
	}
	return list + ",netavark,aardvark-dns,passt,uidmap"
}

// Repository is where a root that [World.Debian] enters has the repository.
const Repository = "/mnt/flatnet"

// NetavarkPlugin is where make install puts netavark's plugin.
const NetavarkPlugin = "/usr/local/libexec/netavark/flatnet"

// enterRoot makes root $1 the root of a mount namespace of its own, with
// repository $2 in it and control groups of version $3, or of either for v1, and keeps
// that for as long as its input lasts. Nothing that is written gets into $1.
const enterRoot = `
d=/run/debian
mkdir -p $d/upper $d/work $d/root
mount -t overlay overlay -o lowerdir=$1,upperdir=$d/upper,workdir=$d/work $d/root
cd $d/root
mkdir -p oldroot .` + Repository + `
mount --rbind /sys sys
[ "$3" = v1 ] || [ -e sys/fs/cgroup/cgroup.controllers ] || mount -t cgroup2 cgroup2 sys/fs/cgroup
mount --rbind /dev dev
mount -t proc proc proc
mount -t tmpfs -o mode=755 tmpfs run
mkdir -p run/lock var/lib/containers var/lib/flatnet
mount --bind "$2" .` + Repository + `
mount -o remount,bind,ro .` + Repository + `
mount -t tmpfs -o mode=755 tmpfs var/lib/containers
mount -t tmpfs -o mode=755 tmpfs var/lib/flatnet
pivot_root . oldroot
umount -l /oldroot
grep -qs localhost etc/hosts || echo 127.0.0.1 localhost >>etc/hosts # else podman import asks DNS for 10 s
make -s -C ` + Repository + ` -o build install >/dev/null
echo ready
exec cat >/dev/null
`

// Debian is the same world as Debian of a suite sees it, with that one's Podman
// and flatnet of the repository installed: bookworm, whose Podman has CNI, or a
// later one, whose Podman has netavark; or experimental, which is sid with the newest
// Podman and netavark. An error says why there is none; as a
// rule the machine has no debootstrap, or can't reach its mirror.
func (w *World) Debian(suite, repository string) (Podman, error) {
	w.TB.Helper()
	root, err := debian(suite)
	if err != nil {
		return Podman{}, err
	}
	cgroups := "v1"
	if suite == experimental { // Podman 6 knows no other
		cgroups = "v2"
	}
	cmd := w.Cmd("unshare", "--mount", "--propagation", "private", "sh", "-ec", enterRoot, "sh", root, repository, cgroups)
	d := *w
	d.Place.world = &d
	start(w.TB, cmd)
	// nsenter has entered the world's PID namespace by a child.
	if d.pid, err = onlyChild(cmd.Process.Pid); err != nil {
		w.TB.Fatalf("process of the %s root: %v", suite, err)
	}
	*w.pids = append(*w.pids, d.pid)
	p, err := d.Podman()
	if err != nil {
		w.TB.Fatalf("Podman of %s: %v", suite, err)
	}
	return p, nil
}

// debian returns a root file system of a suite. It is made once for a user of
// the machine, and again when the list of packages changes.
func debian(suite string) (string, error) {
	include := packages(suite)
	return cached(suite, include, func(ctx context.Context, temp string) ([]byte, error) {
		base := strings.Replace(suite, experimental, "sid", 1)
		cmd := exec.CommandContext(ctx, "debootstrap", "--variant=minbase", "--include="+include, base, temp, Mirror())
		out, err := cmd.CombinedOutput()
		if err == nil && suite == experimental {
			out, err = upgrade(ctx, temp)
		}
		return out, err
	})
}

// cached returns a root file system, by its name and what it contains. If it is not
// there yet, fill makes it in a directory that does not exist, and returns what it
// printed.
func cached(name, contains string, fill func(ctx context.Context, temp string) ([]byte, error)) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "flatnet-tests")
	list := fnv.New32a()
	list.Write([]byte(contains))
	root := filepath.Join(cache, fmt.Sprintf("%s-%08x", name, list.Sum32()))
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return "", err
	}
	lock, err := os.Create(root + ".lock")
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
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	temp := root + ".tmp"
	if err := os.RemoveAll(temp); err != nil {
		return "", err
	}
	if out, err := fill(ctx, temp); err != nil {
		os.RemoveAll(temp)
		return "", fmt.Errorf("root %s: %w: %s", name, err, out[max(0, len(out)-500):])
	}
	return root, os.Rename(temp, root)
}

// experimental is the suite that is no whole one: what there is newer than in sid.
const experimental = "experimental"

// upgrade makes the Podman and netavark of a sid those of experimental. A snapshot of the
// archive may be older than its signature says that it is good for.
func upgrade(ctx context.Context, root string) ([]byte, error) {
	resolver, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(root, "etc/resolv.conf"), resolver, 0o644); err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, "chroot", root, "env", "DEBIAN_FRONTEND=noninteractive", "sh", "-ec", `
		echo "deb $1 experimental main" >/etc/apt/sources.list.d/experimental.list
		set -- -q -o Acquire::Check-Valid-Until=false -o Dpkg::Options::=--force-unsafe-io
		apt-get "$@" update
		apt-get "$@" install -y --no-install-recommends -t experimental podman netavark aardvark-dns
		apt-get clean`, "sh", Mirror()).CombinedOutput()
}

// Mirror is the Debian mirror that the machine's apt uses, or else Debian's own.
func Mirror() string {
	targets, _ := exec.Command("apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)", "Created-By: Packages").Output()
	for line := range strings.Lines(string(targets)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Debian" && f[1] == "Debian" {
			return f[2]
		}
	}
	return "http://deb.debian.org/debian"
}
