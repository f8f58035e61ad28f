package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A flow is how fast bytes go from one place to another.
type flow struct {
	Rival, Way string
	Rate, Trip []float64 // Gbit/s and microseconds, by round
}

const (
	toHost    = "container to host"
	toSibling = "container to container"
	toPort    = "outside to published port"
)

var ways = []string{toHost, toSibling, toPort}

// A site is a rival's host with two containers and an outside, to send between.
type site struct {
	name, host, outside string
	containers          [2]string // namespaces
	gateway, sibling    string    // addresses
	ports               bool
}

// measurePath sends over every rival's network, in turn.
func measurePath(w world, r *report) error {
	var sites []site
	for i, rival := range w.rivals() {
		switch rival.Name {
		case flatnetCNI, "bridge 1.9.1, iptables", "bridge 1.9.1, nftables", "netavark, nftables":
			s, err := rival.site(fmt.Sprint("site", i))
			if err != nil {
				return err
			}
			sites = append(sites, s)
		}
	}
	for _, queues := range []string{"", "numtxqueues 1 numrxqueues 1"} {
		s, err := plain(fmt.Sprint("plain", len(queues)), queues)
		if err != nil {
			return err
		}
		sites = append(sites, s)
	}
	// Many short samples, those that are compared right after each other, and each site
	// first in turn: how fast the machine is changes from second to second.
	for round := range w.pick(3, 31) {
		for _, way := range ways {
			for i := range sites {
				s := sites[(round+i)%len(sites)]
				if way == toPort && !s.ports {
					continue
				}
				if err := s.measure(r, way, 100*time.Millisecond); err != nil {
					return fmt.Errorf("%s, %s: %w", s.name, way, err)
				}
			}
		}
	}
	return nil
}

// uplink connects a host to a namespace that plays the outside.
func uplink(host string) error {
	if err := newHost(host); err != nil {
		return err
	}
	if err := newHost(host + "out"); err != nil {
		return err
	}
	return in(host, func() error {
		return sh("ip link add up0 type veth peer name eth0 netns " + host + "out && ip addr add 192.0.2.1/24 dev up0 && ip link set up0 up && " +
			"ip -n " + host + "out addr add 192.0.2.2/24 dev eth0 && ip -n " + host + "out link set eth0 up && ip route add default via 192.0.2.2")
	})
}

// site attaches two containers, of which the second one has a published port.
func (r rival) site(host string) (site, error) {
	s := site{name: r.Name, host: host, outside: host + "out", ports: true}
	if err := uplink(host); err != nil {
		return s, err
	}
	for i := range s.containers {
		c, err := newContainer(host, i)
		if err != nil {
			return s, err
		}
		if i == 1 {
			c.ports = []port{{Host: 8080, Container: 5001, Protocol: "tcp"}, {Host: 8081, Container: 5002, Protocol: "tcp"}}
		}
		if _, err := r.attach(c); err != nil {
			return s, err
		}
		s.containers[i] = c.netns
	}
	var err error
	if s.sibling, err = address(s.containers[1]); err != nil {
		return s, err
	}
	s.gateway, err = gateway(s.containers[0])
	return s, err
}

// plain is what the kernel alone does: two veth pairs on a bridge.
func plain(host, queues string) (site, error) {
	s := site{name: "bridge and veth by hand, default queues", host: host, gateway: "10.91.0.1", sibling: "10.91.0.3"}
	if queues != "" {
		s.name = "bridge and veth by hand, one queue"
	}
	if err := newHost(host); err != nil {
		return s, err
	}
	script := "ip link add br0 type bridge && ip addr add 10.91.0.1/16 dev br0 && ip link set br0 up"
	for i := range s.containers {
		s.containers[i] = fmt.Sprint(host, "c", i)
		if err := newHost(s.containers[i]); err != nil {
			return s, err
		}
		script += fmt.Sprintf("\nip link add v%d %s type veth peer name eth0 %s netns %s\nip link set v%d master br0 up\n"+
			"ip -n %s addr add 10.91.0.%d/16 dev eth0\nip -n %s link set eth0 up", i, queues, queues, s.containers[i], i, s.containers[i], i+2, s.containers[i])
	}
	return s, in(host, func() error { return sh(script) })
}

// address is the IPv4 address of a container's eth0.
func address(netns string) (string, error) {
	var found string
	err := in(netns, func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		addrs, err := link.Addrs()
		for _, a := range addrs {
			if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil {
				found = ip.IP.String()
			}
		}
		return err
	})
	if found == "" && err == nil {
		err = errors.New("eth0 has no address")
	}
	return found, err
}

// gateway is where a container's default route leads.
func gateway(netns string) (string, error) {
	var found string
	err := in(netns, func() error {
		found = output("sh", "-c", "ip route show default | sed 's/.*via \\([0-9.]*\\).*/\\1/'")
		return nil
	})
	if err == nil && strings.Count(found, ".") != 3 {
		err = fmt.Errorf("no default route: %q", found)
	}
	return found, err
}

// measure sends in one way and adds the result to the report.
func (s site) measure(r *report, way string, long time.Duration) error {
	from, to, host := s.containers[0], s.containers[1], s.sibling
	rate, trip := "5001", "5002"
	switch way {
	case toHost:
		to, host = s.host, s.gateway
	case toPort:
		from, host = s.outside, "192.0.2.1"
		rate, trip = "8080", "8081"
	}
	gbits, err := stream(from, to, net.JoinHostPort(host, rate), long)
	if err != nil {
		return err
	}
	us, err := pingPong(from, to, net.JoinHostPort(host, trip), long)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(r.Path, func(f flow) bool { return f.Rival == s.name && f.Way == way })
	if i < 0 {
		i = len(r.Path)
		r.Path = append(r.Path, flow{Rival: s.name, Way: way})
	}
	r.Path[i].Rate, r.Path[i].Trip = append(r.Path[i].Rate, gbits), append(r.Path[i].Trip, us)
	return nil
}

// connect makes a TCP connection between two namespaces of this process.
func connect(from, to, addr, listen string) (client, server net.Conn, err error) {
	var l net.Listener
	if err := in(to, func() (err error) { l, err = net.Listen("tcp4", listen); return err }); err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if err := in(from, func() (err error) { client, err = net.DialTimeout("tcp4", addr, 5*time.Second); return err }); err != nil {
		return nil, nil, err
	}
	server, err = l.Accept()
	if err != nil {
		client.Close()
	}
	return client, server, err
}

// warmUp is how long a stream runs before it counts: TCP starts slowly.
const warmUp = 50 * time.Millisecond

// blocking is a connection's descriptor for system calls that block: Go's own wait for
// readiness would be a part of each round trip.
func blocking(c net.Conn) (*os.File, int, error) {
	defer c.Close()
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		return nil, 0, err
	}
	return f, int(f.Fd()), nil // Fd makes it block
}

// pair are both ends of a connection, as blocking descriptors.
func pair(from, to, addr, listen string) (client, server int, done func(), err error) {
	c, s, err := connect(from, to, addr, listen)
	if err != nil {
		return 0, 0, nil, err
	}
	cf, client, cerr := blocking(c)
	sf, server, serr := blocking(s)
	if err := errors.Join(cerr, serr); err != nil {
		return 0, 0, nil, err
	}
	return client, server, func() { cf.Close(); sf.Close() }, nil
}

// stream returns how many Gbit/s arrive.
func stream(from, to, addr string, long time.Duration) (float64, error) {
	client, server, done, err := pair(from, to, addr, ":5001")
	if err != nil {
		return 0, err
	}
	defer done()
	begin := time.Now()
	var rate float64
	err = both(1, func() (err error) {
		b := make([]byte, 128<<10)
		for err == nil && time.Since(begin) < warmUp+long {
			_, err = unix.Write(client, b)
		}
		return errors.Join(err, unix.Shutdown(client, unix.SHUT_WR))
	}, func() error {
		b, n := make([]byte, 128<<10), 0
		var first time.Time
		for {
			got, err := unix.Read(server, b)
			switch {
			case err != nil:
				return err
			case got == 0 && n == 0:
				return errors.New("nothing arrived")
			case got == 0:
				rate = float64(n) * 8 / time.Since(first).Seconds() / 1e9
				return nil
			case first.IsZero() && time.Since(begin) >= warmUp:
				first = time.Now()
			case !first.IsZero():
				n += got
			}
		}
	})
	return rate, err
}

// both runs the two ends, the server's on the given processor and the client's on the first
// one: where the scheduler would put them differs from run to run by more than what is
// compared. A stream has two, and a round trip one, since the time in which one processor
// wakes another one is several times as long as the way of the packets.
func both(serverCPU int, client, server func() error) error {
	done := make(chan error)
	for i, f := range []func() error{client, server} {
		go func() {
			runtime.LockOSThread() // and the thread ends with f
			var one unix.CPUSet
			one.Set(i * serverCPU % runtime.NumCPU())
			done <- errors.Join(unix.SchedSetaffinity(0, &one), f())
		}()
	}
	return errors.Join(<-done, <-done)
}

// pingPong returns how many microseconds one byte takes to and fro.
func pingPong(from, to, addr string, long time.Duration) (float64, error) {
	client, server, done, err := pair(from, to, addr, ":5002")
	if err != nil {
		return 0, err
	}
	defer done()
	var took float64
	err = both(0, func() error {
		begin, trips, b := time.Now(), 0, make([]byte, 1)
		for ; time.Since(begin) < long; trips++ {
			if _, err := unix.Write(client, b); err != nil {
				return err
			}
			if n, err := unix.Read(client, b); err != nil || n == 0 {
				return errors.Join(errors.New("no echo"), err)
			}
		}
		took = float64(time.Since(begin).Nanoseconds()) / 1000 / float64(trips)
		return unix.Shutdown(client, unix.SHUT_WR)
	}, func() error {
		b := make([]byte, 1)
		for {
			n, err := unix.Read(server, b)
			if err == nil && n > 0 {
				_, err = unix.Write(server, b)
			}
			if err != nil || n == 0 {
				return errors.Join(err, unix.Shutdown(server, unix.SHUT_WR))
			}
		}
	})
	return took, err
}

// noise is what the goals of the data path leave to it: of two equal networks one is
// always the slower one.
const noise = 1.05

// pathGoals: flatnet is not slower than any other. What is compared is the median of the
// rounds' ratios, since the samples of one round are taken at the same time.
func (r report) pathGoals() []goal {
	var all []goal
	for _, own := range r.Path {
		if own.Rival != flatnetCNI {
			continue
		}
		for _, f := range r.Path {
			if f.Way == own.Way && f.Rival != flatnetCNI {
				all = append(all, goal{"throughput, " + f.Way + ": " + f.Rival + " / flatnet", pairwise(f.Rate, own.Rate), noise},
					goal{"round trip, " + f.Way + ": flatnet / " + f.Rival, pairwise(own.Trip, f.Trip), noise})
			}
		}
	}
	return all
}

// pairwise is the median of a / b.
func pairwise(a, b []float64) float64 {
	var all []float64
	for i := range min(len(a), len(b)) {
		all = append(all, ratio(a[i], b[i]))
	}
	slices.Sort(all)
	return median(all)
}
