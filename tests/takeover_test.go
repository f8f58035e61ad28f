package tests

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"flatnet/tests/lab"
)

// A racingOrder is an order of ADD's steps, by one of the doors.
type racingOrder struct {
	name string
	conf string // of CNI; empty: netavark's door
}

var racingOrders = []racingOrder{
	{"lease first", lab.Conf},
	{"link first", conf(`"enabledad":true`)},
	{"another plugin's lease", `{"cniVersion":"1.0.0","name":"net","type":"flatnet","bridge":"br0","isDefaultGateway":true,"ipMasq":true,` +
		`"ipam":{"type":"host-local","subnet":"10.10.0.0/16"}}`},
	{"no address", conf(`"disableContainerInterface":true`)},
	{"netavark", ""},
}

// A process in the container takes the new interface away while the ADD is under
// way, and puts in its place one whose peer has the index of the host's uplink. No
// link of the host but our own is ever touched. The ADD fails and leaves nothing, or
// has ended before.
func TestInterfaceIsTakenAwayDuringADD(t *testing.T) {
	t.Parallel()
	rounds := 5
	if long {
		rounds = 60
	}
	for _, order := range racingOrders {
		for _, way := range []string{"rename", "delete", "move", "mac"} {
			t.Run(order.name+", "+way, func(t *testing.T) {
				b := newBox(t)
				b.NetNS("first")
				if err := b.addBy(order, "first"); err != nil { // makes what is shared
					t.Fatal(err)
				}
				uplink := b.uplinkIndex()
				before, failed, raced := b.state()+b.uplink(), 0, 0
				for i := 0; i < rounds || failed == 0 && i < 20*rounds; i++ { // a busy machine lets few races happen
					id := fmt.Sprintf("c%d", i)
					c, fresh, own := b.racingGround(id, uplink), 2, 50
					if uplink == fresh {
						fresh++
					}
					if way == "mac" {
						own = 0
					}
					done := c.Race(way, fresh, own)
					err := b.addBy(order, id)
					if done() {
						raced++
					}
					if err != nil {
						failed++
						if !strings.Contains(err.Error(), "in the container during the ADD") {
							t.Fatalf("an unclear error: %v", err)
						}
						if strings.Contains(err.Error(), "\x1b") { // of the name that the container gave its interface
							t.Fatalf("an error that a terminal would obey: %q", err)
						}
					} else if u := b.uplink(); !strings.HasSuffix(before, u) {
						t.Fatalf("the uplink is %s", u)
					} else if err := b.removeBy(order, id); err != nil {
						t.Fatal(err)
					}
					if after := b.state() + b.uplink(); after != before {
						t.Fatalf("ADD: %v; %s", err, difference(before, after))
					}
					b.Run("ip", "netns", "del", id)
				}
				if failed == 0 {
					t.Errorf("no ADD failed, and %d races were run: nothing is shown", raced)
				}
				t.Logf("%d of %d ADDs failed, %d races run to the end", failed, rounds, raced)
			})
		}
	}
}

// addBy makes an ADD, or netavark's setup, of eth0 in the namespace of the ID.
func (b box) addBy(o racingOrder, id string) error { return b.by(o, "ADD", "setup", id) }

func (b box) removeBy(o racingOrder, id string) error { return b.by(o, "DEL", "teardown", id) }

func (b box) by(o racingOrder, command, netavark, id string) error {
	if o.conf == "" {
		return b.netavark(netavark, id)
	}
	c := call(command, id)
	c.Conf = o.conf
	if r := b.Call(program, c); r.Exit != 0 {
		if command == "ADD" && r.Code != 104 {
			return fmt.Errorf("code %d: %s", r.Code, r.Msg)
		}
		return fmt.Errorf("%s %s", r.Msg, r.Details)
	}
	return nil
}

// racingGround is a namespace with a pair of which one end has the index 50, and the
// other the index of the host's uplink.
func (b box) racingGround(id string, uplink int) lab.Place {
	b.t.Helper()
	c := b.NetNS(id)
	c.Run("ip", "link", "add", "tmp0", "index", "50", "type", "veth", "peer", "name", "y0", "index", fmt.Sprint(uplink))
	return c
}

func (b box) uplinkIndex() (index int) {
	b.t.Helper()
	if _, err := fmt.Sscanf(b.Run("ip", "-o", "link", "show", lab.Uplink), "%d:", &index); err != nil {
		b.t.Fatal(err)
	}
	return index
}

// uplink is all that there is to say of the host's uplink.
func (b box) uplink() string {
	b.t.Helper()
	return "\nuplink: " + b.Run("ip", "-details", "link", "show", lab.Uplink) + b.Run("tc", "qdisc", "show", "dev", lab.Uplink)
}

// An interface that is another than ADD's is found by CHECK, though it has the
// name, the MAC and the address; DEL removes what is ours and nothing else.
func TestInterfaceIsReplacedAfterADD(t *testing.T) {
	b := newBox(t)
	b.attach("first")
	before := b.state() + b.uplink()
	c := b.attach("c1")
	mac := links(t, c.Place)["eth0"].Address
	c.Sh(fmt.Sprintf(`ip link set eth0 down; ip link set eth0 name x0
		ip link add eth0 address %s type veth peer name y0 index %d
		ip link set eth0 up; ip link set y0 up; ip addr add %s/24 dev eth0; ip route add default via %s`, mac, b.uplinkIndex(), c.addr, gateway))
	b.refused(c.then("CHECK"), 104, "eth0", "fn-c1")
	b.do(c.then("DEL"))
	if after := b.state() + b.uplink(); after != before {
		t.Error(difference(before, after))
	}
	if !strings.Contains(c.Run("ip", "link"), "y0") {
		t.Error("the container's own pair is gone")
	}
}

// A container with tens of thousands of addresses and routes keeps nobody
// waiting: CHECK says so at once, or is not concerned.
func TestHugeListsInTheContainer(t *testing.T) {
	b := newBox(t)
	c := b.attach("c1")
	var routes strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&routes, "route add 100.%d.%d.%d/32 dev lo\n", 64+i>>16, i>>8&255, i&255)
	}
	c.IP(routes.String())
	b.do(c.then("CHECK"))
	c.IP(strings.ReplaceAll(routes.String(), "dev lo", "dev eth0 metric 5"))
	b.refused(c.then("CHECK"), 0, "routes", "longer than")
	b.do(c.then("DEL"))
	b.clean()
}

// A container whose namespace asks for duplicate address detection without end can't
// hold its own ADD up for as long as it likes.
func TestDuplicateAddressDetectionWithoutEnd(t *testing.T) {
	b := newBox(t)
	b.attach("first", bothFamilies, withDAD)
	before := b.state()
	c := b.NetNS("c1")
	c.Sh("echo 1000 >/proc/sys/net/ipv6/conf/default/dad_transmits")
	add := call("ADD", "c1")
	bothFamilies(&add)
	withDAD(&add)
	begin := time.Now()
	b.refused(add, 0, "fd87:", "duplicate address detection", "10s")
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("it took %v", took)
	}
	b.same(before)
}

func withDAD(c *lab.Call) { c.Conf = withKeys(c.Conf, `"enabledad":true`) }
