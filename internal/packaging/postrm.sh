#!/bin/sh
# After removal. dpkg calls it with "remove" or, for what configuration and leases are
# left, with "purge"; rpm with 0, and knows no purge.
set -e
unset DESTDIR PREFIX PLUGINDIR CONFDIR NETAVARKDIR DOORS # they are the caller's, not the package's
conf=/etc/cni/net.d/87-flatnet.conflist
state=/var/lib/flatnet

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
	if [ -e "$state/.conflist" ]; then
		rm -f "$conf" "$conf.saved"
	fi
	if [ -e "$state/.attached" ]; then # to containers, at a removal by FORCE=1
		echo "flatnet: $state and /run/flatnet stay, for containers were attached" >&2
	else
		rm -rf "$state" /run/flatnet || true # which may be mounts
		rmdir --ignore-fail-on-non-empty /etc/cni/net.d /etc/cni 2>/dev/null || true
	fi
	;;
esac
