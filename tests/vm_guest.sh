# What a kernel must have, one by one, and the main job with no more than that; after
# vm_functions.sh.
netns c1
refused "without bridge" CONFIG_BRIDGE add c1 "$conf"
load bridge
refused "without veth" CONFIG_VETH add c1 "$conf"
load veth
outside
refused "without nf_tables" CONFIG_NF_TABLES add c1 "$conf"
ok "without nf_tables: ADD that masquerades nothing" add c1 "$bare"
ok "without nf_tables: packets" echoed $(addr c1)
ok "without nf_tables: CHECK" check c1 "$bare"
ok "without nf_tables: DEL" cni DEL c1 "$bare"
load nf_tables
refused "without nft_chain_nat" CONFIG_NFT_NAT add c1 "$conf"
load nft_chain_nat
refused "without nft_nat" CONFIG_NFT_NAT add c1 "$conf"
load nft_nat
refused "without nft_masq" CONFIG_NFT_MASQ add c1 "$conf"
ok "without parts of nf_tables: DEL" cni DEL c1
load nft_masq
umount /run/netns/c1
job "built in as WSL2 has it"
ports "built in as WSL2 has it"
podman "built in as WSL2 has it"
mirrored

netns c1
if [ -e /proc/net/if_inet6 ]; then
	ok "dual stack: ADD" add c1 "$dualported"
	ok "dual stack: packets" echoed $(addr6 c1)
	serve
	ok "dual stack: TCP port by IPv4" bytes outside 192.0.2.1
	ok "dual stack: TCP port by IPv6" bytes outside 2001:db8::1
	ok "dual stack: DEL" cni DEL c1 "$dualported"
	refused "dual stack: the port is closed" "EOF on -" bytes outside 2001:db8::1
	kill $tcp $udp
else
	refused "without IPv6: dual stack" CONFIG_IPV6 add c1 "$dual"
fi
ok "both families: nothing is left" clean
umount /run/netns/c1

# TCP fits a tunnel without a further module.
netns c1
spanning=${conf%\}},\"hostId\":3}
ok "several hosts: ADD" add c1 "$spanning"
ok "several hosts: packets" pings c1 192.0.2.2
ok "several hosts: CHECK" check c1 "$spanning"
ok "several hosts: DEL" cni DEL c1 "$spanning"
ok "several hosts: nothing is left" clean
umount /run/netns/c1
ip link del flatnet-br0

# Where nft_meta_bridge is a module, nothing of meta is there without it, and the
# netdev family has the checks.
if [ -n "$(cat /modules/nft_meta_bridge.order)" ]; then
	guard "macspoofchk in the netdev family"
	load nft_meta_bridge
fi
guard "macspoofchk in the bridge family"

as="confine -caps -noexec"
job "two capabilities, no further process"
ports "two capabilities, no further process"
podman "two capabilities, no further process"
as=
ip link del flatnet-br0
vlans
as="confine -caps -noexec"
mkdir -p /var/lib/flatnet
mount -t tmpfs leases /var/lib/flatnet
mount -o remount,ro /
refused "the root is read-only" "Read-only" touch /x
job "read-only root"
umount /var/lib/flatnet
netns c1
refused "read-only leases" "read-only file system" add c1 "$conf"
ok "read-only leases: nothing is left" clean
echo DONE
poweroff -f
