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
