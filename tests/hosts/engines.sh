#!/bin/sh
# Usage: engines.sh
# Unpacks what carries packets between hosts, and installs nothing: Debian's nebula,
# etcd-server, etcd-client and wireguard-tools of this machine's own release, and flannel from its Go
# module. Debian 12 gets the nebula of Debian 13, as docs/hosts.md says. Prints the directory, which
# is made once for a user of the machine.
set -eu
flannel=github.com/flannel-io/flannel@v0.26.7 # v0.28.0 does not build as a module
packages='nebula etcd-server etcd-client wireguard-tools'

cache=${XDG_CACHE_HOME:-$HOME/.cache}/flatnet-tests
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-sid}")
dir=$cache/hosts-$release-$(echo "$flannel $packages" 1 | cksum | cut -d' ' -f1)

# trixie DIR VERB [PACKAGE]: apt-get that knows Debian 13 only, and keeps what it needs in DIR.
trixie() {
	apt-get -q -o Dir::Etc::sourcelist="$1/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$1/lists" \
		-o Dir::Cache="$1" -o APT::Sandbox::User=root -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false "$2" ${3:-}
}

mkdir -p "$cache"
exec 9>"$dir.lock"
flock 9
if [ ! -e "$dir" ]; then
	rm -rf "$dir.tmp"
	mkdir -p "$dir.tmp/debs"
	{
		cd "$dir.tmp/debs"
		if [ $release = bookworm ]; then
			packages=${packages#nebula}
			mkdir -p apt/lists/partial
			mirror=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' | sed -n 's/^Debian Debian //p' | head -n 1)
			echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >apt/sources.list
			trixie $PWD/apt update
			trixie $PWD/apt download nebula
		fi
		timeout 300 apt-get -q -o APT::Sandbox::User=root download $packages
		for deb in "$dir.tmp"/debs/*.deb; do
			dpkg-deb -x "$deb" "$dir.tmp"
		done
		GOBIN=$dir.tmp/usr/bin GOFLAGS= CGO_ENABLED=1 timeout 900 go install "$flannel"
	} >"$dir.log" 2>&1 </dev/null || { tail -n 20 "$dir.log" >&2; exit 1; }
	rm -rf "$dir.tmp/debs" "$dir.tmp/usr/share" "$dir.log"
	mv "$dir.tmp" "$dir"
fi
echo "$dir"
