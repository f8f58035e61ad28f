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

// count counts in a container what arrives from an address, and returns how to read it.
func (c container) count(t *testing.T, from string) (arrived func() bool) {
	t.Helper()
	c.Sh(`nft 'table ip seen { counter forged { }; chain seen { type filter hook input priority 0; ip saddr ` + from + ` counter name forged; }; }'`)
	return func() bool {
		return !strings.Contains(c.Run("nft", "reset", "counter", "ip", "seen", "forged"), "packets 0 ")
	}
}

// What docs/hosts.md says of forged addresses: macspoofchk keeps a container from sending
// them to other hosts, and rp_filter a host from believing that others have its own.
func TestForgedAddressesBetweenHosts(t *testing.T) {
	hosts := newHosts(t, 2, "")
	var all []container
	for _, h := range hosts {
		h.keys = fmt.Sprintf(`"macspoofchk":true,"ipam":{"type":"flatnet-ipam","subnet":"10.87.%d.0/24"},"peers":[{"subnet":"10.87.%d.0/24","via":%q}]`,
			h.n, 3-h.n, lab.LANAddr(3-h.n))
		all = append(all, h.attach("c1", 0))
	}
	flat(t, all...)
	forge := func(from lab.Place, as, to string) {
		t.Helper()
		if err := from.Ping(to, "-I", as, "-w", "1"); err == nil {
			t.Errorf("forged %s is answered", as)
		}
		if err := from.Ping(to); err != nil { // behind the forged ones on the same way
			t.Error(err)
		}
	}
	const stranger = "10.87.1.77"
	arrived := all[1].count(t, stranger)
	all[0].Run("ip", "addr", "add", stranger+"/32", "dev", "lo")
	forge(all[0].Place, stranger, all[1].addr)
	if arrived() {
		t.Error("macspoofchk lets a forged address through to another host")
	}

	arrived = all[0].count(t, "10.87.1.88")
	hosts[1].Sh("ip addr add 10.87.1.88/32 dev lo")
	for _, filter := range []string{"0", "1"} {
		hosts[0].Sh("echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter; echo " + filter + " >/proc/sys/net/ipv4/conf/" + lab.LANInterface + "/rp_filter")
		forge(hosts[1].Place, "10.87.1.88", all[0].addr)
		if got := arrived(); got != (filter == "0") {
			t.Errorf("rp_filter %s: forged packets arrive: %v", filter, got)
		}
	}
}
