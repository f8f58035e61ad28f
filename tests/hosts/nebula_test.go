package hosts

import (
	"fmt"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// A nebula is what its daemons on several hosts make, of which the first is the lighthouse.
type nebula struct {
	t     *testing.T
	hosts []*host
	runs  []daemon
}

func overlay(n int) string { return fmt.Sprintf("192.168.100.%d", n) }

func subnetOf(n int) string { return fmt.Sprintf("10.100.%d.0/24", n) }

// nebulaConf is a host's configuration: its own subnet is what the certificate says, and
// the others' are unsafe routes.
func nebulaConf(n, hosts int) string {
	var routes strings.Builder
	for i := 1; i <= hosts; i++ {
		if i != n {
			fmt.Fprintf(&routes, "\n    - {route: %s, via: %s}", subnetOf(i), overlay(i))
		}
	}
	lighthouse := "lighthouse: {am_lighthouse: true}"
	if n != 1 {
		lighthouse = fmt.Sprintf("lighthouse: {hosts: [%s], interval: 1}\nstatic_host_map: {%[1]s: ['%s:4242']}", overlay(1), lab.LANAddr(1))
	}
	return fmt.Sprintf(`pki: {ca: /etc/nebula/ca.crt, cert: /etc/nebula/host.crt, key: /etc/nebula/host.key}
%s
listen: {host: 0.0.0.0, port: 4242}
tun:
  dev: nebula1
  unsafe_routes:%s
firewall:
  outbound:
    - {port: any, proto: any, host: any, local_cidr: %s}
  inbound:
    - {port: any, proto: any, host: any, local_cidr: %[3]s}
`, lighthouse, routes.String(), subnetOf(n))
}

func newNebula(t *testing.T) *nebula {
	t.Helper()
	dir := engines(t)
	n := &nebula{t: t, hosts: newHosts(t, 3, dir), runs: make([]daemon, 3)}
	first := n.hosts[0]
	first.Sh("mkdir -p /etc/nebula && cd /etc/nebula && nebula-cert ca -name flat")
	for _, h := range n.hosts {
		h.keys = fmt.Sprintf(`"hostId":%d`, h.n)
		first.Sh(fmt.Sprintf("cd /etc/nebula && nebula-cert sign -name host%d -ip %s/24 -subnets %s -out-crt %[1]d.crt -out-key %[1]d.key",
			h.n, overlay(h.n), subnetOf(h.n)))
		h.Sh("mkdir -p /etc/nebula")
		for file, from := range map[string]string{"ca.crt": "ca.crt", "host.crt": fmt.Sprintf("%d.crt", h.n), "host.key": fmt.Sprintf("%d.key", h.n)} {
			h.Write("/etc/nebula/"+file, first.Read("/etc/nebula/"+from))
		}
		h.Write("/etc/nebula/config.yml", nebulaConf(h.n, len(n.hosts)))
		n.start(h)
	}
	return n
}

// start starts a host's nebula and waits for the routes.
func (n *nebula) start(h *host) {
	n.t.Helper()
	n.runs[h.n-1] = h.daemon("nebula", "-config", "/etc/nebula/config.yml")
	err := lab.Until(soon, func() error {
		out, err := h.Try("ip", "route", "show", "dev", "nebula1")
		if err == nil && strings.Count(out, "10.100.") != len(n.hosts)-1 {
			err = fmt.Errorf("routes are %s", out)
		}
		return err
	})
	if err != nil {
		n.t.Fatalf("nebula of host %d: %v", h.n, err)
	}
}

// Containers on the subnets of certificates that a real Nebula carries. It does so by
// user space, so a host without its daemon is away.
func TestNebula(t *testing.T) {
	n := newNebula(t)
	var all []container
	for _, h := range n.hosts {
		all = append(all, h.attach("c1", 8080))
	}
	flat(t, all...)
	for i, h := range n.hosts {
		h.outside(all[i], 8080)
	}

	n.runs[0].stop() // the lighthouse
	flat(t, all[1], all[2])
	late := n.hosts[1].attach("late", 0)
	flat(t, late, all[2])
	n.hosts[1].detach(late)
	early := n.hosts[0].attach("early", 0) // without the tunnel, it has the rest of the world
	n.hosts[0].outside(early, 0)
	n.start(n.hosts[0])
	flat(t, append(all, early)[:3]...)
	flat(t, early, all[1])

	n.hosts[2].leave(true)
	flat(t, all[0], all[1])
	n.hosts[2].leave(false)
	flat(t, all...)
	n.forged(all)
	for i, h := range n.hosts {
		h.detach(all[i])
	}
}

// forged: what has an address that the sending host's certificate does not have is dropped
// by the receiving host.
func (n *nebula) forged(all []container) {
	t := n.t
	t.Helper()
	const address = "10.100.1.77"
	from, to := all[1], all[2]
	to.Sh(`nft 'table ip seen { counter forged { }; chain seen { type filter hook input priority 0; ip saddr ` + address + ` counter name forged; }; }'`)
	from.Run("ip", "addr", "add", address+"/32", "dev", "lo")
	if err := from.Ping(to.addr, "-I", address, "-w", "1"); err == nil {
		t.Error("a forged address is answered")
	}
	if err := from.Ping(to.addr); err != nil { // it takes the same way, behind the forged ones
		t.Error(err)
	}
	if out := to.Run("nft", "list", "counter", "ip", "seen", "forged"); !strings.Contains(out, "packets 0 ") {
		t.Errorf("forged packets arrive: %s", out)
	}
}
