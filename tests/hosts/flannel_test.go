package hosts

import (
	"fmt"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

const (
	subnetFile = "/run/flannel/subnet.env"
	byFlannel  = `"subnetFile":"` + subnetFile + `"`
)

// A flannel is what its daemons on several hosts, and an etcd on the first, make.
type flannel struct {
	t     *testing.T
	hosts []*host
	etcd  daemon
	runs  []daemon // flanneld of each host
}

func endpoint() string { return "http://" + lab.LANAddr(1) + ":2379" }

// startEtcd starts the first host's etcd with what it had, and waits until it answers.
func (f *flannel) startEtcd() {
	f.t.Helper()
	first := f.hosts[0]
	f.etcd = first.daemon("env", "ETCD_UNSUPPORTED_ARCH=arm64", "etcd", "--data-dir", "/var/lib/etcd-flat", "--listen-client-urls", endpoint(),
		"--advertise-client-urls", endpoint(), "--listen-peer-urls", "http://127.0.0.1:2380")
	f.wait("etcd", first, "etcdctl", "--endpoints", endpoint(), "--command-timeout=1s", "endpoint", "health")
}

// wait waits until a command succeeds on a host.
func (f *flannel) wait(what string, h *host, command ...string) {
	f.t.Helper()
	if err := lab.Until(soon, func() error { _, err := h.Try(command...); return err }); err != nil {
		f.t.Fatalf("%s of host %d: %v", what, h.n, err)
	}
}

// startFlannel starts a host's flanneld and waits until it says which subnet it has.
func (f *flannel) startFlannel(h *host) {
	f.t.Helper()
	f.runs[h.n-1] = h.daemon("flannel", "-etcd-endpoints", endpoint(), "-iface", lab.LANInterface)
	f.wait("subnet", h, "test", "-s", subnetFile)
}

func newFlannel(t *testing.T, backend string) *flannel {
	t.Helper()
	dir := engines(t)
	f := &flannel{t: t, hosts: newHosts(t, 3, dir), runs: make([]daemon, 3)}
	f.startEtcd()
	f.hosts[0].Run("etcdctl", "--endpoints", endpoint(), "put", "/coreos.com/network/config",
		fmt.Sprintf(`{"Network":"10.100.0.0/16","Backend":{"Type":%q}}`, backend))
	for _, h := range f.hosts {
		h.keys = byFlannel
		f.startFlannel(h)
	}
	return f
}

// Containers on subnets that a real flannel gives out and carries.
func TestFlannel(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"vxlan", "host-gw"} {
		t.Run(backend, func(t *testing.T) {
			f := newFlannel(t, backend)
			var all []container
			for _, h := range f.hosts {
				all = append(all, h.attach("c1", 8080))
			}
			flat(t, all...)
			for i, h := range f.hosts {
				h.outside(all[i], 8080)
			}
			if backend == "vxlan" {
				f.withoutEtcd(all)
				f.comesBack(all)
			}
			for i, h := range f.hosts {
				h.detach(all[i])
			}
		})
	}
}

// withoutEtcd: containers go on talking, and new ones come, for flanneld has its subnet; a
// host that has lost that says so.
func (f *flannel) withoutEtcd(all []container) {
	t := f.t
	t.Helper()
	f.etcd.stop()
	flat(t, all...)
	second := f.hosts[1].attach("late", 0)
	flat(t, second, all[0])
	f.hosts[1].detach(second)

	last := f.hosts[2]
	before := last.Read(subnetFile)
	f.runs[2].stop()
	flat(t, all...) // routes and tunnel are the kernel's
	last.Sh("rm " + subnetFile)
	c, r := last.try("early", 0)
	if r.Exit == 0 || r.Code != 11 || !strings.Contains(r.Msg+r.Details, subnetFile) {
		t.Errorf("ADD without the subnet: exit %d: %s", r.Exit, r.Stdout)
	}
	last.detach(c)
	f.startEtcd()
	f.startFlannel(last)
	if after := last.Read(subnetFile); after != before {
		t.Errorf("host 3 had\n%sand has\n%s", before, after)
	}
	flat(t, all...)
}

// comesBack: a host is cut off and comes back; another one boots.
func (f *flannel) comesBack(all []container) {
	t := f.t
	t.Helper()
	f.hosts[1].leave(true)
	flat(t, all[0], all[2])
	f.hosts[1].leave(false)
	flat(t, all...)

	last := f.hosts[2] // all that a reboot leaves of it is its place in etcd
	last.detach(all[2])
	f.runs[2].stop()
	last.Sh("ip link del flannel.1; ip link del flatnet-br0; rm -r /run/flannel /run/flatnet; nft flush ruleset")
	flat(t, all[0], all[1])
	f.startFlannel(last)
	all[2] = last.attach("c2", 8080)
	flat(t, all...)
	last.outside(all[2], 8080)
}
