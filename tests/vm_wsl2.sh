# What the README promises, on a kernel as WSL2 has it (arch/x86/configs/config-wsl of
# Microsoft's linux-msft-wsl-6.18.y): br_netfilter at work, iptables of both kinds, no
# bridge family of nf_tables, no /proc/config.gz. After vm_functions.sh. There is nft.

# with CONF KEYS: a configuration with further keys.
with() { echo "${1%\}},$2}"; }

# policy: another firewall drops what it doesn't know.
policy() { nft "table inet other { chain forward { type filter hook forward priority 0; policy drop; }; }"; }

# unheard NS ADDRESS: no answer comes.
unheard() { in_ $1 ping -c1 -W1 $2; }

# addr7 ID: the address in the network closed.
addr7() { grep -o '10\.87\.7\.[0-9]*/24' /run/result-$1 | cut -d/ -f1; }

for m in bridge veth nf_tables nft_chain_nat nft_nat nft_masq nft_ct nft_fib_ipv4 nft_fib_ipv6 br_netfilter \
	iptable_filter iptable_nat ip6table_filter nf_conntrack_netlink sch_tbf sch_ingress cls_u32 act_mirred ifb; do
	load $m
done
outside
ok "br_netfilter" grep -qx 1 /proc/sys/net/bridge/bridge-nf-call-iptables
ok "ip_tables" grep -q '^iptable_filter ' /proc/modules
refused "no bridge family with names of interfaces" "not" nft 'table bridge x { chain y { iifname "z" drop; }; }'
refused "no /proc/config.gz" "No such file" ls /proc/config.gz

ports "WSL2"
podman "WSL2"
guard "WSL2: macspoofchk"

# The other door.
netns c1
netavark=$(echo "$netavark" | sed 's/"internal":false/&,"options":{"macspoofchk":"true"}/')
ok "WSL2: netavark's macspoofchk: setup" sh -c "echo '$netavark' | flatnet setup /run/netns/c1"
ok "WSL2: netavark's macspoofchk: packets" pings c1 192.0.2.2
in_ c1 ip addr add 10.87.1.77/24 dev eth0
refused "WSL2: netavark's macspoofchk: another's address" "100% packet loss" in_ c1 ping -c1 -W1 -I 10.87.1.77 10.87.1.1
ok "WSL2: netavark's macspoofchk: teardown" sh -c "echo '$netavark' | flatnet teardown /run/netns/c1"
ok "WSL2: netavark's macspoofchk: nothing is left" clean
umount /run/netns/c1

netns c1
guarded6=$(with "$dualported" '"macspoofchk":true')
ok "WSL2: dual stack with macspoofchk: ADD" add c1 "$guarded6"
ok "WSL2: dual stack: the checks are at the port" sh -c "nft list table netdev flatnet | grep -q 'ingress device \"fn-c1\"'"
serve
ok "WSL2: dual stack: TCP port by IPv4" bytes outside 192.0.2.1
ok "WSL2: dual stack: TCP port by IPv6" bytes outside 2001:db8::1
in_ c1 sh -c "echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad; ip addr add fd00:87::77/64 dev eth0"
refused "WSL2: another's IPv6 address" "100% packet loss" in_ c1 ping -c1 -W1 -I fd00:87::77 fd00:87::1
nft flush ruleset
ok "WSL2: reload after a flush" flatnet reload
ok "WSL2: CHECK after a reload" check c1 "$guarded6"
ok "WSL2: TCP port after a reload" bytes outside 2001:db8::1
refused "WSL2: another's IPv6 address after a reload" "100% packet loss" in_ c1 ping -c1 -W1 -I fd00:87::77 fd00:87::1
ok "WSL2: dual stack: DEL" cni DEL c1 "$guarded6"
kill $tcp $udp
ok "WSL2: dual stack: nothing is left" clean

limits='"runtimeConfig":{"bandwidth":{"ingressRate":80000000,"ingressBurst":8000000,"egressRate":80000000,"egressBurst":8000000}}'
limited=$(with "$conf" "$limits")
ok "WSL2: bandwidth: ADD" add c1 "$limited"
ok "WSL2: bandwidth: packets" pings c1 192.0.2.2
ok "WSL2: bandwidth: CHECK" check c1 "$limited"
ok "WSL2: bandwidth: DEL" cni DEL c1 "$limited"
refused "WSL2: macspoofchk with egressRate" CONFIG_NF_TABLES_BRIDGE add c1 "$(with "$guarded" "$limits")"
ok "WSL2: bandwidth: nothing is left" clean
umount /run/netns/c1

# Networks and who reaches whom.
for c in c1 c2 c3 c4; do netns $c; done
closed='{"cniVersion":"1.0.0","name":"closed","type":"flatnet","bridge":"br7","internal":true,"ipam":{"subnet":"10.87.7.0/24"}}'
published='"inbound":"published"'
ok "WSL2: inbound: ADD" add c1 "$(with "$ported" "$published")"
ok "WSL2: inbound: ADD of a sibling" add c2 "$(with "$conf" "$published")"
ok "WSL2: internal: ADD" add c3 "$closed"
ok "WSL2: internal: ADD of a sibling" add c4 "$closed"
serve
in_ outside ip route add 10.87.0.0/16 via 192.0.2.1
ok "WSL2: inbound: the published port" bytes outside 192.0.2.1
refused "WSL2: inbound: no other way in" "100% packet loss" unheard outside $(addr c1)
ok "WSL2: inbound: a sibling" pings c2 $(addr c1)
ok "WSL2: internal: a sibling" pings c3 $(addr7 c4)
ok "WSL2: internal: the host" pings c3 10.87.7.1
in_ c3 ip route add default via 10.87.7.1
refused "WSL2: internal: no way out" "100% packet loss" unheard c3 192.0.2.2
refused "WSL2: isolation" "100% packet loss" unheard c1 $(addr7 c3)
policy
refused "WSL2: another firewall: siblings of an internal network" "100% packet loss" unheard c3 $(addr7 c4)
refused "WSL2: another firewall: STATUS" "to each other (br_netfilter is on)" status "$closed"
refused "WSL2: another firewall: siblings" "100% packet loss" unheard c2 $(addr c1)
for c in c1 c2; do ok "WSL2: DEL of $c" cni DEL $c "$(with "$conf" "$published")"; done
for c in c3 c4; do ok "WSL2: DEL of $c" cni DEL $c "$closed"; done
kill $tcp $udp
accepted=$(with "$conf" '"forwardAccept":true')
closed=$(with "$closed" '"forwardAccept":true')
for c in c1 c2; do ok "WSL2: forwardAccept: ADD of $c" add $c "$accepted"; done
for c in c3 c4; do ok "WSL2: forwardAccept: internal: ADD of $c" add $c "$closed"; done
ok "WSL2: forwardAccept: siblings" pings c1 $(addr c2)
ok "WSL2: forwardAccept: the outside" pings c1 192.0.2.2
ok "WSL2: forwardAccept: internal: siblings" pings c3 $(addr7 c4)
for c in c1 c2; do ok "WSL2: forwardAccept: DEL of $c" cni DEL $c "$accepted"; done
for c in c3 c4; do ok "WSL2: forwardAccept: DEL of $c" cni DEL $c "$closed"; done
refused "WSL2: forwardAccept: no rule is left" "" sh -c "nft list table inet other | grep flatnet"
nft delete table inet other

isolated=$(with "$conf" '"portIsolation":true')
says "WSL2: portIsolation: ADD with ports" bridge-nf-call-iptables add c1 "$(with "$ported" '"portIsolation":true')"
ok "WSL2: portIsolation: ADD of a sibling" add c2 "$isolated"
serve
ok "WSL2: portIsolation: the published port" bytes outside 192.0.2.1
ok "WSL2: portIsolation: the published port, from the host" bytes host 127.0.0.1
refused "WSL2: portIsolation: a sibling" "100% packet loss" unheard c2 $(addr c1)
for c in c1 c2; do ok "WSL2: portIsolation: DEL of $c" cni DEL $c "$isolated"; done
kill $tcp $udp
ok "WSL2: nothing is left in the end" clean
echo DONE
poweroff -f
