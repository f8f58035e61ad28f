#!/bin/sh
# After removal. dpkg calls it with "remove" or, for what configuration and leases are
# left, with "purge"; rpm with 0, and knows no purge.
set -e
unset DESTDIR PREFIX PLUGINDIR CONFDIR NETAVARKDIR DOORS # they are the caller's, not the package's
conf=/etc/cni/net.d/87-flatnet.conflist
state=/var/lib/flatnet

# attached tells whether a link has the alias of an attachment.
attached() {
	if command -v ip >/dev/null; then
		ip -o link show type veth | grep -q ' alias flatnet [^ ]*/'
	else
		grep -qs '^flatnet [^ ]*/' /sys/class/net/*/ifalias
	fi
}

case $1 in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload || true
	fi
	;;
purge)
	if command -v deb-systemd-helper >/dev/null; then
		deb-systemd-helper purge flatnet.service >/dev/null || true
	fi
	# Not only at a removal by FORCE=1 may containers be attached: flatnet may have been
	# installed another way meanwhile.
	if [ -e "$state/.attached" ] || [ -e /usr/local/bin/flatnet ] || attached; then
		echo "flatnet: $state and /run/flatnet are kept, because containers are or were attached" >&2
		rm -f "$conf.saved" "$state/.conflist"
		exit 0
	fi
	if [ -e "$state/.conflist" ]; then
		rm -f "$conf.saved"
		rmdir --ignore-fail-on-non-empty /etc/cni/net.d /etc/cni 2>/dev/null || true
	fi
	rm -rf "$state" /run/flatnet || true # which may be mounts
	;;
esac
