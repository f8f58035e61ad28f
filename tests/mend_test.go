package tests

import (
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// A loss is one way in which a restart of the host's network, or a hand, spoils
// what a living container needs.
type loss struct {
	name  string
	keys  string   // of the configuration beside dual stack
	spoil string   // on the host
	names []string // what CHECK, STATUS, flatnet status and reload name

	seldom bool // STATUS, which runtimes ask for again and again, does not look for it
}

var losses = []loss{ // those of a VLAN's interface need a kernel that has VLANs: see vm_functions.sh
	{"bridge deleted", "", "ip link del flatnet-br0", []string{"bridge flatnet-br0", "missing"}, false},
	{"bridge made anew by somebody", "", "ip link del flatnet-br0; ip link add flatnet-br0 type bridge; ip link set flatnet-br0 up", []string{"10.87.1.1/24", "fn-c1"}, false},
	{"bridge down", "", "ip link set flatnet-br0 down", []string{"bridge flatnet-br0", "down"}, false},
	{"addresses flushed", "", "ip addr flush dev flatnet-br0", []string{"10.87.1.1/24", "fd87:1::1/64", "link-local"}, false},
	{"link-local address gone", "", "ip -6 addr flush dev flatnet-br0 scope link", []string{"link-local", "flatnet-br0"}, false},
	{"IPv4 forwarding off", "", "echo 0 >/proc/sys/net/ipv4/ip_forward", []string{"ip_forward"}, false},
	{"IPv4 forwarding of the bridge off", "", "echo 0 >/proc/sys/net/ipv4/conf/flatnet-br0/forwarding", []string{"net/ipv4/conf/flatnet-br0/forwarding"}, false},
	{"IPv6 forwarding off", "", "echo 0 >/proc/sys/net/ipv6/conf/all/forwarding", []string{"net/ipv6/conf/all/forwarding"}, false},
	{"group", "", "ip link set flatnet-br0 group default", []string{"flatnet-br0", "group"}, false},
	{"route_localnet", "", "echo 0 >/proc/sys/net/ipv4/conf/flatnet-br0/route_localnet", []string{"route_localnet"}, false},
	{"host end down", "", "ip link set fn-c1 down", []string{"fn-c1", "down"}, false},
	{"host end free", "", "ip link set fn-c1 nomaster", []string{"fn-c1", "flatnet-br0"}, false},
	{"host end on another bridge", "", "ip link add br9 type bridge; ip link set fn-c1 master br9", []string{"fn-c1", "flatnet-br0"}, false},
	{"hairpin mode", `"hairpinMode":true`, "ip link set dev fn-c1 type bridge_slave hairpin off", []string{"hairpin", "fn-c1"}, false},
	{"port isolation", `"portIsolation":true`, "ip link set dev fn-c1 type bridge_slave isolated off", []string{"isolation", "fn-c1"}, false},
	{"promiscuous mode", `"promiscMode":true`, "ip link set flatnet-br0 promisc off", []string{"flatnet-br0", "promiscuous"}, false},
	{"limit to the container", shaped, "tc qdisc del dev fn-c1 root", []string{"limit", "fn-c1"}, false},
	{"limit from the container", shaped, "ip link del $(ip -o link show type ifb | cut -d' ' -f2 | tr -d :)", []string{"limit", "fb-"}, false},
	{"redirect from the container", shaped, "tc qdisc del dev fn-c1 ingress", []string{"limit", "fb-"}, false},
	{"connected route gone", "", "ip route flush dev flatnet-br0 proto kernel scope link", []string{"the host's route to 10.87.1.0/24 by flatnet-br0"}, true},
	{"connected IPv6 route gone", "", "ip -6 route del fd87:1::/64 dev flatnet-br0", []string{"the host's route to fd87:1::/64 by flatnet-br0"}, true},
	{"local routes gone", "", "ip route del local 10.87.1.1 table local; ip -6 route del local fd87:1::1 table local",
		[]string{"local route to 10.87.1.1", "local route to fd87:1::1"}, true},
	{"MTU of a host end", "", "ip link set fn-c1 mtu 1300", []string{"MTU of fn-c1", "1300 and not 1400", "MTU of flatnet-br0"}, true},
	{"MTU of the bridge", `"mtu":1450`, "ip link set flatnet-br0 mtu 1300", []string{"MTU of flatnet-br0", "1300 and not 1450"}, true},
	{"rate to the container", shaped, "tc qdisc change dev fn-c1 root tbf rate 1gbit burst 1mb latency 25ms", []string{"limit to the container on fn-c1"}, true},
	{"rate from the container", shaped, "tc qdisc change dev $(ip -o link show type ifb | cut -d' ' -f2 | tr -d :) root tbf rate 1gbit burst 1mb latency 25ms",
		[]string{"limit from the container by fb-"}, true},
	{"MTU of the limit's device", shaped, "ip link set $(ip -o link show type ifb | cut -d' ' -f2 | tr -d :) mtu 600", []string{"limit from the container by fb-"}, true},
	{"router advertisements", "", "echo 1 >/proc/sys/net/ipv6/conf/flatnet-br0/accept_ra", []string{"net/ipv6/conf/flatnet-br0/accept_ra"}, true},
	{"all at once", `"hairpinMode":true,"portIsolation":true,` + shaped,
		"ip link del flatnet-br0; ip link set fn-c1 down; tc qdisc del dev fn-c1 root; nft flush ruleset; echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding",
		[]string{"bridge flatnet-br0"}, false},
}

const shaped = `"capabilities":{"bandwidth":true},"runtimeConfig":{"portMappings":[` + `{"hostPort":8080,"containerPort":80,"protocol":"tcp"}],"bandwidth":{"ingressRate":80000000,"ingressBurst":8000000,"egressRate":80000000,"egressBurst":8000000}}`

// CHECK and STATUS name each loss, one reload mends it and says what it did, and
// a second one finds nothing.
func TestReloadMendsTheHost(t *testing.T) {
	t.Parallel()
	for _, l := range losses {
		t.Run(l.name, func(t *testing.T) {
			b := newBox(t)
			keys := l.keys
			if !strings.Contains(keys, "runtimeConfig") {
				if keys != "" {
					keys += ","
				}
				keys += `"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}`
			}
			c := b.attach("c1", bothFamilies, func(c *lab.Call) { c.Conf = newer(withKeys(c.Conf, keys)) })
			c.Serve(c.addr + ":80")
			other := b.attach("c2", bothFamilies, func(c *lab.Call) { c.Conf = newer(withKeys(c.Conf, l.keysAlone())) })
			before := b.hostSide()
			b.Sh(l.spoil)
			status := lab.Call{Command: "STATUS", Conf: c.add.Conf}
			b.refused(c.then("CHECK"), 104, l.names...)
			if !l.seldom {
				b.refused(status, 51, l.names...)
			}
			_, serr := b.Try(program, "status")
			for _, name := range l.names {
				if serr == nil || !strings.Contains(serr.Error(), name) {
					t.Errorf("status does not name %q: %v", name, serr)
				}
			}
			said := b.Run(program, "reload")
			for _, name := range l.names {
				if !strings.Contains(said, name) {
					t.Errorf("reload does not name %q: %q", name, said)
				}
			}
			b.do(c.then("CHECK"))
			b.do(other.then("CHECK"))
			b.do(status)
			if after := b.hostSide(); after != before && !strings.Contains(l.name, "somebody") {
				t.Errorf("it was\n%s\nand is\n%s", before, after)
			}
			for _, addr := range []string{gateway, "fd87:1::1", lab.OutsideAddr, "2001:db8::2"} {
				if err := c.Ping(addr); err != nil {
					t.Error(err)
				}
			}
			for _, addr := range []string{lab.HostAddr, "127.0.0.1"} {
				if _, err := b.Ask(addr + ":8080"); err != nil {
					t.Error(err)
				}
			}
			if again := b.Run(program, "reload"); again != "nothing was missing\n" {
				t.Errorf("a second reload says %q", again)
			}
			b.do(c.then("DEL"))
			b.do(other.then("DEL"))
			b.Sh("ip link del br9 2>/dev/null || :")
			b.clean()
		})
	}
}

// Containers know the gateway by the MAC of an earlier bridge, and would send there
// for a minute: a reload tells them, whoever made the new one or gave it its MAC.
func TestReloadTellsContainersTheNewMAC(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]string{
		"made by an ADD":   "ip link del flatnet-br0",
		"made by somebody": "ip link del flatnet-br0; ip link add flatnet-br0 type bridge; ip link set flatnet-br0 up",
		"changed":          "ip link set flatnet-br0 address 02:00:00:00:00:07",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			c := b.attach("c1", bothFamilies)
			outside := []string{lab.OutsideAddr, "2001:db8::2"}
			for _, addr := range outside {
				if err := c.Ping(addr); err != nil {
					t.Error(err)
				}
			}
			b.Sh(spoil)
			if name == "made by an ADD" {
				b.attach("c2", bothFamilies)
			}
			b.Run(program, "reload")
			for _, addr := range outside {
				if err := c.Ping(addr); err != nil {
					t.Errorf("%v; its neighbours are %s", err, b.Run("ip", "-n", "c1", "neigh"))
				}
			}
		})
	}
}

// keysAlone are the keys of a container that asks for nothing of its own.
func (l loss) keysAlone() string {
	keys, _, _ := strings.Cut(l.keys, `"capabilities"`)
	if keys = strings.TrimSuffix(keys, ","); keys == "" {
		return `"x":1`
	}
	return keys
}

// hostSide is all that iproute2 shows of the host's side of attachments, but for
// indexes and what counts time.
func (b box) hostSide() string {
	b.t.Helper()
	return b.Sh(`ip -o -d link show flatnet-br0 | grep -o -E 'PROMISC|group [0-9]+|link/ether [0-9a-f:]+|mtu [0-9]+|alias .*'
		ip -o addr show flatnet-br0 | sed -E 's/^[0-9]+: //; s/valid_lft.*//; s/ (nodad|tentative|proto kernel_ll)//g'  | sort
		for l in fn-c1 fn-c2; do ip -o -d link show $l | grep -o -E ' mtu [0-9]+|master [a-z0-9-]+|hairpin [a-z]+|isolated [a-z]+|LOWER_UP'; tc qdisc show dev $l; done
		for l in $(ip -o link show type ifb | cut -d' ' -f2 | tr -d :); do ip -o link show $l | cut -d' ' -f2-5; tc qdisc show dev $l; done
		for l in flatnet-br0 $(ls /sys/class/net | grep '^flatnet-br0[.]'); do for t in main local; do ip route show dev $l table $t; ip -6 route show dev $l table $t; done; done |
			grep -v -e broadcast -e anycast -e multicast -e fe80 | sed 's/ linkdown//; s/proto kernel //; s/metric [0-9]*//' | sort
		tc filter show dev fn-c1 ingress | grep -c mirred || :
		grep . /proc/sys/net/ipv4/conf/flatnet-br0/forwarding /proc/sys/net/ipv4/conf/flatnet-br0/route_localnet /proc/sys/net/ipv6/conf/flatnet-br0/accept_ra`)
}

// What a reload can't mend, it names, and mends the rest.
func TestReloadNamesWhatItCannotMend(t *testing.T) {
	b := newBox(t)
	c := b.attach("c1")
	other := b.attach("c2", otherNetwork)
	b.Sh("ip link set flatnet-br0 down; ip link set flatnet-br0 name br7; ip link set fn-c2 down")
	out, err := b.Try(program, "reload")
	if err == nil || !strings.Contains(err.Error(), "br7") || !strings.Contains(out, "fn-c2") {
		t.Errorf("said %q, %v", out, err)
	}
	b.do(other.then("CHECK"))
	b.Sh("ip link set br7 name flatnet-br0")
	b.reload()
	b.do(c.then("CHECK"))
}

// Records end with what they are of.
func TestReloadForgetsNetworks(t *testing.T) {
	b := newBox(t)
	c := b.attach("c1")
	b.Sh("test -s /run/flatnet/*/flatnet/bridge; cp -a /run/flatnet /run/saved")
	b.do(c.then("DEL"))
	if left := b.Sh("find /run/flatnet -name bridge"); left != "" {
		t.Errorf("left is %s", left)
	}
	b.Sh("ip link del flatnet-br0; cp -a /run/saved/. /run/flatnet; find /run/flatnet -type f -exec touch -d @1 {} +")
	b.reload()
	if left := b.Sh("find /run/flatnet -name '*bridge*'; ip -o link show type bridge"); left != "" {
		t.Errorf("left is %s", left)
	}
}

// Records that other users could lock are taken from them, which is said once.
func TestRecordsArePrivate(t *testing.T) {
	b := newBox(t)
	b.Sh("mkdir /run/flatnet; chmod 755 /run/flatnet; mkdir -m 777 /run/flatnet/$(stat -Lc %i /proc/self/ns/net)")
	if c := b.attach("c1"); strings.Count(c.result.Stderr, "open to other users") != 2 {
		t.Errorf("said: %q", c.result.Stderr)
	}
	if open := b.Sh("find /run/flatnet -perm /077"); open != "" {
		t.Errorf("open to others: %s", open)
	}
	if c := b.attach("c2"); c.result.Stderr != "" {
		t.Errorf("said again: %q", c.result.Stderr)
	}
}

// A network without a record is named by a reload, and the next ADD makes up for it.
func TestReloadWithoutARecordOfTheNetwork(t *testing.T) {
	b := newBox(t)
	c1 := b.attach("c1")
	for _, lost := range []string{"ip link set flatnet-br0 down", "ip addr flush dev flatnet-br0"} {
		b.Sh("rm /run/flatnet/*/flatnet/bridge; " + lost)
		out, err := b.Try(program, "reload")
		if err == nil || !strings.Contains(out+err.Error(), "flatnet/c1/eth0") || !strings.Contains(out+err.Error(), "the network's next ADD") {
			t.Errorf("%s: the reload says %q, %v", lost, out, err)
		}
		b.refused(c1.then("CHECK"), 104, "after the network's next ADD")
		c2 := b.attach("c2")
		b.do(c1.then("CHECK"))
		b.reload()
		b.do(c2.then("DEL"))
		b.Run("ip", "netns", "del", "c2")
	}
}
