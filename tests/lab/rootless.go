package lab

import (
	"fmt"
	"slices"
	"strings"
)

// rootlessSetup gives an account of the user ID $1 to a Debian's root, with subordinate
// IDs, and /dev/net/tun to everybody, for pasta. What other users may open of the machine
// stays as it is: all mounts are the world's own.
const rootlessSetup = `
test -e /dev/net/tun
if [ ! -e /run/tun ]; then
	mknod -m 666 /run/tun c 10 200
	mount --bind /run/tun /dev/net/tun
	mount -t cgroup2 none /sys/fs/cgroup
	mount --make-rshared /
fi
echo "u$1:x:$1:$1::/home/u$1:/bin/sh" >>/etc/passwd
echo "u$1:x:$1:" >>/etc/group
for f in /etc/subuid /etc/subgid; do echo "u$1:$(($1 * 100000)):65536" >>$f; done
for d in /home/u$1 /run/user/$1; do
	mkdir -p $d
	mount -t tmpfs -o mode=700,uid=$1,gid=$1 tmpfs $d
done
setpriv --reuid $1 --regid $1 --clear-groups sh -ec '
	mkdir -p "$1/.config/containers"
	printf "[storage]\ndriver = \"vfs\"\n" >"$1/.config/containers/storage.conf"
	printf "[containers]\ncgroups = \"disabled\"\n[engine]\nruntime = \"crun\"\n" >"$1/.config/containers/containers.conf"
' sh /home/u$1
`

// Rootless is the same Podman for an ordinary user, with the image. An error says why
// there can be none. Until /sys/fs/cgroup is unmounted, root's Podman can't stop its
// containers: crun wants a cgroup2 there, and runc the machine's own.
func (p Podman) Rootless(uid string) (Podman, error) {
	p.World.TB.Helper()
	if max := strings.TrimSpace(p.World.Read("/proc/sys/user/max_user_namespaces")); max == "0" {
		return p, fmt.Errorf("user.max_user_namespaces is 0: unprivileged user namespaces are off")
	}
	if _, err := p.World.Try("sh", "-ec", rootlessSetup, "sh", uid); err != nil {
		return p, err
	}
	p.as = []string{"setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "env", "-i", "-C", "/home/u" + uid,
		"HOME=/home/u" + uid, "XDG_RUNTIME_DIR=/run/user/" + uid, "PATH=/usr/local/bin:/usr/bin:/bin"}
	return p, p.Load()
}

// As runs a command as Podman's user.
func (p Podman) As(args ...string) (string, error) {
	return p.World.Try(slices.Concat(p.as, args)...)
}
