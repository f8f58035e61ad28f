# What happens in the virtual machine: three hosts, each in namespaces of its own, follow
# the recipe in /recipe. Each line PASS or FAIL is a test, DONE is the end. The machine's
# own namespace plays the outside, and switches the LAN.
PATH=/usr/sbin:/usr/bin:/sbin:/bin UNITS=/usr/lib/systemd/system
export PATH UNITS
ip() { /usr/sbin/ip "$@"; } # busybox's own can't name a peer

# ok WHAT COMMAND...: the command must succeed.
ok() {
	what=$1
	shift
	if out=$("$@" 2>&1); then echo "PASS $what"; else echo "FAIL $what:" $out; fi
}

# on HOST COMMAND...: runs on a host.
on() {
	host=$1
	shift
	nsenter -t $(cat /run/host$host) -m -n "$@"
}

# in_ HOST CONTAINER COMMAND...: runs in a container's network.
in_() {
	container=/run/netns/$2
	one=$1
	shift 2
	on $one nsenter --net=$container "$@"
}

# retry COMMAND...: until it succeeds, or has failed often.
retry() {
	for i in 1 2 3 4 5; do
		"$@" && return
	done
	return 1
}

# sees SERVER WANT COMMAND...: the server sees what the command runs in by that address.
asks() {
	to=$1 want=$2
	shift 2
	got=$(FLATNET_LAB_ROLE=ask "$@" peer $to 2>&1)
	[ "$got" = $want ] || { echo "$to sees $got, not $want"; return 1; }
}
sees() { retry asks "$@"; }

# unanswered COMMAND...: must fail.
unanswered() { ! "$@"; }

host() {
	unshare -m -n sh -c 'mount -t tmpfs run /run && mount -t tmpfs var /var && mount -t tmpfs etc /etc &&
		mkdir -p /run/netns /var/lib /etc/wireguard /etc/systemd/system && ip link set lo up && : >/run/ready && exec sleep 1000000' &
	pid=$!
	echo $pid >/run/host$1
	until [ -e /proc/$pid/root/run/ready ]; do [ -e /proc/$pid ] || return; done
	ip link add port$1 type veth peer name eth0 netns $pid
	ip link set port$1 master lan up
	ip link add up$1 type veth peer name up0 netns $pid
	ip addr add 192.0.2.$(($1 * 4 + 2))/30 dev up$1
	ip link set up$1 up
	on $1 ip addr add 198.51.100.$1/24 dev eth0
	on $1 ip link set eth0 up
	on $1 ip addr add 192.0.2.$(($1 * 4 + 1))/30 dev up0
	on $1 ip link set up0 up
	on $1 ip route add default via 192.0.2.$(($1 * 4 + 2))
}

# call VERB HOST: attaches the container web to the network of the recipe, or takes it away.
call() {
	on $2 sh -c 'echo "{\"container_id\":\"web\",\"container_name\":\"web\",\"network\":$(cat /run/flat.json),
		\"port_mappings\":[{\"container_port\":80,\"host_ip\":\"\",\"host_port\":8080,\"protocol\":\"tcp\",\"range\":1}],
		\"network_options\":{\"interface_name\":\"eth0\"}}" | flatnet '$1' /run/netns/web'
}

# serve COMMAND...: a server on port 80 of what the command runs in.
serve() {
	sleep 100000 | FLATNET_LAB_ROLE=serve "$@" peer :80 >/dev/null &
	until "$@" netstat -ltn | grep -q ':80 '; do :; done
}

# flat WHAT HOST...: containers of the hosts see each other's own addresses.
flat() {
	when=$1
	shift
	for from in "$@"; do
		for to in "$@"; do
			[ $from = $to ] || ok "$when: from host $from to host $to" sees 10.100.$to.10:80 10.100.$from.10 in_ $from web
		done
	done
}

# ours HOST COUNT: the routes that flatnet made.
ours() { [ $(on $1 /usr/sbin/ip route show proto 87 | wc -l) = $2 ]; }
# pinged COMMAND...: the echo requests that have come to what the command runs in.
pinged() { "$@" awk '/^Icmp:/ && ++n == 2 { print $10 }' /proc/net/snmp; }

load bridge
load veth
for module in nf_tables nft_chain_nat nft_nat nft_masq nft_ct wireguard; do load $module; done
mkdir -p /var /etc
ip link set lo up
ip link add lan type bridge
ip link set lan up
serve env
for n in 1 2 3; do host $n; done
for n in 1 2 3; do ok "unit of host $n" on $n sh -e /recipe/1.$n; done
for n in 1 2 3; do ok "keys of host $n" on $n sh -e /recipe/2.$n; done
for from in 1 2 3; do
	for to in 1 2 3; do
		on $from cat /etc/wireguard/$from.pub | on $to sh -c "cat >/etc/wireguard/$from.pub.new && mv /etc/wireguard/$from.pub.new /etc/wireguard/$from.pub"
	done
done
for n in 1 2 3; do ok "recipe of host $n" on $n sh -e /recipe/3.$n; done
for n in 1 2 3; do
	on $n sh -c ': >/run/netns/web && unshare --net=/run/netns/web true'
	ok "container of host $n" call setup $n
	serve in_ $n web
done
flat "recipe" 1 2 3
for n in 1 2 3; do
	ok "outside of host $n" sees 192.0.2.$((n * 4 + 2)):80 192.0.2.$((n * 4 + 1)) in_ $n web
	ok "published port of host $n" sees 192.0.2.$((n * 4 + 1)):8080 192.0.2.$((n * 4 + 2)) env
done

# AllowedIPs of the receiver has no address of another host.
in_ 2 web ip addr add 10.100.1.77/32 dev lo
before=$(pinged in_ 3 web)
in_ 2 web ping -c1 -W1 -I 10.100.1.77 10.100.3.10 >/dev/null
ok "an own address, after a forged one" in_ 2 web ping -c1 -W20 10.100.3.10
ok "the forged one does not arrive" [ $(pinged in_ 3 web) = $((before + 1)) ]

on 3 ip link set eth0 down
flat "without host 3" 1 2
on 3 ip link set eth0 up
flat "with host 3 again" 1 3

# What is for another host stays here while the tunnel is away. The outside would have it.
ip addr add 10.100.2.10/32 dev lo
on 1 wg-quick down wg0 2>/dev/null
clear=$(pinged env)
for from in "on 1" "in_ 1 web"; do
	ok "nobody answers \"$from\" without the tunnel" unanswered $from ping -c1 -W1 10.100.2.10
done
ok "the outside, behind it" sees 192.0.2.6:80 192.0.2.5 in_ 1 web
ok "nothing leaves in clear" [ $(pinged env) = $clear ]
on 1 /usr/sbin/ip route del unreachable 10.100.0.0/16
in_ 1 web ping -c1 -W1 10.100.2.10 >/dev/null
ok "it would, without the unit" [ $(pinged env) -gt $clear ]
ip addr del 10.100.2.10/32 dev lo
ok "the unit and the tunnel again" on 1 systemctl enable --now flat-or-nowhere wg-quick@wg0
flat "the tunnel again" 1 2

# The routes are flatnet's where wg-quick sets none.
call teardown 1 >/dev/null
on 1 wg-quick down wg0 2>/dev/null
on 1 sed -i 's/^ListenPort.*/&\nTable = off\nPostUp = flatnet reload || true/' /etc/wireguard/wg0.conf
ok "the network with peers" on 1 podman network create --driver flatnet -o host_id=1 -o peers=10.100.2.0/24@wg0,10.100.3.0/24@wg0,10.100.9.0/24@absent flat
ok "a container before the tunnel" call setup 1
ok "no routes before the tunnel" ours 1 0
ok "the tunnel" on 1 wg-quick up wg0
ok "the routes with it" ours 1 2
flat "peers" 1 2
on 1 wg-quick down wg0 2>/dev/null
ok "no routes without the tunnel" ours 1 0
ok "the tunnel again" on 1 wg-quick up wg0
flat "peers, after the tunnel was away" 1 3
for n in 1 2 3; do ok "teardown of host $n" call teardown $n; done
ok "no routes without containers" ours 1 0
echo DONE
poweroff -f
