package tests

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// A door is one of the two ways to attach a container to a network of a dual
// stack: 10.99.5.0/24 and fd05::/64 on the bridge br-five.
type door struct {
	name string
	// add attaches a container that asks for ips. It returns its addresses, or
	// the error's text.
	add func(b box, id string, ips ...string) ([]string, string)
}

// doors are both doors, for tests of what they have in common.
var doors = []door{{"CNI", addByCNI}, {"netavark", addByNetavark}}

func addByCNI(b box, id string, ips ...string) ([]string, string) {
	c := call("ADD", id)
	if ips == nil {
		ips = []string{}
	}
	list, _ := json.Marshal(ips)
	c.Conf = `{"cniVersion":"1.0.0","name":"five","type":"flatnet","bridge":"br-five",
		"ipam":{"ranges":[[{"subnet":"10.99.5.0/24"}],[{"subnet":"fd05::/64"}]]},"runtimeConfig":{"ips":` + string(list) + `}}`
	r := b.Call(program, c)
	var got []string
	for _, ip := range r.IPs {
		addr, _, _ := strings.Cut(ip.Address, "/")
		got = append(got, addr)
	}
	return got, r.Msg
}

func addByNetavark(b box, id string, ips ...string) (got []string, failure string) {
	list, _ := json.Marshal(ips)
	cmd := b.Cmd(program, "setup", "/run/netns/"+id)
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"container_id":%q,"network":{"name":"five","network_interface":"br-five",
		"subnets":[{"subnet":"10.99.5.0/24"},{"subnet":"fd05::/64"}],"ipv6_enabled":true},
		"network_options":{"interface_name":"eth0","static_ips":%s}}`, id, list))
	out, _ := cmd.Output()
	var reply struct {
		Error      string
		Interfaces map[string]struct{ Subnets []struct{ IPNet string } }
	}
	fromJSON(b.t, string(out), &reply)
	for _, s := range reply.Interfaces["eth0"].Subnets {
		addr, _, _ := strings.Cut(s.IPNet, "/")
		got = append(got, addr)
	}
	return got, reply.Error
}

// What the host itself has is passed over by an ADD that asks for nothing, and
// refused to one that asks for it, by the name of the interface that has it.
func TestAddressesOfTheHostAreNeverLeased(t *testing.T) {
	t.Parallel()
	for _, d := range doors {
		for name, c := range map[string]struct{ give, link string }{
			"on the bridge": {"ip addr add 10.99.5.2/32 dev br-five; ip addr add fd05::2/128 dev br-five nodad", "br-five"},
			// Where nothing has a carrier, IPv6 stays tentative, and without a route.
			"on the bridge, tentative": {"ip addr add 10.99.5.2/32 dev br-five; ip addr add fd05::2/64 dev br-five", "br-five"},
			"on lo":                    {"ip addr add 10.99.5.2/32 dev lo; ip addr add fd05::2/128 dev lo", "lo"},
			"on another interface": {"ip link add other0 type veth peer name other1; ip link set other1 up; ip link set other0 up;" +
				"ip addr add 10.99.5.2/32 dev other0; ip addr add fd05::2/128 dev other0 nodad", "other0"},
			"by a local route to more": {"ip route add local 10.99.5.0/28 dev lo; ip -6 route add local fd05::/80 dev lo", "lo"},
		} {
			t.Run(d.name+" "+name, func(t *testing.T) {
				b := newBox(t)
				b.Sh("ip link add br-five up type bridge; ip addr add 10.99.5.1/24 dev br-five; ip addr add fd05::1/64 dev br-five nodad;" + c.give)
				b.NetNS("c1")
				for _, addr := range []string{"10.99.5.2", "fd05::2"} {
					got, failure := d.add(b, "c1", addr)
					if got != nil || !strings.Contains(failure, addr) || !strings.Contains(failure, c.link) {
						t.Errorf("asking for %s: %v, %q does not name it and %s", addr, got, failure, c.link)
					}
				}
				want := "[10.99.5.3 fd05::3]"
				if strings.Contains(name, "route") {
					want = "[10.99.5.16 fd05::1:0:0:0]"
				}
				got, failure := d.add(b, "c1")
				if fmt.Sprint(got) != want {
					t.Fatalf("got %v %s, want %s", got, failure, want)
				}
				if err := b.Ping(got[0]); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// An address that the host gets while a container that had it is away is not
// given to it again; STATUS and an exhausted network see the host's addresses.
func TestAddressThatTheHostHasGot(t *testing.T) {
	b := newBox(t)
	c1 := b.attach("c1", limited)
	b.reboot("c1")
	b.do(b.attach("c0", limited).then("DEL")) // makes the bridge
	b.Run("ip", "addr", "add", c1.addr+"/32", "dev", "lo")
	again := b.attach("c1", limited)
	if again.addr == c1.addr {
		t.Errorf("c1 got %s, which the host has", again.addr)
	}
	b.Sh("for i in 10 11 12; do ip addr add 10.87.1.$i/32 dev lo 2>/dev/null || :; done")
	b.NetNS("c2")
	add := call("ADD", "c2")
	limited(&add)
	b.refused(add, 100, "10.87.1.10-10.87.1.12")
	b.refused(lab.Call{Command: "STATUS", Conf: newer(add.Conf)}, 50, "10.87.1.10-10.87.1.12")
}

// What another plugin leases is not given to a container if the host has it.
func TestDelegatedAddressOfTheHost(t *testing.T) {
	b := newBox(t)
	b.attach("c0", hostLocal)
	before := b.hostLocalLeases()
	b.Run("ip", "addr", "add", "10.10.0.3/32", "dev", "lo")
	b.NetNS("c1")
	add := call("ADD", "c1")
	hostLocal(&add)
	b.refused(add, 101, "10.10.0.3", "lo")
	if after := b.hostLocalLeases(); after != before {
		t.Errorf("host-local had %s and keeps %s", before, after)
	}
	b.do(add) // host-local goes on with the next one
}

// A container that is gone without DEL loses its address to one that asks for
// it, by either door and after a reboot as well; one that runs does not.
func TestStaticAddressOfALostContainer(t *testing.T) {
	t.Parallel()
	for _, d := range doors {
		for name, lose := range map[string]func(b box, id string){
			"namespace": box.die,
			"reboot":    func(b box, id string) { b.reboot(id) },
		} {
			t.Run(d.name+" "+name, func(t *testing.T) {
				b := newBox(t)
				for _, id := range []string{"old", "new", "third"} {
					b.NetNS(id)
				}
				ips := []string{"10.99.5.77", "fd05::77"}
				if got, failure := d.add(b, "old", ips...); fmt.Sprint(got) != fmt.Sprint(ips) {
					t.Fatalf("got %v %s", got, failure)
				}
				if got, failure := d.add(b, "new", ips...); got != nil || !strings.Contains(failure, "old") {
					t.Errorf("while it runs: got %v %q", got, failure)
				}
				lose(b, "old")
				if got, failure := d.add(b, "new", ips...); fmt.Sprint(got) != fmt.Sprint(ips) {
					t.Errorf("got %v %s", got, failure)
				}
				for _, ip := range ips {
					if err := b.Ping(ip); err != nil {
						t.Error(err)
					}
				}
				if got, failure := d.add(b, "third", ips...); got != nil || !strings.Contains(failure, "new") {
					t.Errorf("a third: got %v %q", got, failure)
				}
			})
		}
	}
}

// An address is not free for the asking while the ADD that has it is under way.
func TestWantedAddressInFlight(t *testing.T) {
	b := newBox(t)
	b.NetNS("flying")
	b.NetNS("c2")
	flying, add := call("ADD", "flying"), call("ADD", "c2")
	flying.Args, add.Args = "IP=10.87.1.77", "IP=10.87.1.77"
	kill := b.stop(flying)
	b.refused(add, 101, "10.87.1.77", "flying")
	// Nor is it when the file that says so is lost.
	b.Sh("mv " + leaseFile + " /run/lost")
	b.refused(add, 11, "10.87.1.77")
	b.Sh("mv /run/lost " + leaseFile)
	kill()
	if got := b.do(add).Addr(); got != "10.87.1.77" {
		t.Errorf("c2 got %s", got)
	}
}
