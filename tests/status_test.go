package tests

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"flatnet/tests/lab"
)

// newer is a configuration in the version that brought STATUS and GC.
func newer(conf string) string { return strings.Replace(conf, "1.0.0", "1.1.0", 1) }

const (
	six   = `"ipam":{"ranges":[[{"subnet":"10.87.1.0/24"}],[{"subnet":"fd87:1::/64"}]]}`
	small = `"ipam":{"subnet":"10.87.1.0/24","rangeStart":"10.87.1.10","rangeEnd":"10.87.1.10"}`
	there = "there" // a container is attached
)

// hosts are ways to break a host or not to, and STATUS's answer.
var hosts = []struct {
	name, attached, spoil, keys string
	code                        int // 0: it must say yes
	texts                       []string
}{
	{"a fresh host", "", ":", `"x":1`, 0, nil},
	{"a container that is attached", there, ":", `"x":1`, 0, nil},

	// Leases outlive a reboot, and runtimes may make no ADD until STATUS says yes.
	{"a reboot", there, "ip link del fn-c1; ip link del flatnet-br0; nft flush ruleset; echo 0 >/proc/sys/net/ipv4/ip_forward", `"x":1`, 0, nil},
	{"an ADD that has no more than its lease", there, "ip link del fn-c1; nft flush ruleset", `"x":1`, 0, nil},

	{"pool exhausted", there, ":", small, 50, []string{"10.87.1.10", "free"}},
	{"lease directory read-only", "", "mkdir -p /var/lib/flatnet/ipam; mount --bind -o ro /var/lib/flatnet/ipam /var/lib/flatnet/ipam; mount -o remount,ro,bind /var/lib/flatnet/ipam",
		`"x":1`, 50, []string{"/var/lib/flatnet/ipam", "read-only"}},
	{"lease directory a file", "", ": >/run/leases", `"ipam":{"dataDir":"/run/leases"}`, 50, []string{"/run/leases"}},
	{"no space for leases", "", "mount -t tmpfs -o size=4k t /var/lib/flatnet; mkdir /var/lib/flatnet/ipam; head -c 9000 /dev/zero >/var/lib/flatnet/x || :", `"x":1`, 50, []string{"no space"}},
	{"subnet is another interface's", "", "ip addr add 10.87.1.200/24 dev up0", `"x":1`, 50, []string{"10.87.1.0/24", "10.87.1.200", "up0"}},
	{"subnet is routed elsewhere", "", "ip route add 10.87.1.128/25 dev up0", `"x":1`, 50, []string{"10.87.1.128/25", "up0"}},
	{"subnet is routed elsewhere by a nexthop object", "", "ip nexthop add id 7 dev up0; sysctl -qw net.ipv4.nexthop_compat_mode=0; ip route add 10.87.1.0/24 nhid 7", `"x":1`, 50, []string{"10.87.1.0/24", "nexthop object"}},
	{"subnet is a part of another interface's", "", "ip addr add 10.80.0.1/12 dev up0", `"x":1`, 50, []string{"10.87.1.0/24", "10.80.0.1/12", "up0", "allowOverlap"}},
	{"subnet is a part of another interface's, which is allowed", "", "ip addr add 10.80.0.1/12 dev up0", `"allowOverlap":true`, 0, nil},
	{"a VPN's halves of a default route", "", "ip route add 0.0.0.0/1 dev up0; ip route add 128.0.0.0/1 dev up0; ip -6 route add 2000::/3 dev up0", six, 0, nil},
	{"macspoofchk", "", ":", `"macspoofchk":true`, 0, nil},
	{"macspoofchk's rules flushed", there, "nft flush chain bridge flatnet check", `"macspoofchk":true`, 51, []string{"bridge flatnet check", "reload"}},
	{"macspoofchk's table gone", there, "nft delete table bridge flatnet", `"macspoofchk":true`, 51, []string{"bridge flatnet", "reload"}},
	{"bridge has another address", "", "ip link add flatnet-br0 type bridge; ip addr add 10.9.0.1/24 dev flatnet-br0", `"x":1`, 50, []string{"10.9.0.1", bridgeName}},
	{"bridge is none", "", "ip link add flatnet-br0 type veth peer name x", `"x":1`, 50, []string{bridgeName, "veth"}},

	{"sysctls read-only", "", readOnlySysctls, `"x":1`, 50, []string{"net/ipv4/ip_forward", "read-only"}},
	{"sysctls read-only, IPv6", "", "echo 1 >/proc/sys/net/ipv4/ip_forward;" + readOnlySysctls, six, 50, []string{"net/ipv6/conf/all/forwarding", "read-only"}},
	{"sysctls read-only, forwarding of new interfaces off", "", "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv4/conf/default/forwarding;" + readOnlySysctls,
		`"x":1`, 50, []string{"/forwarding", "read-only"}},
	{"sysctls read-only, and right", "", "echo 1 >/proc/sys/net/ipv4/ip_forward;" + readOnlySysctls, `"x":1`, 0, nil},
	{"IPv6 disabled", "", "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6", six, 50, []string{"IPv6", "disable_ipv6"}},
	{"IPv6 disabled on the bridge", "", "ip link add flatnet-br0 type bridge; echo 1 >/proc/sys/net/ipv6/conf/flatnet-br0/disable_ipv6", six, 50, []string{"net/ipv6/conf/flatnet-br0/disable_ipv6"}},
	{"IPv6 disabled, and not needed", "", "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6", `"x":1`, 0, nil},
	{"foreign interface group", "", "ip link add flatnet-br0 type bridge; ip link set flatnet-br0 group 7", `"x":1`, 50, []string{bridgeName, "group 7"}},
	{"no such resolvConf", "", ":", `"ipam":{"resolvConf":"/run/none"}`, 50, []string{"ipam.resolvConf", "/run/none"}},
	{"route by nobody's gateway", "", ":", `"ipam":{"routes":[{"dst":"10.1.0.0/16","gw":"192.0.2.77"}]}`, 50, []string{"192.0.2.77", "10.1.0.0/16"}},
	{"bridge full", "", fullBridge, `"x":1`, 50, []string{bridgeName, "1023 ports"}},
	{"MTU too small for IPv6", "", ":", `"mtu":1000,` + six, 7, []string{"mtu", "1000", "1280"}},
	{"inherited MTU too small for IPv6", "", "ip link set up0 mtu 1000; ip route replace default via 192.0.2.2", six, 50, []string{"mtu", "1000", "1280", "default route"}},
	{"bridge's MTU too small for IPv6", "", "ip link add flatnet-br0 mtu 1000 type bridge", six, 50, []string{bridgeName, "1000", "1280"}},
	{"MTU too small for IPv6, which is not needed", "", ":", `"mtu":1000`, 0, nil},
	{"default route on lo", "", "ip route replace default dev lo; ip -6 route replace default dev lo", `"x":1`, 0, nil},
	{"default route is a black hole", "", "ip route replace blackhole default; ip -6 route replace blackhole default", `"x":1`, 0, nil},
	{"lease lock held", "", "mkdir -p /var/lib/flatnet/ipam; setsid flock /var/lib/flatnet/ipam/.lock sh -c 'echo >/run/locked; sleep 600' >/dev/null 2>&1 & timeout 10 sh -c 'until [ -s /run/locked ]; do sleep 0.02; done'",
		`"x":1`, 50, []string{"/var/lib/flatnet/ipam/.lock"}},
	{"gateway interface of a VLAN is none", "", "ip link add flatnet-br0 type bridge; ip link add flatnet-br0.7 type bridge", `"vlan":7`, 50, []string{"flatnet-br0.7", "veth"}},

	{"bridge gone", there, "ip link del flatnet-br0", `"x":1`, 51, []string{bridgeName}},
	{"bridge down", there, "ip link set flatnet-br0 down", `"x":1`, 51, []string{bridgeName, "down"}},
	{"gateway address gone", there, "ip addr flush dev flatnet-br0", `"x":1`, 51, []string{gateway}},
	{"forwarding off", there, "echo 0 >/proc/sys/net/ipv4/ip_forward", `"x":1`, 51, []string{"ip_forward"}},
	{"rules flushed", there, "nft flush ruleset", `"x":1`, 51, []string{"10.87.1.0/24"}},
	{"rules flushed, and the lease file lost", there, "nft flush ruleset; rm /var/lib/flatnet/ipam/allocations.json", `"x":1`, 51, []string{"10.87.1.0/24"}},
	{"rules flushed, and the lease file no such file", there, "nft flush ruleset; echo {} >/var/lib/flatnet/ipam/allocations.json", `"x":1`, 51, []string{"10.87.1.0/24"}},
	{"rules changed", there, "nft flush table ip flatnet", `"x":1`, 51, []string{"10.87.1.0/24"}},
}

// One row for each way to break a host. STATUS names the cause, and an ADD ends as
// STATUS says: 0 is a success of both, 51 an ADD that succeeds while
// others are cut off, and anything else an error of both that names the cause.
func TestSTATUS(t *testing.T) {
	t.Parallel()
	for _, c := range hosts {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			status := lab.Call{Command: "STATUS", Conf: newer(conf(c.keys))}
			if c.attached != "" {
				b.attach("c1", func(call *lab.Call) { call.Conf = status.Conf })
			}
			b.Sh(c.spoil)
			before := b.state()
			if c.code == 0 {
				b.do(status)
			} else {
				b.refused(status, c.code, c.texts...)
			}
			b.same(before)
			b.NetNS("late")
			add := call("ADD", "late")
			add.Conf = status.Conf
			if c.code == 0 || c.code == 51 {
				b.do(add)
			} else {
				b.refused(add, 0, c.texts...)
			}
		})
	}
}

const readOnlySysctls = "mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys"

// fullBridge makes a bridge with as many ports as Linux allows.
const fullBridge = `ip link add flatnet-br0 type bridge
	for i in $(seq 1023); do echo "link add p$i master flatnet-br0 type ifb"; done | ip -batch -`

// A kernel without VLAN filtering refuses VLANs, in STATUS as in ADD.
func TestSTATUSWithoutVLANFiltering(t *testing.T) {
	b := newBox(t)
	if _, err := b.Try("ip", "link", "add", "probe", "type", "bridge", "vlan_filtering", "1"); err == nil {
		b.Run("ip", "link", "del", "probe")
		b.do(lab.Call{Command: "STATUS", Conf: newer(conf(`"vlan":7`))})
		return
	}
	b.refused(lab.Call{Command: "STATUS", Conf: newer(conf(`"vlan":7`))}, 50, "CONFIG_BRIDGE_VLAN_FILTERING")
	b.NetNS("c1")
	add := call("ADD", "c1")
	add.Conf = conf(`"vlan":7`)
	b.refused(add, 103, "CONFIG_BRIDGE_VLAN_FILTERING")
	if links := b.Run("ip", "-o", "link", "show", "type", "bridge"); strings.Contains(links, "lo:") {
		t.Errorf("STATUS made %s", links)
	}
}

// A kernel without nf_tables is played by inject, which lets the netfilter
// sockets fail as that kernel does: all but the first socket, rtnetlink's.
func TestSTATUSWithoutNFTables(t *testing.T) {
	without := fault{point: point{call: "socket", n: 2}, errno: syscall.EPROTONOSUPPORT, onward: true}
	inject := injector(t)
	b := newBox(t)
	r := b.Call(program, lab.Call{Command: "STATUS", Conf: newer(lab.Conf)}, without.wrapper(inject)...)
	if r.Code != 50 || !strings.Contains(r.Msg, "CONFIG_NF_TABLES") {
		t.Errorf("STATUS says %s", r.Stdout)
	}
}

// VERSION needs no configuration, no privilege and no state.
func TestVERSIONByNobody(t *testing.T) {
	b := newBox(t)
	b.Run("cp", program, "/run/flatnet")
	for _, stdin := range []string{"", `{"cniVersion":"1.0.0"}`, "nonsense"} {
		cmd := b.Cmd("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "env", "-i", "CNI_COMMAND=VERSION", "/run/flatnet")
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.Output()
		if err != nil || !strings.Contains(string(out), `"supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]`) {
			t.Errorf("%q: %s: %v", stdin, out, err)
		}
	}
	if files := b.Sh("find /var/lib/flatnet -mindepth 1"); files != "" {
		t.Errorf("files are made: %s", files)
	}
}

// The results of 0.1.0 and 0.2.0, and of a configuration without a version,
// which means 0.1.0.
func TestOldResults(t *testing.T) {
	b := newBox(t)
	for id, c := range map[string]struct{ in, out string }{
		"v1": {`"cniVersion":"0.1.0",`, "0.1.0"}, "v2": {`"cniVersion":"0.2.0",`, "0.2.0"}, "v0": {"", "0.1.0"},
	} {
		c1 := b.attach(id, func(call *lab.Call) {
			call.Conf = strings.Replace(conf(`"ipam":{"ranges":[[{"subnet":"10.87.1.0/24"}],[{"subnet":"fd87:1::/64"}]]}`), `"cniVersion":"1.0.0",`, c.in, 1)
		})
		var r struct {
			CNIVersion string
			IP4, IP6   struct {
				IP, Gateway string
				Routes      []struct{ Dst, GW string }
			}
		}
		fromJSON(t, c1.result.Stdout, &r)
		own := links(t, c1.Place)["eth0"].global()
		if r.CNIVersion != c.out || !slices.Equal(own, []string{r.IP4.IP, r.IP6.IP}) || r.IP4.Gateway != gateway || r.IP6.Routes[0].GW != "fd87:1::1" {
			t.Errorf("%s: %s, the kernel has %v", id, c1.result.Stdout, own)
		}
		b.do(c1.then("DEL"))
	}
	b.clean()
}
