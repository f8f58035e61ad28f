package tests

import (
	"encoding/json"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// A finding is what the doctor says of one check.
type finding struct{ Verdict, Check, Seen, Repair string }

// doctor returns what the doctor finds, by check; of several of one check the worst.
func (b box) doctor() map[string]finding {
	b.t.Helper()
	out, _ := b.Cmd(program, "doctor", "--json").Output()
	var all []finding
	fromJSON(b.t, string(out), &all)
	found := map[string]finding{}
	worse := map[string]int{"": -1, "OK": 0, "WARN": 1, "FAIL": 2}
	for _, f := range all {
		if worse[f.Verdict] > worse[found[f.Check].Verdict] {
			found[f.Check] = f
		}
	}
	return found
}

// An illness is something that keeps flatnet from working.
type illness struct {
	name, cause    string // a script
	check, verdict string
	seen           string
	verify         string // fails unless what the repair was for works again
}

const (
	pingOut = "ip netns exec web ping -c1 -W2 192.0.2.1"
	ping6   = "ip netns exec web ping -6 -c1 -W2 fd87:0:0:1::1"
	pingOne = "ip netns exec web ping -c1 -W2 10.87.1.1"
)

// forwarding makes a forward chain of somebody else with a rule, whose policy is to accept.
func forwarding(rule string) string {
	return "nft 'add table inet others; add chain inet others sub { drop; }; " +
		"add chain inet others forward { type filter hook forward priority 0; policy accept; " + rule + "; }'"
}

var illnesses = []illness{
	{"renamed bridge", "ip link set flatnet-br0 name brx || { ip link set flatnet-br0 down; ip link set flatnet-br0 name brx; }",
		"network flatnet", "FAIL", "bridge flatnet-br0 is missing", pingOne},
	{"foreign link", "ip link del flatnet-br0; ip link add flatnet-br0 type veth peer name other; ip link set flatnet-br0 up",
		"network flatnet", "FAIL", "flatnet-br0", pingOne},
	{"IPv6 is off", "echo 1 >/proc/sys/net/ipv6/conf/flatnet-br0/disable_ipv6", "network flatnet", "FAIL", "of flatnet-br0 is missing", ping6},
	{"garbage for a record", "echo garbage >$(echo /run/flatnet/*/flatnet)/c9:eth0", "network flatnet", "FAIL", "unexpected", pingOne},
	{"garbage for records", "echo garbage >$(echo /run/flatnet/*/flatnet)/c9:eth0; echo garbage >$(echo /run/flatnet/*/flatnet)/c8:eth0",
		"network flatnet", "FAIL", "unexpected", pingOne},
	{"answers are not forwarded", "echo 0 >/proc/sys/net/ipv4/conf/up0/forwarding", "forwarding", "WARN", "conf/up0/forwarding is 0", pingOut},
	{"answers to a network are not forwarded", "echo 0 >/proc/sys/net/ipv4/conf/up0/forwarding", "network flatnet", "WARN", "conf/up0/forwarding is 0", pingOut},
	{"ufw", ufw, "other firewalls", "WARN", "inet ufw forward drops", pingOut},
	{"ufw and a network", ufw, "network flatnet", "WARN", "inet ufw forward drops", pingOut},
	{"a jump to a chain that drops", forwarding("jump sub"), "network flatnet", "WARN", "inet others forward drops", pingOut},
	{"a drop to the uplink", forwarding(`oifname "up0" drop`), "other firewalls", "WARN", "inet others forward drops", pingOut},
	{"a drop of private addresses", forwarding("ip saddr 10.0.0.0/8 reject"), "network flatnet", "WARN", "inet others forward drops", pingOut},
	{"leases of another user", "chown 65534 /var/lib/flatnet/ipam", "/var/lib/flatnet", "FAIL", "belongs to user 65534", pingOne},
	{"routers are not listened to", "ip -6 route add 2001:db8::/64 dev up0 proto ra; echo 1 >/proc/sys/net/ipv6/conf/up0/accept_ra",
		"router advertisements", "WARN", "on up0", "grep 2 /proc/sys/net/ipv6/conf/up0/accept_ra"},
}

// What the doctor prints as a repair repairs: its check is OK before the illness, and after the
// repair again.
func TestDoctorRepairs(t *testing.T) {
	for _, i := range illnesses {
		t.Run(i.name, func(t *testing.T) {
			b := newBox(t)
			b.attach("web", func(c *lab.Call) { c.Conf = dual })
			if f := b.doctor()[i.check]; f.Verdict != "OK" {
				t.Fatalf("before: %+v", f)
			}
			b.Sh(i.cause)
			f := b.doctor()[i.check]
			if f.Verdict != i.verdict || !strings.Contains(f.Seen, i.seen) || f.Repair == "" || strings.Contains(f.Seen, "doctor") {
				t.Fatalf("%+v", f)
			}
			b.Sh("PATH=" + root + "/bin:$PATH; " + f.Repair + "; true")
			if after := b.doctor()[i.check]; after.Verdict != "OK" {
				t.Errorf("after %s: %+v", f.Repair, after)
			}
			b.Sh(i.verify)
		})
	}
}

// A network that is configured and has no container is examined as well, and nothing of it is
// made.
func TestDoctorTriesConfiguredNetworks(t *testing.T) {
	b := newBox(t)
	b.Sh("mkdir -p /etc/cni/net.d /etc/containers/networks")
	conflist := func(name, ipam string) {
		b.Write("/etc/cni/net.d/"+name+".conflist", `{"cniVersion":"1.0.0","name":"`+name+`","plugins":[{"type":"flatnet","bridge":"`+name+`0","ipam":`+ipam+`}]}`)
	}
	conflist("good", `{"subnet":"10.87.40.0/24"}`)
	conflist("third", `{"subnet":"192.0.2.0/24"}`)
	conflist("fourth", `{"subnet":"nonsense"}`)
	b.Write("/etc/cni/net.d/torn.conflist", `{"name":"torn","plugins":[{"type":"flatnet"`)
	b.Write("/etc/cni/net.d/other.conflist", `{"name":"other","plugins":[{"type":"bridge","subnet":"nonsense"}]}`)
	b.Write("/etc/containers/networks/pod.json", `{"name":"pod","id":"1","driver":"flatnet","network_interface":"pod0","subnets":[{"subnet":"192.0.2.128/25"}]}`)
	before := b.state()
	found := b.doctor()
	for check, want := range map[string]finding{
		"network good":   {"OK", "", "an ADD can succeed", ""},
		"network third":  {"FAIL", "", "overlaps with the address 192.0.2.1/24 of interface up0", "another subnet"},
		"network fourth": {"FAIL", "", "nonsense", "flatnet plan -f /etc/cni/net.d/fourth.conflist"},
		"network pod":    {"FAIL", "", "overlaps with", "podman network rm"},
		"configuration":  {"FAIL", "", "torn.conflist", "flatnet plan -f /etc/cni/net.d/torn.conflist"},
		"collisions":     {"WARN", "", "192.0.2.0/24 of network third overlaps", "another subnet"},
		"network other":  {},
	} {
		if f := found[check]; f.Verdict != want.Verdict || !strings.Contains(f.Seen, want.Seen) || !strings.Contains(f.Repair, want.Repair) {
			t.Errorf("%s: %+v", check, f)
		}
	}
	if after := b.state(); after != before {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
	conflist("third", `{"subnet":"10.87.41.0/24"}`)
	conflist("fourth", `{"subnet":"10.87.42.0/24"}`)
	b.Sh("rm /etc/cni/net.d/torn.conflist /etc/containers/networks/pod.json")
	found = b.doctor()
	for _, check := range []string{"network third", "network fourth", "collisions"} {
		if f := found[check]; f.Verdict != "OK" {
			t.Errorf("repaired: %+v", f)
		}
	}
	b.Sh("rm /etc/cni/net.d/*")
}

// Where an ADD could not write a lease, the doctor says so before.
func TestDoctorFailsWhereNoLeaseCanBeWritten(t *testing.T) {
	b := newBox(t)
	for options, want := range map[string]string{"nr_inodes=1": "no free inode", "size=4k": "no ADD can write", "ro": "read-only"} {
		b.Sh("mkdir -p /var/lib/flatnet/ipam; mount -t tmpfs -o " + options + " t /var/lib/flatnet/ipam; dd if=/dev/zero of=/var/lib/flatnet/ipam/x bs=4k count=1 2>&1 || :")
		if f := b.doctor()["/var/lib/flatnet"]; f.Verdict != "FAIL" || !strings.Contains(f.Seen, want) || f.Repair == "" {
			t.Errorf("%s: %+v", options, f)
		}
		b.Sh("umount /var/lib/flatnet/ipam")
		if f := b.doctor()["/var/lib/flatnet"]; f.Verdict != "OK" {
			t.Errorf("after %s: %+v", options, f)
		}
	}
}

// On WSL2, Windows gets a route to the networks that there are.
func TestDoctorOnWSL2(t *testing.T) {
	b := newBox(t)
	b.attach("web", func(c *lab.Call) { c.Conf = strings.Replace(dual, "10.87.1.", "172.30.0.", -1) })
	b.Sh("echo 6.6.87.2-microsoft-standard-WSL2 >/run/osrelease; mount --bind /run/osrelease /proc/sys/kernel/osrelease")
	f := b.doctor()["WSL2"]
	b.Sh("umount /proc/sys/kernel/osrelease")
	if f.Repair != "route add 172.30.0.0 mask 255.255.255.0 "+lab.HostAddr {
		t.Errorf("%+v", f)
	}
}

// Each check has a verdict, also where nothing is wrong.
func TestDoctorHasAVerdictForEachCheck(t *testing.T) {
	b := newBox(t)
	found := b.doctor()
	for _, check := range []string{"bridge, veth, NAT", "inbound: published", "macspoofchk", "forwarding", "router advertisements", "other firewalls", "collisions",
		"br_netfilter", "rp_filter", "leftovers", "Podman", "installation", "container names", "/var/lib/flatnet", "/run/flatnet"} {
		if found[check] == (finding{}) {
			t.Errorf("%s has no verdict", check)
		}
	}
	for check, f := range found {
		if data, _ := json.Marshal(f); strings.Contains(string(data), "network doctor") {
			t.Errorf("%s: %s names a network that does not exist", check, data)
		}
	}
}
