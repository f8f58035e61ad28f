package hosts

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// peersOf are the routes of host n to the others' subnets over the LAN.
func peersOf(n, hosts int) string {
	var peers []string
	for i := 1; i <= hosts; i++ {
		if i != n {
			peers = append(peers, fmt.Sprintf(`{"subnet":"10.87.%d.0/24","via":%q},{"subnet":"fd87:0:0:%d::/64","via":%q}`, i, lab.LANAddr(i), i, lab.LAN6(i)))
		}
	}
	return strings.Join(peers, ",")
}

// Three hosts of one LAN, without an engine: routes alone.
func TestPeersOfThreeHosts(t *testing.T) {
	hosts := newHosts(t, 3, "")
	var all []container
	for _, h := range hosts {
		h.keys = fmt.Sprintf(`"ipam":{"type":"flatnet-ipam","ranges":[[{"subnet":"10.87.%[1]d.0/24"}],[{"subnet":"fd87:0:0:%[1]d::/64"}]]},"peers":[%[2]s]`,
			h.n, peersOf(h.n, len(hosts)))
		all = append(all, h.attach("c1", 8080))
	}
	flat(t, all...)
	for i, h := range hosts {
		h.outside(all[i], 8080)
	}
	six := func(n int) string { return fmt.Sprintf("fd87:0:0:%d::2", n) }
	all[1].Serve(net.JoinHostPort(six(2), "80"))
	sees(t, "IPv6", all[0].Place, six(2), six(1))
	sees(t, "IPv6, another host", all[2].Place, six(2), six(3))

	hosts[1].leave(true)
	flat(t, all[0], all[2])
	hosts[1].leave(false)
	flat(t, all[0], all[2])
	hosts[1].IP("addr add " + lab.LAN6(2) + "/64 dev lan0 nodad") // as its own network configuration does
	hosts[1].Run(program, "reload")                               // the routes went with the interface
	flat(t, all...)
	sees(t, "IPv6, after a reload", all[0].Place, six(2), six(1))
	for i, h := range hosts {
		h.detach(all[i])
		if out := h.Run("ip", "route", "show", "proto", "87") + h.Run("ip", "-6", "route", "show", "proto", "87"); out != "" {
			t.Errorf("host %d has still %s", h.n, out)
		}
	}
}
