package tests

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// A running container needs its gateway, and what its subnet was when it came: a change of
// either is refused as long as it runs, whoever made the bridge and whatever is recorded, and is
// no reason to refuse anything afterwards.
func TestGatewayChanges(t *testing.T) {
	const file = `"subnetFile":"` + flannelFile + `"`
	for _, c := range []struct {
		name, keys, then, change string // keys of the first ADD and of the next one, and what is done between
		texts                    []string
		gateway                  string // in the end
	}{
		{"longer", file, file, "s,10.244.3.1/24,10.244.2.1/23,", []string{"subnet", "was 10.244.3.0/24 and is now 10.244.2.0/23"}, "10.244.2.1/23"},
		{"longer, by the same gateway", file, file, "s,10.244.3.1/24,10.244.3.1/23,", []string{"subnet", "was 10.244.3.0/24", "10.244.2.0/23"}, "10.244.3.1/23"},
		{"another gateway", file, file, "s,10.244.3.1/24,10.244.3.9/24,", []string{"the gateway of network flatnet", "was 10.244.3.1 and is now 10.244.3.9"}, "10.244.3.9/24"},
		{"its own address", file, file, "s,10.244.3.1/24,10.244.3.2/24,", []string{"gateway", "was 10.244.3.1 and is now 10.244.3.2"}, "10.244.3.2/24"},
		{"of IPv6", file, file, "s,fd00:10:244:3::1/64,fd00:10:244:3::9/64,", []string{"gateway", "was fd00:10:244:3::1 and is now fd00:10:244:3::9"}, "fd00:10:244:3::9/64"},
		{"by a key", `"hostId":3`, `"hostId":3,"ipam":{"gateway":"10.100.3.2"}`, "", []string{"gateway", "was 10.100.3.1 and is now 10.100.3.2"}, "10.100.3.2/24"},
		{"forced", `"hostId":3`, `"hostId":3,"forceAddress":true,"ipam":{"gateway":"10.100.3.2"}`, "", []string{"gateway", "10.100.3.1", "10.100.3.2"}, "10.100.3.2/24"},
	} {
		for _, how := range []string{"", "ip link add flatnet-br0 type bridge", "rm -r /run/flatnet/*/flatnet"} {
			if how != "" && c.name != "another gateway" && c.name != "forced" {
				continue
			}
			t.Run(c.name+" "+how, func(t *testing.T) {
				b := newBox(t)
				b.flannel(3, false)
				premade, lost := strings.Contains(how, "ip link"), strings.Contains(how, "rm")
				if premade {
					b.Sh(how)
				}
				configured := func(keys string) func(*lab.Call) {
					if premade && !strings.Contains(keys, "forceAddress") { // it loses no address otherwise
						keys += `,"forceAddress":true`
					}
					return func(call *lab.Call) { call.Conf = newer(conf(keys)) }
				}
				c1 := b.attach("c1", configured(c.keys))
				b.Sh("sed -i '" + c.change + "' " + flannelFile)
				if lost {
					b.Sh(how)
				}
				shown := func() string { return b.Run("ip", "-o", "addr", "show", "dev", bridgeName, "scope", "global") }
				addrs := shown()
				b.NetNS("c2")
				add := call("ADD", "c2")
				configured(c.then)(&add)
				b.refused(add, 102, append(c.texts, "1 of its containers", "c1 ("+c1.addr)...)
				b.refused(lab.Call{Command: "STATUS", Conf: add.Conf}, 51, c.texts...)
				if now := shown(); now != addrs {
					t.Errorf("the bridge had %s and has %s", addrs, now)
				}
				if err := c1.Ping(lab.OutsideAddr); err != nil {
					t.Error(err)
				}
				b.do(c1.then("DEL"))
				b.do(add)
				if got := shown(); !strings.Contains(got, c.gateway+" ") {
					t.Errorf("the bridge has %s and not %s", got, c.gateway)
				}
			})
		}
	}
}

// A gateway that somebody has deleted has not changed: the next ADD gives it back to the bridge,
// which keeps what a person has added in another family.
func TestGatewayThatWasDeleted(t *testing.T) {
	b := newBox(t)
	b.flannel(3, false)
	file := func(c *lab.Call) { c.Conf = newer(conf(`"subnetFile":"` + flannelFile + `"`)) }
	c1 := b.attach("c1", file)
	b.Sh("ip addr del 10.244.3.1/24 dev " + bridgeName + "; ip addr add fd99::1/64 dev " + bridgeName + " nodad")
	b.attach("c2", file)
	if addrs := b.Run("ip", "-o", "addr", "show", "dev", bridgeName); !strings.Contains(addrs, "10.244.3.1/24") || !strings.Contains(addrs, "fd99::1/64") {
		t.Errorf("the bridge has %s", addrs)
	}
	if err := c1.Ping(lab.OutsideAddr); err != nil {
		t.Error(err)
	}
}

// Containers of an earlier subnet count also on another bridge.
func TestSubnetChangesWithItsBridge(t *testing.T) {
	b := newBox(t)
	with := func(keys string) func(*lab.Call) { return func(c *lab.Call) { c.Conf = newer(conf(keys)) } }
	c1 := b.attach("c1", with(`"hostId":3,"bridge":"bq3"`))
	b.NetNS("c2")
	add := call("ADD", "c2")
	with(`"hostId":5,"bridge":"bq5"`)(&add)
	for range 2 {
		b.refused(add, 102, "was 10.100.3.0/24 and is now 10.100.5.0/24", "c1 (10.100.3.10)")
		b.refused(lab.Call{Command: "STATUS", Conf: add.Conf}, 51, "10.100.3.0/24", "10.100.5.0/24")
		b.Sh("ip link add bq5 type bridge 2>/dev/null || :")
	}
	b.do(c1.then("CHECK"))
	b.do(c1.then("DEL"))
	b.do(add)
}

// A reload leaves a container on the bridge that its network no longer uses: on the other one,
// its subnet is not served. That an older bridge of the network is there is no reason not to make
// the other one again.
func TestReloadLeavesContainersOfAnotherBridge(t *testing.T) {
	b := newBox(t)
	with := func(keys string) func(*lab.Call) { return func(c *lab.Call) { c.Conf = newer(conf(keys)) } }
	c1 := b.attach("c1", with(`"bridge":"bq3","ipam":{"subnet":"10.99.3.0/24"}`))
	c2 := b.attach("c2", with(`"bridge":"bq5","ipam":{"subnet":"10.99.5.0/24"}`))
	for _, spoil := range []string{":", "ip link set fn-c1 down; ip link set fn-c1 up", "ip link del bq5"} {
		b.Sh(spoil)
		b.Try(program, "reload") // which names c1, of whose subnet there is no record
		if master := b.Run("ip", "-o", "link", "show", "fn-c1"); !strings.Contains(master, "master bq3") {
			t.Fatalf("%s: %s", spoil, master)
		}
		if err := c1.Ping(lab.OutsideAddr); err != nil {
			t.Errorf("%s: %v", spoil, err)
		}
		b.do(c2.then("CHECK"))
	}
}

// Of ADDs that begin by different subnets at one moment, those of one subnet succeed.
func TestSubnetsAtOneMoment(t *testing.T) {
	b := newBox(t)
	const each = 4
	for i := range 2 * each {
		b.NetNS(fmt.Sprint("c", i))
	}
	for range 4 {
		replies := make(chan lab.Reply, 2*each)
		for i := range 2 * each {
			add := call("ADD", fmt.Sprint("c", i))
			add.Conf = conf(fmt.Sprintf(`"hostId":%d`, 3+i%2))
			go func() { replies <- b.Call(program, add) }()
		}
		var subnets []string
		for range 2 * each {
			r := <-replies
			switch {
			case r.Exit == 0:
				subnets = append(subnets, r.Addr()[:len("10.100.3")])
			case r.Code != 102 && r.Code != 11:
				t.Errorf("%s", r.Stdout)
			}
		}
		slices.Sort(subnets)
		if got := slices.Compact(subnets); len(got) != 1 {
			t.Fatalf("containers in %v", got)
		}
		if addrs := links(t, b.Place)[bridgeName].ipv4(); len(addrs) != 1 || !strings.HasPrefix(addrs[0], subnets[0]) {
			t.Fatalf("the bridge has %v, and containers have %v", addrs, subnets)
		}
		for i := range 2 * each {
			b.do(call("DEL", fmt.Sprint("c", i)))
		}
	}
}

// A gateway that can't be is refused as any other value of the file, by all three.
func TestSubnetFileOfABroadcastAddress(t *testing.T) {
	b := newBox(t)
	b.flannel(3, false)
	b.Sh("sed -i s,10.244.3.1/24,10.244.3.255/24, " + flannelFile)
	b.NetNS("c1")
	add := call("ADD", "c1")
	add.Conf = newer(conf(`"subnetFile":"` + flannelFile + `"`))
	before := b.state()
	b.refused(add, 102, flannelFile, "line 2", "FLANNEL_SUBNET", "10.244.3.255/24")
	b.refused(lab.Call{Command: "STATUS", Conf: add.Conf}, 50, flannelFile, "line 2", "10.244.3.255/24")
	b.same(before)
}

// On a bridge that somebody else made, an address may be that person's: it is replaced where
// forceAddress says so, and the error names both addresses and the key.
func TestSubnetChangesOnAnotherBridge(t *testing.T) {
	b := newBox(t)
	b.Sh("ip link add brp type bridge")
	with := func(keys string) func(*lab.Call) {
		return func(c *lab.Call) { c.Conf = newer(conf(`"bridge":"brp",` + keys)) }
	}
	b.do(b.attach("c1", with(`"hostId":3`)).then("DEL"))
	b.NetNS("c2")
	add := call("ADD", "c2")
	with(`"hostId":5`)(&add)
	b.refused(add, 102, "10.100.3.1/24", "10.100.5.1/24", "forceAddress")
	with(`"hostId":5,"forceAddress":true`)(&add)
	b.do(add)
	if got := links(t, b.Place)["brp"].ipv4(); !slices.Equal(got, []string{"10.100.5.1/24"}) {
		t.Errorf("the bridge has %v", got)
	}
}
