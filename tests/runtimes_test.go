package tests

import (
	"os/exec"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// pingOutside is a shell command: echo requests until one is answered.
const pingOutside = "for i in 1 2 3 4 5 6 7 8 9; do ping -c 1 -W 1 " + lab.OutsideAddr + " && exit; done; exit 1"

// ctr run --cni of Debian's containerd, with a list of plugins as nerdctl and
// others would write it.
func TestContainerd(t *testing.T) {
	if _, err := exec.LookPath("containerd"); err != nil {
		t.Skipf("needs containerd: apt-get install containerd: %v", err)
	}
	b := newBox(t)
	b.Sh("mount -t tmpfs t /opt; mkdir -p /opt/cni/bin /etc/cni/net.d /run/rootfs/bin; cp " + plugins + "/* /opt/cni/bin/")
	b.Run("cp", program, "/opt/cni/bin/flatnet")
	b.Sh("cp $(command -v busybox) /run/rootfs/bin/busybox; for a in sh sleep ping ip; do ln -s busybox /run/rootfs/bin/$a; done")
	b.Write("/etc/cni/net.d/10-flatnet.conflist", chain(firewall, idle))
	b.Write("/run/containerd.toml", `version = 2
root = "/var/lib/containers/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "/run/containerd/containerd.sock"
`)
	b.background(b.Place, "containerd", "-c", "/run/containerd.toml", "-l", "warn")
	b.Sh("timeout 20 sh -c 'until ctr version >/dev/null 2>&1; do sleep 0.05; done'")
	run := b.Cmd("ctr", "run", "--annotation", "nerdctl/name=web", "--cni", "--rm", "--runc-binary", "runc", "--cgroup", "/flatnet-lab-ctr", "--rootfs", "/run/rootfs", "c1", "/bin/sh", "-c", "sleep 1000")
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	b.Sh("timeout 20 sh -c 'until ctr task ls | grep -q RUNNING; do sleep 0.05; done'")
	addrs := b.leases()
	if len(addrs) != 1 {
		t.Fatalf("leases are %v", addrs)
	}
	for _, addr := range addrs {
		if err := b.Ping(addr); err != nil {
			t.Error(err)
		}
		if out := b.Run("ctr", "task", "exec", "--exec-id", "e1", "c1", "/bin/ip", "-4", "addr"); !strings.Contains(out, addr+"/24") {
			t.Errorf("the container has %s", out)
		}
	}
	if out := b.Run(program, "list"); !strings.Contains(out, "default-c1  web ") {
		t.Errorf("list does not name the container: %s", out)
	}
	b.Run("ctr", "task", "exec", "--exec-id", "e2", "c1", "/bin/sh", "-c", pingOutside)
	b.Run("ctr", "task", "kill", "-s", "KILL", "c1")
	run.Wait() // with the status of what was killed
	b.nothingOf(container{addr: "10.87.1."})
}

// buildah run attaches each step of a build, and detaches it again.
func TestBuildah(t *testing.T) {
	p := newPod(t, newBox(t).debianPodman("bookworm"))
	p.Write("/etc/cni/net.d/87-flatnet.conflist", chain(portmap, firewall, idle))
	name := strings.TrimSpace(p.box.Run("buildah", "from", "--pull-never", lab.Image))
	for range 2 {
		out := p.box.Run("buildah", "run", "--isolation", "oci", "--runtime", "runc", "--cap-add", "CAP_NET_RAW", "--network", "flatnet", name, "--",
			"/bin/sh", "-c", "ip -4 addr show dev eth0; "+pingOutside)
		if !strings.Contains(out, "inet 10.87.1.") || !strings.Contains(out, "1 packets received") {
			t.Errorf("the step says %s", out)
		}
		p.nothingOf(container{addr: "10.87.1."})
	}
	p.box.Run("buildah", "rm", name)
}
