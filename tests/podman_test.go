package tests

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// debianPodman is the Podman of a Debian suite, with flatnet installed there, or
// skips the test.
func (b box) debianPodman(suite string) lab.Podman {
	b.t.Helper()
	podman, err := b.Debian(suite, root)
	if err != nil {
		b.t.Skipf("NO PODMAN OF DEBIAN %s TO TEST WITH: %v", suite, err)
	}
	return podman
}

// Podman 4.3 of Debian 12, the last Debian whose Podman has CNI, goes through
// its verbs, in the order in which a person would.
func TestPodman(t *testing.T) {
	podman := newBox(t).debianPodman("bookworm")
	if list := podman.Do("network", "ls", "--format", "{{.Name}} {{.Driver}}"); !strings.Contains(list, "flatnet flatnet") {
		t.Fatalf("podman network ls: %s", list)
	}
	for _, s := range []struct {
		name string
		run  func(pod)
	}{
		{"run: the seed's own test", pod.seed},
		{"several containers reach each other", pod.several},
		{"stop, start and restart", pod.restart},
		{"--ip and --mac-address", pod.wanted},
		{"an --ip that can't be had", pod.refusedIP},
		{"network reload", pod.reload},
		{"network connect and disconnect", pod.connect},
		{"rm -f of a container whose processes were killed", pod.killed},
	} {
		t.Run(s.name, func(t *testing.T) {
			p := newPod(t, podman)
			defer func() {
				p.Do("rm", "-fat0")
				p.clean()
			}()
			s.run(p)
		})
	}
}

// A pod is the world as that Podman sees it.
type pod struct {
	box
	lab.Podman
}

func newPod(t *testing.T, podman lab.Podman) pod {
	podman = podman.In(t)
	return pod{box{podman.World, t}, podman}
}

func (p pod) addr(name string) string { return p.Network(name, "flatnet", "IPAddress") }

func (p pod) ping(from, to string) {
	p.t.Helper()
	if err := p.PingFrom(from, to); err != nil {
		p.t.Error(err)
	}
}

func (p pod) seed() {
	p.Start("test1")
	addr := p.addr("test1")
	if !strings.HasPrefix(addr, "10.87.1.") {
		p.t.Errorf("inspect shows the address %q", addr)
	}
	if err := p.Ping(addr); err != nil {
		p.t.Error(err)
	}
	if out := p.Do("exec", "test1", "ip", "addr"); !strings.Contains(out, "inet "+addr+"/24") {
		p.t.Errorf("podman exec ip addr: %s", out)
	}
	for _, to := range []string{gateway, lab.OutsideAddr} {
		p.ping("test1", to)
	}
	if leases := p.leases(); len(leases) != 1 {
		p.t.Errorf("leases: %v", leases)
	}
}

func (p pod) several() {
	names := []string{"a", "b", "c"}
	for _, name := range names {
		p.Start(name)
	}
	for _, from := range names {
		for _, to := range names {
			p.ping(from, p.addr(to))
		}
	}
}

func (p pod) restart() {
	sameAgain(p.t, p.Podman, again{func(name string) { p.Start(name) }, p.addr, p.clean})
}

// An again is how sameAgain starts containers of a network and finds their addresses, and
// makes sure that stopped ones have nothing.
type again struct {
	start func(name string)
	addr  func(name string) string
	clean func()
}

// sameAgain starts containers, stops all, starts another one and then the last of them
// first, and restarts them: each has the addresses that it had at first.
func sameAgain(t *testing.T, p lab.Podman, c again) {
	t.Helper()
	had := map[string]string{}
	for _, name := range []string{"a", "b"} {
		c.start(name)
		had[name] = c.addr(name)
	}
	p.Do("stop", "-t0", "a", "b")
	c.clean()
	c.start("other")
	for _, verb := range []string{"start", "restart"} {
		for _, name := range []string{"b", "a"} {
			if p.Do(verb, name); c.addr(name) != had[name] || had[name] == "" {
				t.Errorf("%s had %q, and after %s %q", name, had[name], verb, c.addr(name))
			}
			v4, _, _ := strings.Cut(c.addr(name), " ")
			if err := p.World.Ping(v4); err != nil {
				t.Errorf("%s after %s: %v", name, verb, err)
			}
		}
	}
}

func (p pod) wanted() {
	p.Start("test1", "--ip", "10.87.1.77", "--mac-address", "02:aa:bb:cc:dd:01")
	if addr, mac := p.addr("test1"), p.Network("test1", "flatnet", "MacAddress"); addr != "10.87.1.77" || mac != "02:aa:bb:cc:dd:01" {
		p.t.Errorf("inspect shows %s and %s", addr, mac)
	}
	if err := p.Ping("10.87.1.77"); err != nil {
		p.t.Error(err)
	}
}

func (p pod) refusedIP() {
	p.Start("test1", "--ip", "10.87.1.77")
	for _, ip := range []string{"10.87.1.77", "10.88.0.7"} {
		_, err := p.Podman.Try("run", "--rm", "--network", "flatnet", "--ip", ip, lab.Image, "true")
		if err == nil || !strings.Contains(err.Error(), ip) {
			p.t.Errorf("--ip %s: %v", ip, err)
		}
	}
}

func (p pod) reload() {
	p.Start("test1")
	before := fmt.Sprint(p.addr("test1"), p.Network("test1", "flatnet", "MacAddress"))
	p.box.Run("nft", "flush", "ruleset")
	p.Do("network", "reload", "test1")
	if after := fmt.Sprint(p.addr("test1"), p.Network("test1", "flatnet", "MacAddress")); after != before {
		p.t.Errorf("reload made %s of %s", after, before)
	}
	p.ping("test1", lab.OutsideAddr)
}

func (p pod) connect() {
	p.Write("/etc/cni/net.d/88-second.conflist", `{"cniVersion":"1.0.0","name":"second","plugins":[
		{"type":"flatnet","bridge":"br2","ipam":{"type":"flatnet-ipam","subnet":"10.87.2.0/24"}}]}`)
	p.Start("test1")
	p.Do("network", "connect", "second", "test1")
	addr := p.Network("test1", "second", "IPAddress")
	if !strings.HasPrefix(addr, "10.87.2.") {
		p.t.Errorf("the second address is %q", addr)
	}
	if err := p.Ping(addr); err != nil {
		p.t.Error(err)
	}
	p.Do("network", "disconnect", "second", "test1")
	if out := p.Do("exec", "test1", "ip", "addr"); strings.Contains(out, addr) {
		p.t.Errorf("disconnected, and still %s", out)
	}
	if err := p.Ping(p.addr("test1")); err != nil {
		p.t.Errorf("the first network is hurt: %v", err)
	}
	p.box.Sh("rm /etc/cni/net.d/88-second.conflist; ip link del br2")
}

func (p pod) killed() {
	p.Start("test1")
	pids := strings.Fields(p.Do("inspect", "-f", "{{.State.ConmonPid}} {{.State.Pid}}", "test1"))
	p.box.Run(slices.Concat([]string{"kill", "-9"}, pids)...)
}
