package lab

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
)

// LANInterface is the interface by which a host of [LAN] reaches the others.
const LANInterface = "lan0"

// LANAddr returns the address that host i of a [LAN], from 1 on, has there.
func LANAddr(i int) string { return "198.51.100." + strconv.Itoa(i) }

// LAN6 is LANAddr in IPv6.
func LAN6(i int) string { return "2001:db8:1::" + strconv.Itoa(i) }

// LAN makes worlds with a network between them, and returns them. The switch is in a
// namespace of the first.
func LAN(t TB, hosts int) (worlds []*World) {
	t.Helper()
	var middle Place
	for i := 1; i <= hosts; i++ {
		w := New(t)
		worlds = append(worlds, w)
		if i == 1 {
			middle = w.NetNS("lan")
			middle.IP("link add switch type bridge\nlink set switch up")
		}
		port := fmt.Sprintf("port%d", i)
		args := strings.Fields(fmt.Sprintf("link add name %s mtu 1500 netns %s type veth peer name %s mtu 1500 netns %s",
			LANInterface, w.namespace(), port, middle.namespace()))
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("LAN: %v: %s", err, out)
		}
		middle.IP("link set " + port + " master switch up")
		w.ready(LANInterface)
		w.IP(fmt.Sprintf("addr add %s dev %s\naddr add %s dev %s nodad\nlink set %s up", netip.MustParsePrefix(LANAddr(i)+"/24"), LANInterface,
			netip.MustParsePrefix(LAN6(i)+"/64"), LANInterface, LANInterface))
	}
	return worlds
}

// namespace is the file of the place's network namespace as processes outside of its
// world see it.
func (p Place) namespace() string {
	if p.Path == "" {
		return "/proc/" + strconv.Itoa(p.world.pid) + "/ns/net"
	}
	return p.world.real(p.Path)
}
