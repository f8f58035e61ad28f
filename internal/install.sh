#!/bin/sh
# Usage: install.sh install BINARY | uninstall
# Puts flatnet where people and this machine's Podman find it, or removes it from
# there; while containers are attached it removes nothing without FORCE=1. From
# the environment, set by the Makefile: DESTDIR, PREFIX, PLUGINDIR, CONFDIR,
# NETAVARKDIR, DOORS to choose ("cni", "netavark"), and FORCE.
set -eu
here=$(dirname "$0")
conflist=$here/../cni/flatnet.conflist
program=$DESTDIR$PREFIX/bin/flatnet
cni=$DESTDIR$PLUGINDIR/flatnet
conf=$DESTDIR$CONFDIR/87-flatnet.conflist
netavark=$DESTDIR$NETAVARKDIR/flatnet

# doors prints the doors that this machine's Podman has: CNI ended with Podman
# 5, and plugins of netavark came with 4.5. Without a Podman it's both.
doors() {
	if [ -n "$DOORS" ]; then
		echo "$DOORS"
	elif ! version=$(podman --version 2>/dev/null); then
		echo cni netavark
	else
		version=${version##* }
		major=${version%%.*} minor=${version#*.}
		minor=${minor%%.*}
		[ "$major" -ge 5 ] || echo cni
		[ "$major" -lt 4 ] || [ "$major" -eq 4 ] && [ "$minor" -lt 5 ] || echo netavark
	fi
}

# door DIRECTORY/flatnet: the same file by another name, or a copy of it.
door() {
	mkdir -p "$(dirname "$1")"
	ln -f "$program" "$1" 2>/dev/null || install -m 755 "$program" "$1"
}

# attached prints a line for each container that is attached to this host. Files
# below a DESTDIR serve no container of this one.
attached() {
	[ -z "$DESTDIR" ] || return 0
	for flatnet in "$program" "$cni" "$netavark"; do
		[ -x "$flatnet" ] || continue
		list=$("$flatnet" list) && echo "$list" | tail -n +2
		return
	done
}

case $1 in
install)
	install -D -m 755 "$2" "$program"
	echo "installed $program"
	for d in $(doors); do
		case $d in
		cni)
			door "$cni"
			[ -e "$conf" ] || install -D -m 644 "$conflist" "$conf"
			echo "CNI: $cni, and the network flatnet in $conf (podman run --network flatnet)"
			;;
		netavark)
			door "$netavark"
			echo "netavark: $netavark (podman network create --driver flatnet flatnet)"
			;;
		*) echo "install.sh: DOORS has $d, which is neither cni nor netavark" >&2; exit 2 ;;
		esac
	done
	;;
uninstall)
	if [ "$FORCE" != 1 ] && { ! left=$(attached) || [ -n "$left" ]; }; then
		echo "flatnet stays: without it these containers can't be removed from their networks."
		echo "${left:-(which ones is not known)}"
		echo "Remove them first (podman rm -f CONTAINER), or run: make uninstall FORCE=1"
		exit 1
	fi >&2
	rm -f "$program" "$cni" "$netavark"
	if cmp -s "$conflist" "$conf"; then rm -f "$conf"; fi
	;;
*) exit 2 ;;
esac
