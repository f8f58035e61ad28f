//go:build long

package tests

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"flatnet/tests/lab"
)

// How large a storm is: long, and short for CI.
const (
	stormWorkers    = 32
	stormContainers = 200
	longStorm       = 60 * time.Second
	shortStorm      = 10 * time.Second
	longCycles      = 10_000
	shortCycles     = 300
)

// otherConf is another network.
const otherConf = `{"cniVersion":"1.0.0","name":"other","type":"flatnet","bridge":"br9","ipam":{"type":"flatnet-ipam","subnet":"10.87.9.0/24"}}`

// Containers come and go in random order on two networks, with CHECK, GC and
// STATUS in between, and any of these may be killed. Nobody ever gets an
// address that another has, no container that was added loses anything, and at
// the end nothing is left.
func TestStorm(t *testing.T) {
	b := newBox(t)
	s := storm{box: b, holders: map[string]string{}}
	for i := range stormContainers {
		id := fmt.Sprintf("%08d-%d", i%100, i) // pairs with the same first 8 bytes
		b.Run("ip", "netns", "add", id)
		s.all = append(s.all, &stormed{id: id, conf: []string{lab.Conf, otherConf}[i/2%2]})
	}
	for _, c := range []*stormed{s.all[0], s.all[2]} { // both networks stay as they are without containers
		b.do(s.about("ADD", c))
		b.do(s.about("DEL", c))
	}
	before, mounts := b.footprint(), b.Run("wc", "-l", "/proc/self/mountinfo")
	files := b.Sh("find /var/lib/flatnet /run | wc -l")

	end := time.Now().Add(shortStorm)
	if long {
		end = time.Now().Add(longStorm)
	}
	var workers sync.WaitGroup
	for i := range stormWorkers {
		workers.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 87))
			for time.Now().Before(end) && !t.Failed() {
				s.step(random)
			}
		})
	}
	workers.Wait()
	for _, c := range s.all {
		s.remove(c, 0)
	}
	if after := b.footprint(); after != before {
		t.Errorf("after the storm %s", difference(before, after))
	}
	if now := b.Run("wc", "-l", "/proc/self/mountinfo"); now != mounts {
		t.Errorf("mounts: %s before, %s after", mounts, now)
	}
	if now := b.Sh("find /var/lib/flatnet /run | wc -l"); now != files {
		t.Errorf("files: %s before, %s after", files, now)
	}
	t.Logf("%d ADD, %d DEL, %d CHECK, %d GC and STATUS, %d killed on the way", s.adds, s.dels, s.checks, s.gcs, s.kills)
}

// A storm is one under way.
type storm struct {
	box
	all []*stormed

	// gc keeps ADD and DEL away from a GC that does not list all containers
	// there may be (SPEC 1.1.0, section 2, "Lifecycle & Ordering").
	gc sync.RWMutex

	mu      sync.Mutex
	holders map[string]string // of each address, as far as it is known

	adds, dels, checks, gcs, kills int
}

// A stormed container is used by one worker at a time. result changes
// under the storm's gc.
type stormed struct {
	sync.Mutex
	id, conf string
	result   *lab.Reply // of an ADD that was reported, and not followed by a DEL
	torn     bool       // its last ADD or DEL was killed
}

// killed is the wrapper that kills a call after a random time; zero: never.
func killed(after time.Duration) []string {
	if after == 0 {
		return nil
	}
	return []string{"timeout", "-s", "KILL", fmt.Sprintf("%.4f", after.Seconds())}
}

func (s *storm) step(random *rand.Rand) {
	c := s.all[random.IntN(len(s.all))]
	if !c.TryLock() {
		return
	}
	defer c.Unlock()
	after := time.Duration(0)
	if random.IntN(8) == 0 {
		after = time.Duration(1+random.IntN(40)) * time.Millisecond
	}
	switch n := random.IntN(100); {
	case n < 2:
		s.sweep(c.conf)
	case n < 4:
		s.collect(c.conf, s.all, after)
	case n < 10:
		s.verb("STATUS", c.conf, after)
	case c.torn:
		s.remove(c, after)
	case c.result == nil:
		s.add(c, after)
	case n < 40:
		s.check(c, after)
	default:
		s.remove(c, after)
	}
}

func (s *storm) add(c *stormed, after time.Duration) {
	s.gc.RLock()
	defer s.gc.RUnlock()
	r := s.call("ADD", c, after)
	if r.Exit != 0 {
		c.torn = true
		return
	}
	c.result = &r
	s.mu.Lock()
	defer s.mu.Unlock()
	s.adds++
	if holder := s.holders[r.Addr()]; holder != "" {
		s.t.Errorf("%s got %s, which %s has", c.id, r.Addr(), holder)
	}
	s.holders[r.Addr()] = c.id
}

// remove detaches the container.
func (s *storm) remove(c *stormed, after time.Duration) {
	s.gc.RLock()
	defer s.gc.RUnlock()
	if c.result != nil {
		s.mu.Lock()
		delete(s.holders, c.result.Addr())
		s.mu.Unlock()
		c.result = nil
	}
	c.torn = s.call("DEL", c, after).Exit != 0
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dels++
}

func (s *storm) check(c *stormed, after time.Duration) {
	call := s.about("CHECK", c)
	call.Conf = lab.WithPrev(c.conf, *c.result)
	if r := s.Call(program, call, killed(after)...); r.Exit != 0 && after == 0 {
		s.t.Errorf("CHECK %s: %s", c.id, r.Stdout)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checks++
}

// sweep is a GC that lists who is attached. It takes what killed calls left.
func (s *storm) sweep(conf string) {
	s.gc.Lock()
	defer s.gc.Unlock()
	var attached []*stormed
	for _, c := range s.all {
		if c.conf == conf && c.result != nil {
			attached = append(attached, c)
		}
	}
	s.collect(conf, attached, 0)
	if conf != lab.Conf {
		return
	}
	leases := s.leases()
	for _, c := range attached {
		if leases[c.id] != c.result.Addr() {
			s.t.Errorf("after GC the lease of %s is %q and not %s", c.id, leases[c.id], c.result.Addr())
		}
	}
	if len(leases) != len(attached) {
		s.t.Errorf("after GC there are %d leases of %d containers", len(leases), len(attached))
	}
}

// collect is a GC that lists these containers.
func (s *storm) collect(conf string, valid []*stormed, after time.Duration) {
	keys := make([]string, len(valid))
	for i, c := range valid {
		keys[i] = fmt.Sprintf(`{"containerID":%q,"ifname":"eth0"}`, c.id)
	}
	s.verb("GC", strings.TrimSuffix(conf, "}")+`,"cni.dev/valid-attachments":[`+strings.Join(keys, ",")+"]}", after)
}

// verb is a call about no container.
func (s *storm) verb(command, conf string, after time.Duration) {
	conf = strings.Replace(conf, `"1.0.0"`, `"1.1.0"`, 1)
	if r := s.Call(program, lab.Call{Command: command, Conf: conf}, killed(after)...); r.Exit != 0 && after == 0 {
		s.t.Errorf("%s: %s", command, r.Stdout)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gcs++
}

func (s *storm) about(command string, c *stormed) lab.Call {
	return lab.Call{Command: command, ID: c.id, NetNS: "/run/netns/" + c.id, IfName: "eth0", Conf: c.conf}
}

func (s *storm) call(command string, c *stormed, after time.Duration) lab.Reply {
	r := s.Call(program, s.about(command, c), killed(after)...)
	if r.Exit > 128 || r.Exit < 0 {
		s.mu.Lock()
		s.kills++
		s.mu.Unlock()
	} else if r.Exit != 0 {
		s.t.Errorf("%s %s: exit %d: %s", command, c.id, r.Exit, r.Stdout)
	}
	return r
}

// Many ADDs and DELs one after the other leave the kernel as it was.
func TestCyclesLeaveTheKernelAsItWas(t *testing.T) {
	b := newBox(t)
	cycles := shortCycles
	if long {
		cycles = longCycles
	}
	b.attach("n1") // so that rules stay, too
	c := b.attach("c1")
	b.do(c.then("DEL"))
	began, before, memory := time.Now(), b.kernel(), slab(t)
	for range cycles {
		b.do(c.add)
		b.do(call("DEL", "c1"))
	}
	took := time.Since(began)
	if after := b.kernel(); after != before {
		t.Errorf("after %d cycles %s", cycles, difference(before, after))
	}
	t.Logf("%d cycles in %v; kernel memory of the whole machine: %d KiB before, %d KiB after", cycles, took.Round(time.Second), memory, slab(t))
}

// kernel is what a world's kernel holds, and the files that flatnet has.
func (b box) kernel() string {
	b.t.Helper()
	return b.Sh(`ip -4 -br addr; ip -br link; ip -4 route show table all; ip -6 route show table all | grep -v fe80; ip rule; bridge fdb show dynamic 2>/dev/null | sort
		nft -a list ruleset; cat /proc/net/netlink | wc -l; ls -A /var/lib/flatnet/ipam; cat /proc/self/mountinfo | wc -l; ls /proc | grep -c '^[0-9]'`)
}

// slab is the memory of the kernel's own objects in KiB (proc_meminfo(5)).
func slab(t *testing.T) (kib int) {
	t.Helper()
	content, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(content), "\nSlab:")
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatalf("Slab in /proc/meminfo: %v", err)
	}
	return kib
}
