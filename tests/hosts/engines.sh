#!/bin/sh
# Usage: engines.sh
# Unpacks what carries packets between hosts, and installs nothing: Debian's nebula,
# etcd-server, etcd-client and wireguard-tools of this machine's own release, and flannel from its Go
# module. Prints the directory, which is made once for a user of the machine.
set -eu
flannel=github.com/flannel-io/flannel@v0.26.7 # v0.28.0 does not build as a module
packages='nebula etcd-server etcd-client wireguard-tools'

cache=${XDG_CACHE_HOME:-$HOME/.cache}/flatnet-tests
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-sid}")
dir=$cache/hosts-$release-$(echo "$flannel $packages" | cksum | cut -d' ' -f1)
mkdir -p "$cache"
exec 9>"$dir.lock"
flock 9
if [ ! -e "$dir" ]; then
	rm -rf "$dir.tmp"
	mkdir -p "$dir.tmp/debs"
	{
		(cd "$dir.tmp/debs" && timeout 300 apt-get -q -o APT::Sandbox::User=root download $packages)
		for deb in "$dir.tmp"/debs/*.deb; do
			dpkg-deb -x "$deb" "$dir.tmp"
		done
		GOBIN=$dir.tmp/usr/bin GOFLAGS= CGO_ENABLED=1 timeout 900 go install "$flannel"
	} >"$dir.log" 2>&1 </dev/null || { tail -n 20 "$dir.log" >&2; exit 1; }
	rm -rf "$dir.tmp/debs" "$dir.tmp/usr/share" "$dir.log"
	mv "$dir.tmp" "$dir"
fi
echo "$dir"
