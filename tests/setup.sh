#!/bin/sh
# Usage: setup.sh demo|test|long|bench
# Installs what that make target needs and the machine lacks.
set -eu
PATH=$PATH:/usr/sbin:/sbin
export DEBIAN_FRONTEND=noninteractive

# Each line: a package, and a command or file that it brings.
base='iproute2 ip
iputils-ping ping
nftables nft
procps sysctl
util-linux nsenter'
# What the demo measures beside flatnet.
reference='containernetworking-plugins /usr/lib/cni/host-local
iptables iptables'
podman='podman podman
runc runc
conmon conmon
busybox-static busybox'
# What Podman 4 needs for CNI, and later ones for netavark.
cni='containernetworking-plugins /usr/lib/cni/host-local
iptables iptables'
names='aardvark-dns /usr/lib/podman/aardvark-dns'
netavark='netavark /usr/lib/podman/netavark
aardvark-dns /usr/lib/podman/aardvark-dns'
tools='debootstrap debootstrap
busybox-static busybox
containernetworking-plugins /usr/lib/cni/host-local
iptables iptables
strace strace
mandoc mandoc
e2fsprogs mkfs.ext4
qemu-user qemu-aarch64
rpm rpm
gcc gcc
libc6-dev /usr/include/stdlib.h
zsh zsh
fish fish'
kernels='qemu-system-x86 qemu-system-x86_64
kmod modprobe
xz-utils xz'
runtimes='containerd containerd
runc runc'

# missing LIST: the packages that the machine lacks.
missing() {
	echo "$1" | while read -r package brings; do
		command -v "$brings" >/dev/null || [ -e "$brings" ] || echo "$package"
	done
}

# provide LIST: install what is missing, and say so if that fails.
provide() {
	packages=$(missing "$1")
	[ -n "$packages" ] || return 0
	echo "installing" $packages
	if ! { timeout 300 apt-get -q update && timeout 1200 apt-get -q install -y --no-install-recommends $packages; } </dev/null >"$log" 2>&1; then
		cat "$log" >&2
		echo "setup.sh: please install" $packages >&2
		return 1
	fi
}

[ "$(id -u)" = 0 ] || { echo "setup.sh: namespaces need root" >&2; exit 1; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT
case $1 in
demo)
	provide "$base"
	if provide "$podman"; then
		case $(podman --version) in
		*" "[0-4].*)
			provide "$cni"
			provide "$names" || echo "going on without container names"
			;;
		*) provide "$netavark" ;;
		esac
	fi || echo "going on without Podman"
	provide "$reference" || echo "going on without the reference plugins"
	;;
test | long)
	provide "$base
$runtimes
$tools"
	provide "$kernels" || echo "going on without kernels in virtual machines"
	"$(dirname "$0")/hosts/engines.sh" >/dev/null || echo "going on without flannel, Nebula and WireGuard"
	;;
bench)
	provide "$base
$tools
time /usr/bin/time"
	peers=${XDG_CACHE_HOME:-$HOME/.cache}/flatnet-tests/bench
	mkdir -p "$peers"
	plugins='containernetworking-plugins iptables nftables'
	for suite in stable sid; do
		[ $suite = stable ] || plugins="$plugins netavark"
		"$(dirname "$0")/bench/peers.sh" $suite "$peers/$suite" $plugins >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
	done
	"$(dirname "$0")/bench/peers.sh" experimental "$peers/experimental" netavark nftables >"$log" 2>&1 ||
		echo "going on without the netavark of Debian's experimental"
	;;
*) exit 2 ;;
esac
