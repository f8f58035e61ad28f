# What tests in a virtual machine are made of: each line PASS or FAIL is a test,
# DONE is the end. There are busybox, flatnet, confine and peer (the laboratory's, see
# lab/udp.go), no /etc, and no module until it is loaded.
conf='{"cniVersion":"1.0.0","name":"flatnet","type":"flatnet"}'
dual='{"cniVersion":"1.0.0","name":"flatnet","type":"flatnet","ipam":{"type":"flatnet-ipam","ranges":[[{"subnet":"10.87.1.0/24"}],[{"subnet":"fd00:87::/64"}]]}}'
bare='{"cniVersion":"1.0.0","name":"flatnet","type":"flatnet","ipMasq":false}'
ports='"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80},{"hostPort":8053,"containerPort":53,"protocol":"udp"}]}'
ported=${conf%\}},$ports}
dualported=${dual%\}},$ports}
netavark='{"container_id":"c1","container_name":"c1","port_mappings":[{"container_port":80,"host_ip":"","host_port":8080,"protocol":"tcp","range":1}],
	"network":{"name":"flatnet","id":"f1a7","driver":"flatnet","network_interface":"flatnet-br0","dns_enabled":false,"internal":false,"ipv6_enabled":false,
		"ipam_options":{"driver":"flatnet"},"subnets":[{"subnet":"10.87.1.0/24","gateway":"10.87.1.1"}]},
	"network_options":{"interface_name":"eth0","aliases":["c1"]}}'
as= # a command that runs flatnet

# ok WHAT COMMAND...: the command must succeed.
ok() {
	what=$1
	shift
	if out=$("$@" 2>&1); then echo "PASS $what"; else echo "FAIL $what:" $out; fi
}

# says WHAT TEXT COMMAND...: the command must succeed and say TEXT.
says() {
	what=$1 text=$2
	shift 2
	ok "$what" "$@"
	case $out in
	*"$text"*) ;;
	*) echo "FAIL $what: does not say $text:" $out ;;
	esac
}

# refused WHAT TEXT COMMAND...: the command must fail and say TEXT.
refused() {
	what=$1 text=$2
	shift 2
	if out=$("$@" 2>&1); then
		echo "FAIL $what: succeeded:" $out
	else
		case $out in
		*"$text"*) echo "PASS $what" ;;
		*) echo "FAIL $what: does not say $text:" $out ;;
		esac
	fi
}

# cni COMMAND ID [CONF]: a call about a container.
cni() {
	echo "${3:-$conf}" | CNI_COMMAND=$1 CNI_CONTAINERID=$2 CNI_NETNS=/run/netns/$2 CNI_IFNAME=eth0 $as flatnet
}

add() { cni ADD $1 "$2" >/run/result-$1 || { cat /run/result-$1; return 1; }; }
check() { cni CHECK $1 "${2%\}},\"prevResult\":$(cat /run/result-$1)}"; }
addr() { grep -o '10\.87\.1\.[0-9]*/24' /run/result-$1 | cut -d/ -f1; }
addr6() { grep -o 'fd00:87::[0-9a-f]*/64' /run/result-$1 | cut -d/ -f1; }
netns() { : >/run/netns/$1 && unshare --net=/run/netns/$1 true; }
in_() { ns=$1; shift; nsenter --net=/run/netns/$ns "$@"; }
# echoed ADDR [COMMAND...]: one of several echo requests, sent by way of the
# command, is answered: a single one may get lost on a busy machine.
echoed() {
	to=$1
	shift
	for i in 1 2 3 4 5 6; do "$@" ping -c1 -W10 $to && return; done
	return 1
}
pings() { echoed $2 nsenter --net=/run/netns/$1; }

# rules: what nf_tables has of flatnet's, by the modules that they hold.
rules() { grep -E '^nft_(masq|nat|chain_nat) [0-9]+ [^0]' /proc/modules; }

# clean: nothing is left but the bridge.
clean() {
	ip link | grep fn- && return 1
	rules && return 1
	grep -A1 '"allocations": {$' /var/lib/flatnet/ipam/allocations.json | grep '10\.87' && return 1
	grep 1 /proc/sys/net/ipv4/conf/*/route_localnet && return 1
	return 0
}

# job: what flatnet is for.
job() {
	netns c1
	netns c2
	ok "$1: ADD" add c1 "$conf"
	ok "$1: ADD of a second" add c2 "$conf"
	ok "$1: host to container" echoed $(addr c1)
	ok "$1: container to gateway" pings c1 10.87.1.1
	ok "$1: container to container" pings c1 $(addr c2)
	ok "$1: container to the outside" pings c1 192.0.2.2
	ok "$1: rules are there" rules
	ok "$1: CHECK" check c1 "$conf"
	ok "$1: DEL" cni DEL c1
	ok "$1: DEL of what is gone" cni DEL c1
	ok "$1: the other one is not hurt" pings c2 192.0.2.2
	ok "$1: GC" cni GC x '{"cniVersion":"1.1.0","name":"flatnet","type":"flatnet","cni.dev/valid-attachments":[]}'
	ok "$1: nothing is left" clean
	umount /run/netns/c1 /run/netns/c2
}

# serve: c1 serves its bytes by TCP and its address by UDP.
serve() {
	in_ c1 nc -ll -p 80 -e cat /run/bytes &
	tcp=$!
	sleep 100000 | FLATNET_LAB_ROLE=serve-udp in_ c1 peer $(addr c1):53 &
	udp=$!
	until in_ c1 netstat -ltn | grep -q :80; do :; done
	until in_ c1 netstat -lun | grep -q :53; do :; done
}

# bytes FROM ADDRESS: the published TCP port leads to all that c1 serves.
bytes() { in_ $1 nc -w 60 $2 8080 </dev/null | cmp - /run/bytes; }

# datagram FROM ADDRESS: the published UDP port leads to c1. One may be lost.
datagram() {
	for try in 1 2 3 4 5; do
		got=$(FLATNET_LAB_ROLE=ask-udp in_ $1 peer "0 $2:8053") && break
	done
	case $got in
	"$(addr c1) to "*) ;;
	*) echo "got $got" && return 1 ;;
	esac
}

# ports: published ports, read from wherever somebody may be.
ports() {
	netns c1
	netns c2
	ok "$1: ADD with ports" add c1 "$ported"
	ok "$1: ADD of a neighbour" add c2 "$conf"
	serve
	for from in "outside 192.0.2.1" "c2 192.0.2.1" "c2 10.87.1.1" "c1 192.0.2.1" "host 192.0.2.1" "host 127.0.0.1"; do
		ok "$1: TCP port, from and to $from" bytes $from
		ok "$1: UDP port, from and to $from" datagram $from
	done
	ok "$1: CHECK with ports" check c1 "$ported"
	ok "$1: DEL with ports" cni DEL c1 "$ported"
	refused "$1: the TCP port is closed" "EOF on -" bytes outside 192.0.2.1
	refused "$1: the UDP port is closed" "got" datagram outside 192.0.2.1
	ok "$1: DEL of the neighbour" cni DEL c2
	kill $tcp $udp
	ok "$1: no port is left" clean
	umount /run/netns/c1 /run/netns/c2
}

# mirrored: in WSL2's mirrored mode without nft_ct, ADD says what is missing and does
# the rest.
mirrored() {
	netns c1
	ip link add loopback0 type veth
	ip rule add pref 1 table 127
	says "mirrored mode without nft_ct: ADD" CONFIG_NFT_CT add c1 "$ported"
	serve
	ok "mirrored mode without nft_ct: TCP port" bytes outside 192.0.2.1
	ok "mirrored mode without nft_ct: CHECK" check c1 "$ported"
	ok "mirrored mode without nft_ct: reload" $as flatnet reload
	refused "mirrored mode without nft_ct: no rule" "" sh -c "ip rule | grep fwmark"
	ok "mirrored mode without nft_ct: DEL" cni DEL c1 "$ported"
	kill $tcp $udp
	ok "mirrored mode without nft_ct: nothing is left" clean
	ip rule del pref 1 table 127
	ip link del loopback0
	umount /run/netns/c1
}

# podman: what Podman 5 asks for.
podman() {
	netns c1
	ok "$1: setup" sh -c "echo '$netavark' | $as flatnet setup /run/netns/c1 >/run/result-c1"
	serve
	ok "$1: the outside, after setup" pings c1 192.0.2.2
	ok "$1: TCP port, after setup" bytes outside 192.0.2.1
	ok "$1: teardown" sh -c "echo '$netavark' | $as flatnet teardown /run/netns/c1"
	kill $tcp $udp
	ok "$1: nothing is left after teardown" clean
	umount /run/netns/c1
}

# vlan NETWORK ID FIRST: a configuration with a VLAN, of addresses from FIRST on.
vlan() {
	echo '{"cniVersion":"1.0.0","name":"'$1'","type":"flatnet","bridge":"brv","vlan":'$2',"isDefaultGateway":false,"isGateway":false,"ipMasq":false,"ipam":{"type":"flatnet-ipam","subnet":"10.87.1.0/24","rangeStart":"'$3'"}}'
}

# vlans: containers of one VLAN reach each other and nobody else.
vlans() {
	red=$(vlan red 100 10.87.1.10)
	blue=$(vlan blue 200 10.87.1.20 | sed 's/"vlan"/"vlanTrunk":[{"id":4094},{"minID":300,"maxID":1300}],&/')
	for c in c1 c2 c3; do netns $c; done
	ok "VLANs: ADD" add c1 "$red"
	ok "VLANs: ADD of a second" add c2 "$red"
	ok "VLANs: ADD in another VLAN" add c3 "$blue"
	ok "VLANs: in one VLAN" pings c1 $(addr c2)
	refused "VLANs: into another VLAN" "100% packet loss" in_ c1 ping -c1 -W5 $(addr c3)
	ok "VLANs: CHECK" check c1 "$red"
	ok "VLANs: CHECK of a trunk" check c3 "$blue"
	ok "VLANs: STATUS" cni STATUS x "$(echo "$red" | sed s/1.0.0/1.1.0/)"
	ip link del brv
	refused "VLANs: CHECK without the bridge" brv check c1 "$red"
	ok "VLANs: reload" $as flatnet reload
	for c in c1 c2; do ok "VLANs: CHECK of $c after a reload" check $c "$red"; done
	ok "VLANs: CHECK of another VLAN after a reload" check c3 "$blue"
	ok "VLANs: in one VLAN after a reload" pings c1 $(addr c2)
	refused "VLANs: into another VLAN after a reload" "100% packet loss" in_ c1 ping -c1 -W5 $(addr c3)
	ok "VLANs: DEL" cni DEL c1 "$red"
	ok "VLANs: DEL of the second" cni DEL c2 "$red"
	ok "VLANs: DEL in another VLAN" cni DEL c3 "$blue"
	red=$(echo "$red" | sed 's/"isGateway":false/"isGateway":true/')
	ok "VLANs: ADD with a gateway" add c1 "$red"
	ok "VLANs: the gateway" pings c1 10.87.1.1
	far=$(ls /sys/class/net | grep '^fg-')
	for spoil in down nomaster "mtu 1300"; do
		ip link set $far $spoil
		refused "VLANs: CHECK when the gateway's port is $spoil" "reload mends" check c1 "$red"
		ok "VLANs: reload when the gateway's port is $spoil" $as flatnet reload
		ok "VLANs: CHECK after it" check c1 "$red"
		ok "VLANs: the gateway after it" pings c1 10.87.1.1
	done
	ok "VLANs: DEL with a gateway" cni DEL c1 "$red"
	ok "VLANs: nothing is left" clean
	ip link del brv
	ip link | grep brv && ip link del brv.100
	for c in c1 c2 c3; do umount /run/netns/$c; done
}

# uplink NS LINK NUMBER: addresses of the way between the host and the outside.
uplink() {
	dad=/proc/sys/net/ipv6/conf/$2/accept_dad
	in_ $1 sh -c "[ ! -e $dad ] || echo 0 >$dad"
	in_ $1 ip addr add 192.0.2.$3/24 dev $2
	in_ $1 ip addr add 2001:db8::$3/64 dev $2
	in_ $1 ip link set $2 up
}

# outside: a network that has no route back.
outside() {
	netns outside
	in_ outside ip link add up0 type veth # busybox calls the peer veth0
	in_ outside ip link set up0 netns 1
	uplink host up0 1
	uplink outside veth0 2
	ip link set lo up
	ip route add default via 192.0.2.2
}

# guard WHAT: macspoofchk.
guarded=${conf%\}},\"macspoofchk\":true}
status() { echo "${1%\}}" | sed 's/1.0.0/1.1.0/; s/$/}/' | CNI_COMMAND=STATUS $as flatnet; }
guard() {
	netns c1
	netns c2
	ok "$1: STATUS" status "$guarded"
	ok "$1: ADD" add c1 "$guarded"
	ok "$1: ADD of a second" add c2 "$guarded"
	ok "$1: packets" pings c1 192.0.2.2
	ok "$1: CHECK" check c1 "$guarded"
	in_ c1 ip addr add 10.87.1.77/24 dev eth0
	refused "$1: another's address" "100% packet loss" in_ c1 ping -c1 -W1 -I 10.87.1.77 10.87.1.1
	in_ c1 ip addr del 10.87.1.77/24 dev eth0
	ok "$1: DEL of the second" cni DEL c2 "$guarded"
	ok "$1: CHECK after it" check c1 "$guarded"
	ok "$1: packets after it" pings c1 192.0.2.2
	in_ c1 ip link set eth0 address 02:00:00:00:00:99
	refused "$1: another's MAC address" "100% packet loss" in_ c1 ping -c1 -W1 10.87.1.1
	ok "$1: reload" $as flatnet reload
	refused "$1: another's MAC address after a reload" "100% packet loss" in_ c1 ping -c1 -W1 10.87.1.1
	in_ c1 ip link del eth0 # and with it the host end, and its hook
	ok "$1: DEL" cni DEL c1 "$guarded"
	ok "$1: nothing is left" clean
	umount /run/netns/c1 /run/netns/c2
}

echo "kernel $(uname -r)"
: >/run/netns/host
mount --bind /proc/1/ns/net /run/netns/host
dd if=/dev/urandom of=/run/bytes bs=1000 count=300 2>/dev/null
