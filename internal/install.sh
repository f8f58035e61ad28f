#!/bin/sh
# Usage: install.sh install BINARY | uninstall | configure | check | forced | clear | unusable
# Puts flatnet where people and this machine's Podman find it, or removes it from
# there; while containers are attached it removes nothing without FORCE=1. The other
# commands are steps of these, for the scripts of packages, which have the files. From
# the environment, set by the Makefile, or as in packages: DESTDIR, PREFIX, PLUGINDIR,
# CONFDIR, NETAVARKDIR, DOORS to choose ("cni", "netavark"), MAN, where manual pages may
# have been made, FORCE, and AGAIN, the command that removes with FORCE.
set -eu
: "${DESTDIR=}" "${PREFIX=/usr}" "${PLUGINDIR=$PREFIX/lib/cni}" "${CONFDIR=/etc/cni/net.d}"
: "${NETAVARKDIR=$PREFIX/libexec/netavark}" "${DOORS=}" "${MAN=}" "${FORCE=}" "${AGAIN=make uninstall FORCE=1}"
here=$(dirname "$0")
conflist=$here/flatnet.conflist
[ -e "$conflist" ] || conflist=$here/../cni/flatnet.conflist
program=$DESTDIR$PREFIX/bin/flatnet
cni=$DESTDIR$PLUGINDIR/flatnet
conf=$DESTDIR$CONFDIR/87-flatnet.conflist
netavark=$DESTDIR$NETAVARKDIR/flatnet
share=$DESTDIR$PREFIX/share
bash=$share/bash-completion/completions/flatnet
zsh=$share/zsh/site-functions/_flatnet
fish=$share/fish/vendor_completions.d/flatnet.fish
man1=$share/man/man1/flatnet.1
man7=$share/man/man7/flatnet-cni.7

# least VERSION MAJOR MINOR: whether a version, such as "podman version 4.9.3", is
# at least that one.
least() {
	version=${1##* }
	major=${version%%.*} minor=${version#*.}
	minor=${minor%%.*}
	[ "$major" -gt "$2" ] || { [ "$major" -eq "$2" ] && [ "$minor" -ge "$3" ]; }
} 2>/dev/null

# netavark prints the version of the netavark that Podman runs, if it has one: it
# looks for it in these directories.
netavark() {
	for dir in ${CONTAINERS_HELPER_BINARY_DIR:-} /usr/local/libexec/podman /usr/local/lib/podman \
		/usr/libexec/podman /usr/lib/podman; do
		[ -x "$dir/netavark" ] || continue
		"$dir/netavark" --version 2>/dev/null || true
		return
	done
}

# doors prints the doors that this machine's Podman has: CNI ended with Podman
# 5, and plugins of netavark came with Podman 4.5 and netavark 1.6. Without a
# Podman it's both.
doors() {
	if [ -n "$DOORS" ]; then
		echo "$DOORS"
	elif ! podman=$(podman --version 2>/dev/null); then
		echo cni netavark
	else
		least "$podman" 5 0 || echo cni
		old=$(netavark)
		if [ -n "$old" ] && ! least "$old" 1 6; then
			echo "$podman has $old, which knows no plugins (they came with netavark 1.6)." >&3
			if least "$podman" 5 0; then echo "Install a newer netavark." >&3; fi
		elif least "$podman" 4 5; then
			echo netavark
		fi
	fi
}

# podman4 says how Podman 4 comes to use CNI, unless it is configured: as a rule it
# uses netavark where that is installed.
podman4() {
	[ -z "$DESTDIR" ] && podman=$(podman --version 2>/dev/null) || return 0
	least "$podman" 4 0 && ! least "$podman" 5 0 || return 0
	file=/etc/containers/containers.conf
	grep -Eqs '^[[:space:]]*network_backend[[:space:]]*=[[:space:]]*"cni"' $file $file.d/*.conf && return
	cat <<-END
		Podman 4 must be told to use CNI, once, before it has containers:
		  mkdir -p $file.d
		  printf '[network]\\nnetwork_backend = "cni"\\n' >$file.d/flatnet.conf
	END
}

# door DIRECTORY/flatnet: the same file by another name, or a copy of it.
door() {
	mkdir -p "$(dirname "$1")"
	if ln -f "$program" "$1.new" 2>/dev/null; then mv -f "$1.new" "$1"; else replace "$program" "$1"; fi
}

# replace FILE TARGET: in one step, for a runtime may call it at any moment.
replace() {
	install -D -m 755 "$1" "$2.new"
	mv -f "$2.new" "$2"
}

# complete SHELL TARGET: what the program itself prints. One of another architecture, which is
# installed below a DESTDIR, prints nothing.
complete() {
	script=$("$program" completion "$1" 2>/dev/null) || return 0
	mkdir -p "$(dirname "$2")"
	printf '%s\n' "$script" >"$2.new"
	chmod 644 "$2.new"
	mv -f "$2.new" "$2"
}

# documents puts completions in their places, and manual pages, if make man has made them.
documents() {
	complete bash "$bash"
	complete zsh "$zsh"
	complete fish "$fish"
	if [ -e "$MAN/flatnet.1" ] && [ -e "$MAN/flatnet-cni.7" ]; then
		install -D -m 644 "$MAN/flatnet.1" "$man1"
		install -D -m 644 "$MAN/flatnet-cni.7" "$man7"
	fi
}

# attached prints a line for each container that is attached to this host, or to the
# network of a user's rootless Podman. Files below a DESTDIR serve no container of
# this one.
attached() {
	[ -z "$DESTDIR" ] || return 0
	for flatnet in "$program" "$cni" "$netavark"; do
		[ -x "$flatnet" ] || continue
		list=$("$flatnet" list) || return
		echo "$list" | tail -n +2
		rootless
		return
	done
}

# rootless prints the same of users: of their network namespaces, which are mounted
# where only processes of the user see them.
rootless() {
	seen=
	for ns in /proc/[0-9]*/root/run/user/*/containers/networks/rootless-netns/rootless-netns \
		/proc/[0-9]*/root/run/user/*/netns/rootless-netns*; do
		user=${ns#*/run/user/}
		user=${user%%/*}
		case $user in *[!0-9]*) continue ;; esac # any user can make directories of other names there
		[ "$(stat -f -c %T "$ns" 2>/dev/null)" = nsfs ] || continue
		inode=$(stat -L -c %i "$ns" 2>/dev/null) || continue
		case $seen in *" $inode "*) continue ;; esac
		seen="$seen $inode "
		list=$(nsenter --net="$ns" "$flatnet" list) || return
		echo "$list" | tail -n +2 | while IFS= read -r line; do printf '%s  (user %s)\n' "$line" "$user"; done
	done
}

# check fails unless no container needs flatnet any more.
check() {
	if left=$(attached) && [ -z "$left" ]; then
		return
	fi
	echo "flatnet stays: without it these containers can't be removed from their networks."
	echo "${left:-(which ones is not known)}"
	echo "Remove them first (podman rm -f CONTAINER, a user's as that user), or run:"
	echo "$AGAIN"
	return 1
} >&2

# forced says what FORCE=1 does to containers.
forced() {
	if left=$(attached) && [ -n "$left" ]; then
		echo "These containers keep their networks, but can't be removed from them properly until"
		echo "flatnet is installed again:"
		echo "$left"
	fi
}

# unusable names Podman's networks that need flatnet.
unusable() {
	[ -z "$DESTDIR" ] || return 0
	for file in $(grep -ls '"driver": *"flatnet"' /etc/containers/networks/*.json); do
		name=${file##*/}
		echo "Without flatnet, no container starts on the network ${name%.json} (podman network rm ${name%.json})"
	done
}

# configure puts the network of CNI in its place where Podman speaks CNI, and no netavark
# with plugins.
configure() {
	podman --version >/dev/null 2>&1 || return 0
	[ "$(doors)" = cni ] || return 0
	install -D -m 644 "$conflist" "$conf"
	echo "CNI: the network flatnet in $conf (podman run --network flatnet)"
	podman4
} 3>&1

# clear removes the bridges that flatnet made, by their alias, once no container is
# attached: other runtimes than Podman 5 leave them for the next container.
clear() {
	command -v ip >/dev/null || { echo "There is no ip: bridges of flatnet stay until the next boot."; return 0; }
	ip -o link show type bridge | sed -n 's/^[0-9]*: \([^:]*\):.*\\ *alias flatnet .*/\1/p' | while read -r bridge; do
		[ -n "$(ip -o link show master "$bridge")" ] || ip link delete "$bridge"
	done
}

case $1 in
install)
	replace "$2" "$program"
	echo "installed $program"
	documents
	exec 3>&1 # for what doors says beside
	chosen=$(doors)
	for d in $chosen; do
		case $d in
		cni)
			door "$cni"
			[ -e "$conf" ] || install -D -m 644 "$conflist" "$conf"
			echo "CNI: $cni, and the network flatnet in $conf (podman run --network flatnet)"
			case $chosen in *netavark*) ;; *) podman4 ;; esac
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
	if [ "$FORCE" = 1 ]; then forced; else check || exit; fi
	rm -f "$program" "$cni" "$netavark" "$bash" "$zsh" "$fish" "$man1" "$man7"
	if cmp -s "$conflist" "$conf"; then rm -f "$conf"; fi
	unusable
	;;
configure | check | forced | clear | unusable) "$1" ;;
*) exit 2 ;;
esac
