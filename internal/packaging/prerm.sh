#!/bin/sh
# Before removal. dpkg calls it with "remove", rpm with 0 versions that are installed
# then. While containers are attached, flatnet stays: without it they can't be removed
# from their networks. FORCE=1 removes it all the same.
set -e
unset DESTDIR PREFIX PLUGINDIR CONFDIR NETAVARKDIR DOORS # they are the caller's, not the package's
conf=/etc/cni/net.d/87-flatnet.conflist
state=/var/lib/flatnet

case $1 in
remove) again="apt-get remove flatnet" ;;
0) again="rpm -e flatnet" ;;
*) exit 0 ;;
esac

if [ "${FORCE:-}" = 1 ]; then
	/usr/share/flatnet/install.sh forced
	if ! /usr/share/flatnet/install.sh check 2>/dev/null; then
		mkdir -p -m 700 "$state"
		: >"$state/.attached" # what a purge leaves to them
	fi
else
	AGAIN="FORCE=1 $again" /usr/share/flatnet/install.sh check
	/usr/share/flatnet/install.sh clear
fi
/usr/share/flatnet/install.sh unusable
if [ -e "$state/.conflist" ] && [ -e "$conf" ]; then
	if [ "$1" = 0 ] && cmp -s /usr/share/flatnet/flatnet.conflist "$conf"; then
		rm -f "$conf" "$state/.conflist" # as rpm does with what nobody has edited
	else
		mv "$conf" "$conf.saved"
	fi
fi
if [ "$1" = 0 ] && command -v systemctl >/dev/null; then # Debian's helpers do it at a purge
	systemctl --no-reload disable flatnet.service 2>/dev/null || true
fi
if [ -d /run/systemd/system ]; then
	systemctl stop flatnet.service || true
fi
