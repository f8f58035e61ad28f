#!/bin/sh
# Usage: peers.sh SUITE DIR PACKAGES...
# Unpacks packages of a Debian suite, with all that they depend on, into DIR. Of
# experimental it takes netavark only, and all else of sid.
# Nothing is installed; the packages come from the mirror that apt uses.
set -eu
suite=$1 dir=$2
shift 2
[ ! -e "$dir" ] || exit 0
mirror=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' | sed -n 's/^Debian Debian //p' | head -n 1)
apt=$dir.apt
rm -rf "$apt" "$dir.tmp"
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$dir.tmp"
: >"$apt/status"
[ "$suite" != experimental ] || suite="sid experimental"
for part in $suite; do
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $part main"
done >"$apt/sources.list"
printf 'Package: netavark\nPin: release a=experimental\nPin-Priority: 990\n' >"$apt/preferences"
private() {
	apt-get -q -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=- -o Dir::Etc::preferences="$apt/preferences" -o Dir::State="$apt" \
		-o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" \
		-o APT::Sandbox::User=root "$@"
}
private update
private install -y --download-only --no-install-recommends "$@"
# A merged /usr, as every Debian has it since trixie.
mkdir -p "$dir.tmp/usr/bin" "$dir.tmp/usr/sbin" "$dir.tmp/usr/lib" "$dir.tmp/usr/lib64"
for name in bin sbin lib lib64; do
	ln -s "usr/$name" "$dir.tmp/$name"
done
for deb in "$apt"/cache/archives/*.deb; do
	dpkg-deb --fsys-tarfile "$deb" | tar -C "$dir.tmp" --keep-directory-symlink -x
done
# What the alternatives of an installed iptables are.
for family in iptables ip6tables; do
	ln -sf "$family-nft" "$dir.tmp/usr/sbin/$family"
done
# A PATH without iptables, and where the benchmark mounts its own directories.
mkdir -p "$dir.tmp/nft-only" "$dir.tmp/proc" "$dir.tmp/sys" "$dir.tmp/dev" "$dir.tmp/run" "$dir.tmp/tmp"
ln -s ../usr/sbin/nft "$dir.tmp/nft-only/nft"
(cd "$apt/cache/archives" && ls) >"$dir.tmp/packages"
rm -rf "$apt"
mv "$dir.tmp" "$dir"
