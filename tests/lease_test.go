package tests

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

func TestLeaseFileIsAsPromised(t *testing.T) {
	b := newBox(t)
	c := b.attach("c1")
	second := call("ADD", "c1")
	second.IfName = "eth1"
	addr2 := b.do(second).Addr()
	var file struct {
		Subnet, Gateway string
		Allocations     map[string]string
	}
	fromJSON(t, b.Read(leaseFile), &file)
	if file.Subnet != "10.87.1.0/24" || file.Gateway != gateway || file.Allocations["c1"] != c.addr || file.Allocations["c1/eth1"] != addr2 {
		t.Errorf("%s", b.Read(leaseFile))
	}
	if modes := b.Run("stat", "-c", "%a", leaseFile, "/var/lib/flatnet/ipam"); modes != "600\n700\n" {
		t.Errorf("modes of file and directory: %q", modes)
	}
	other := b.attach("c3", func(c *lab.Call) {
		c.Conf = `{"cniVersion":"1.0.0","name":"other","type":"flatnet","bridge":"br9","ipam":{"type":"flatnet-ipam","subnet":"10.87.9.0/24"}}`
	})
	if content := b.Read("/var/lib/flatnet/ipam/other/allocations.json"); !strings.Contains(content, other.addr) {
		t.Errorf("the other network's leases: %q", content)
	}
}

func TestHundredAtOnceGetDifferentAddresses(t *testing.T) {
	b := newBox(t)
	const n = 100
	for i := range n {
		b.NetNS(fmt.Sprint("c", i))
	}
	for range 2 {
		addrs := b.together(n, "ADD")
		slices.Sort(addrs)
		if different := len(slices.Compact(addrs)); different != n {
			t.Errorf("%d addresses for %d containers", different, n)
		}
		if len(b.leases()) != n {
			t.Errorf("%d leases", len(b.leases()))
		}
		b.together(n, "DEL")
		b.clean()
	}
}

func TestExhaustionAndReuse(t *testing.T) {
	b := newBox(t)
	small := func(c *lab.Call) {
		c.Conf = conf(`"ipam":{"type":"flatnet-ipam","subnet":"10.87.1.0/24","rangeStart":"10.87.1.10","rangeEnd":"10.87.1.11"}`)
	}
	first := b.attach("c1", small)
	second := b.attach("c2", small)
	b.NetNS("c3")
	third := call("ADD", "c3")
	small(&third)
	before := b.state()
	b.refused(third, 0, "10.87.1.10", "10.87.1.11")
	b.same(before)
	b.do(first.then("DEL"))
	if addr := b.do(third).Addr(); addr != first.addr || addr == second.addr {
		t.Errorf("%s was free, and c3 got %s", first.addr, addr)
	}
}

func TestReleasedAddressIsNotReusedAtOnce(t *testing.T) {
	b := newBox(t)
	first := b.attach("c1")
	b.do(first.then("DEL"))
	if second := b.attach("c2"); second.addr == first.addr {
		t.Errorf("c2 got %s, which c1 had just now", second.addr)
	}
}

// A container that is stopped and started has the address that it had, by both doors and
// in both families, if nobody needed it meanwhile.
func TestSameAddressAgain(t *testing.T) {
	t.Parallel()
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) { d.sameAgain(newBox(t)) })
	}
}

func (d door) sameAgain(b box) {
	had := map[string]string{}
	start := func(id string, ips ...string) string {
		b.NetNS(id)
		got, failure := d.add(b, id, ips...)
		if got == nil {
			b.t.Fatal(failure)
		}
		if err := b.Ping(got[0]); err != nil {
			b.t.Errorf("%s: %v", id, err)
		}
		return fmt.Sprint(got)
	}
	same := func(id string) {
		if got := start(id); got != had[id] {
			b.t.Errorf("%s had %s and got %s", id, had[id], got)
		}
	}
	stop := func(id string) {
		if err := b.netavark("teardown", id); err != nil {
			b.t.Error(err)
		}
		b.Run("ip", "netns", "del", id)
	}
	ids := []string{"c1", "c2", "c3"}
	for _, id := range ids {
		had[id] = start(id)
	}
	for _, id := range ids {
		stop(id)
	}
	if got := start("other"); got != "[10.99.5.5 fd05::5]" {
		b.t.Errorf("another one got %s", got)
	}
	for _, id := range []string{"c3", "c1"} {
		same(id)
		stop(id)
	}
	start("needs", "10.99.5.3") // which c2 had
	if got := start("c2"); got == had["c1"] || got == had["c2"] || got == had["c3"] {
		b.t.Errorf("c2 got %s", got)
	}
	same("c1")
	same("c3")
}

// An ADD that fails keeps the address that its container had before, unless it failed
// because somebody else uses that: then the next one gets another.
func TestSameAddressAfterAFailedADD(t *testing.T) {
	b := newBox(t)
	with := func(keys string) func(*lab.Call) {
		return func(c *lab.Call) {
			c.Conf = conf(`"enabledad":true,"ipam":{"ranges":[[{"subnet":"10.87.1.0/24"}],[{"subnet":"fd87::/64"}]]}` + keys)
		}
	}
	port := with(`,"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}`)
	c1 := b.attach("c1", with(""))
	b.do(c1.then("DEL"))
	b.attach("c2", port)
	refused, plain := c1.add, c1.add
	port(&refused)
	b.refused(refused, 0, "8080")
	if again := b.do(plain); again.Addr() != c1.addr {
		t.Errorf("c1 had %s and got %s", c1.addr, again.Addr())
	}
	b.do(c1.then("DEL"))
	thief := b.NetNS("thief")
	b.Sh("ip link add t0 up master " + bridgeName + " type veth peer name eth0 netns thief")
	thief.Sh("ip addr add fd87::2/64 dev eth0 nodad; ip link set eth0 up")
	b.refused(plain, 101, "fd87::2", "duplicate")
	if again := b.do(plain); again.Addr() == c1.addr {
		t.Errorf("c1 got %s, whose IPv6 address somebody else uses", again.Addr())
	}
}

func TestLeasesSurviveAReboot(t *testing.T) {
	b := newBox(t)
	first, second := b.attach("c1"), b.attach("c2")
	// A reboot takes links, rules and namespaces, and no DEL is sent.
	b.Sh("ip link del fn-c1; ip link del fn-c2; ip link del flatnet-br0; nft flush ruleset; ip netns del c1; ip netns del c2")
	if third := b.attach("c3"); third.addr == first.addr || third.addr == second.addr {
		t.Errorf("c3 got %s, which another still holds", third.addr)
	}
	for _, c := range []container{second, first} {
		if again := b.attach(c.add.ID); again.addr != c.addr {
			t.Errorf("%s had %s and got %s", c.add.ID, c.addr, again.addr)
		}
	}
}

func TestWantedAddressAndMAC(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*lab.Call){
		"CNI_ARGS": func(c *lab.Call) {
			c.Args = "IgnoreUnknown=1;K8S_POD_NAME=c1;MAC=02:aa:bb:cc:dd:01;IP=10.87.1.77"
		},
		"runtimeConfig": func(c *lab.Call) {
			c.Conf = conf(`"runtimeConfig":{"ips":["10.87.1.77/24"],"mac":"02:aa:bb:cc:dd:01"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			c := b.attach("c1", edit)
			b.isTrue(c)
			if mac := links(t, c.Place)["eth0"].Address; c.addr != "10.87.1.77" || mac != "02:aa:bb:cc:dd:01" {
				t.Errorf("got %s and %s", c.addr, mac)
			}
			b.NetNS("c2")
			taken := call("ADD", "c2")
			taken.Args = "IP=10.87.1.77"
			before := b.state()
			b.refused(taken, 0, "10.87.1.77", "c1")
			b.same(before)
		})
	}
}
