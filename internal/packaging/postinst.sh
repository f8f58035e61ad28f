#!/bin/sh
# After installation. dpkg calls it with "configure OLD-VERSION"; rpm with the number
# of versions that are installed then. Containers go on running on the old version's
# links, rules and leases, which the new one knows.
set -e
unset DESTDIR PREFIX PLUGINDIR CONFDIR NETAVARKDIR DOORS # they are the caller's, not the package's
conf=/etc/cni/net.d/87-flatnet.conflist
state=/var/lib/flatnet

case $1 in
configure) old=$2 ;;
1) old= ;;
[2-9]*) old=some ;;
*) exit 0 ;;
esac

rm -f "$state/.attached"

# The network of CNI, as make install has it: where Podman is one that speaks CNI, and
# once; who removes it then does not get it again.
if [ -e "$conf.saved" ]; then
	[ -e "$conf" ] || mv "$conf.saved" "$conf"
elif [ -z "$old" ] && [ ! -e "$conf" ]; then
	/usr/share/flatnet/install.sh configure
	if [ -e "$conf" ]; then
		mkdir -p -m 700 "$state"
		: >"$state/.conflist"
	fi
fi

# Debian enables a unit when it is installed; of others, the distribution's presets
# decide.
unit=flatnet.service
if [ -n "$old" ]; then # which had firewalls start the unit; now they have drop-ins
	for dir in /etc/systemd/system /var/lib/systemd/deb-systemd-helper-enabled; do
		rm -f $dir/nftables.service.wants/$unit $dir/firewalld.service.wants/$unit
		rmdir $dir/nftables.service.wants $dir/firewalld.service.wants 2>/dev/null || true
	done
fi
if command -v deb-systemd-helper >/dev/null; then
	deb-systemd-helper unmask $unit >/dev/null || true
	if deb-systemd-helper --quiet was-enabled $unit; then
		deb-systemd-helper enable $unit >/dev/null || true
	else
		deb-systemd-helper update-state $unit >/dev/null || true
	fi
elif [ -z "$old" ] && command -v systemctl >/dev/null; then
	systemctl --no-reload preset $unit || true
fi
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload || true
if systemctl is-enabled --quiet $unit; then # what rules have been lost are back at once
	if command -v deb-systemd-invoke >/dev/null; then
		deb-systemd-invoke restart $unit >/dev/null || true
	else
		systemctl restart $unit || true
	fi
fi
