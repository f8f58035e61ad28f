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

// A size is how much there is of each: long, and short for CI.
type size struct {
	workers, containers int
	time                time.Duration
	cycles              int
}

func stormSize() size {
	if long {
		return size{32, 200, time.Minute, 10_000}
	}
	return size{16, 80, 5 * time.Second, 150}
}

// otherConf is another network.
const otherConf = `{"cniVersion":"1.0.0","name":"other","type":"flatnet","bridge":"br9","ipam":{"type":"flatnet-ipam","subnet":"10.87.9.0/24"}}`

// Containers come and go in random order on two networks and through both
// doors, with CHECK, GC, STATUS, reload and flushes of all rules in between, and
// any of these may be killed. Nobody ever gets an address that another has, no
// container that was added loses anything, and at the end nothing is left.
func TestStorm(t *testing.T) {
	b := newBox(t)
	size := stormSize()
	s := storm{box: b, holders: map[string]string{}}
	for i := range size.containers {
		c := &stormed{
			id:       fmt.Sprintf("%08d-%d", i%(size.containers/2), i), // pairs with the same first 8 bytes
			conf:     []string{lab.Conf, otherConf}[i/2%2],
			netavark: i/4%2 == 1,
		}
		if i%8 == 0 {
			c.port = 20000 + i
		}
		b.Run("ip", "netns", "add", c.id)
		s.all = append(s.all, c)
	}
	for _, c := range []*stormed{s.all[0], s.all[2]} { // both networks stay as they are without containers
		s.add(c, 0)
		s.remove(c, 0)
	}
	before := s.everything()

	end := time.Now().Add(size.time)
	var workers sync.WaitGroup
	for i := range size.workers {
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
	if after := s.everything(); after != before {
		t.Errorf("after the storm %s", difference(before, after))
	}
	if s.adds == 0 || s.kills == 0 {
		t.Errorf("%d ADD and %d killed: nothing is shown", s.adds, s.kills)
	}
	t.Logf("%d ADD and setup, %d DEL and teardown, %d CHECK, %d GC and STATUS, %d reload, %d killed on the way",
		s.adds, s.dels, s.checks, s.gcs, s.reloads, s.kills)
}

// everything is the footprint with the other network's leases, mounts, files and
// inodes.
func (b box) everything() string {
	b.t.Helper()
	return b.footprint() + "\nother: " + fmt.Sprint(b.leasesIn(ipamDir+"/other/allocations.json")) + "\n" +
		b.Sh("echo mounts $(wc -l </proc/self/mountinfo); echo files $(find /var/lib/flatnet /run | wc -l); df --output=target,iused /run /var/lib/flatnet")
}

// A storm is one under way.
type storm struct {
	box
	all []*stormed

	// gc keeps ADD and DEL away from a GC that does not list all containers
	// there may be (SPEC 1.1.0, section 2, "Lifecycle & Ordering"), and from a
	// moment without rules.
	gc sync.RWMutex

	mu      sync.Mutex
	holders map[string]string // of each address, as far as it is known

	adds, dels, checks, gcs, reloads, kills int
}

// A stormed container is used by one worker at a time. result changes
// under the storm's gc.
type stormed struct {
	sync.Mutex
	id, conf string
	netavark bool       // its door
	port     int        // of the host; 0: none
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
	switch n := random.IntN(200); {
	case n < 1:
		s.sweep(c.conf)
	case n < 2:
		s.flush(c)
	case n < 5:
		s.collect(c.conf, s.all, after)
	case n < 8:
		s.reload(after)
	case n < 16:
		s.gc.RLock()
		s.verb("STATUS", c.conf, after)
		s.gc.RUnlock()
	case c.torn:
		s.remove(c, after)
	case c.result == nil:
		s.add(c, after)
	case n < 80:
		s.gc.RLock()
		s.check(c, after)
		s.gc.RUnlock()
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

// check is a CHECK with gc held; netavark has none.
func (s *storm) check(c *stormed, after time.Duration) {
	if c.netavark || c.result == nil {
		return
	}
	call := s.about("CHECK", c)
	call.Conf = lab.WithPrev(call.Conf, *c.result)
	if r := s.Call(program, call, killed(after)...); r.Exit != 0 && after == 0 {
		s.t.Errorf("CHECK %s: %s", c.id, r.Stdout)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checks++
}

// flush takes all rules away and brings them back.
func (s *storm) flush(c *stormed) {
	s.gc.Lock()
	defer s.gc.Unlock()
	s.Run("nft", "flush", "ruleset")
	s.reload(0)
	s.check(c, 0)
}

func (s *storm) reload(after time.Duration) {
	r := command("", "reload")(s.box, killed(after)...)
	// A DEL that was killed has removed the record, and not the link.
	if r.Exit != 0 && after == 0 && !strings.Contains(r.Msg, "no record of") {
		s.t.Errorf("reload: exit %d: %s", r.Exit, r.Msg)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reloads++
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
	conf := c.conf
	if c.port != 0 {
		conf = publish(conf, mapping(c.port, 80, ""))
	}
	return lab.Call{Command: command, ID: c.id, NetNS: "/run/netns/" + c.id, IfName: "eth0", Conf: conf}
}

// call adds or deletes a container through its door.
func (s *storm) call(verb string, c *stormed, after time.Duration) (r lab.Reply) {
	if c.netavark {
		r = s.plugin(verb, c, after)
	} else {
		r = s.Call(program, s.about(verb, c), killed(after)...)
	}
	if r.Exit > 128 || r.Exit < 0 {
		s.mu.Lock()
		s.kills++
		s.mu.Unlock()
	} else if r.Exit != 0 {
		s.t.Errorf("%s %s: exit %d: %s", verb, c.id, r.Exit, r.Stdout)
	}
	return r
}

// plugin is call by netavark, with the reply as CNI's.
func (s *storm) plugin(verb string, c *stormed, after time.Duration) lab.Reply {
	network, ports := `"name":"flatnet","network_interface":"flatnet-br0","subnets":[{"subnet":"10.87.1.0/24","gateway":"10.87.1.1"}]`, ""
	if c.conf == otherConf {
		network = `"name":"other","network_interface":"br9","subnets":[{"subnet":"10.87.9.0/24","gateway":"10.87.9.1"}]`
	}
	if c.port != 0 {
		ports = fmt.Sprintf(`{"container_port":80,"host_ip":"","host_port":%d,"protocol":"tcp","range":1}`, c.port)
	}
	stdin := fmt.Sprintf(`{"container_id":%q,"container_name":"x","port_mappings":[%s],"network":{%s,"driver":"flatnet"},"network_options":{"interface_name":"eth0"}}`,
		c.id, ports, network)
	door := map[string]string{"ADD": "setup", "DEL": "teardown"}[verb]
	r := command(stdin, door, "/run/netns/"+c.id)(s.box, killed(after)...)
	if r.Exit == 0 && verb == "ADD" {
		var status struct {
			Interfaces map[string]struct{ Subnets []struct{ IPNet string } }
		}
		fromJSON(s.t, r.Stdout, &status)
		for _, subnet := range status.Interfaces["eth0"].Subnets {
			r.IPs = append(r.IPs, lab.IP{Address: subnet.IPNet})
		}
	}
	return r
}

// Many ADDs and DELs one after the other leave the kernel as it was.
func TestCyclesLeaveTheKernelAsItWas(t *testing.T) {
	b := newBox(t)
	cycles := stormSize().cycles
	b.attach("n1", like(dual)) // so that rules stay, too
	c := b.attach("c1", like(ported))
	b.do(c.then("DEL"))
	began, before, memory := time.Now(), b.kernel(), slab(t)
	for i := range cycles {
		c.add.Conf = dual
		if i%10 == 0 {
			c.add.Conf = ported
		}
		b.do(c.add)
		b.do(call("DEL", "c1"))
	}
	took := time.Since(began)
	if after := b.kernel(); after != before {
		t.Errorf("after %d cycles %s", cycles, difference(before, after))
	}
	grown := slab(t) - memory
	if long && grown > 4*cycles { // others on the machine use some, too
		t.Errorf("the kernel's memory grew by %d KiB in %d cycles", grown, cycles)
	}
	t.Logf("%d cycles in %v; unreclaimable kernel memory of the whole machine: %d KiB before, %+d KiB after", cycles, took.Round(time.Second), memory, grown)
}

// kernel is what a world's kernel holds, and the files that flatnet has.
func (b box) kernel() string {
	b.t.Helper()
	return b.everything() + b.Sh(`ip -4 -o addr; ip -o link | cut -d ' ' -f 2; ip -4 route show table all; ip -6 route show table all | grep -v fe80; ip rule; ip -6 rule
		bridge fdb show dev flatnet-br0 | grep -v 33:33 | sort; tc qdisc
		ls -A /var/lib/flatnet/ipam; echo netlink sockets $(wc -l </proc/net/netlink); set -- /proc/[0-9]*; echo processes $#`)
}

// slab is the memory of the kernel's own objects in KiB, but for caches
// (proc_meminfo(5)).
func slab(t *testing.T) (kib int) {
	t.Helper()
	content, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(content), "\nSUnreclaim:")
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatalf("SUnreclaim in /proc/meminfo: %v", err)
	}
	return kib
}
