package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// factLimits are the goals for facts.
var factLimits = map[string]float64{
	"10,001 tcp ports, ADD": 1000, "10,001 tcp ports, DEL": 1000, "10,001 udp ports, ADD": 1000, "10,001 udp ports, DEL": 1000,
	"DEL without ports beside 15,000 of others / beside none": 1.1,
	"reload after a flush":                   1000,
	"GC of half / deletion of as many links": 1.2,
	"max RSS of reload":                      20, "max RSS of GC": 20,
}

// measurePorts measures flatnet with many ports and many containers.
func measurePorts(w world, r *report) error {
	flatnet := w.rival(flatnetCNI)
	for _, protocol := range []string{"tcp", "udp"} {
		if err := flatnet.range10001(r, protocol); err != nil {
			return err
		}
	}
	if err := flatnet.beside(r, w.pick(5, 25)); err != nil {
		return err
	}
	return flatnet.thousand(r, w.pick(100, 1000))
}

func (r *report) fact(name string, value float64, unit string) {
	r.Ports = append(r.Ports, fact{name, value, unit})
}

// span is consecutive ports.
func span(first, n int, protocol string) []port {
	all := make([]port, n)
	for i := range all {
		all[i] = port{Host: first + i, Container: first + i, Protocol: protocol}
	}
	return all
}

// range10001 publishes 10,001 ports by one container.
func (v rival) range10001(r *report, protocol string) error {
	host := "range" + protocol
	if err := newHost(host); err != nil {
		return err
	}
	c, err := newContainer(host, 0)
	if err != nil {
		return err
	}
	c.ports = span(10000, 10001, protocol)
	add, err := v.attach(c)
	if err != nil {
		return err
	}
	del, err := v.detach(c)
	r.fact("10,001 "+protocol+" ports, ADD", add.MS, "ms")
	r.fact("10,001 "+protocol+" ports, DEL", del.MS, "ms")
	return err
}

// beside measures a container with no ports beside none, 15,000 and 30,000
// ports of others.
func (v rival) beside(r *report, n int) error {
	const host = "beside"
	if err := newHost(host); err != nil {
		return err
	}
	var alone float64
	for i := range 3 {
		c, err := newContainer(host, i)
		if err != nil {
			return err
		}
		if i > 0 {
			c.ports = span(i*15000, 15000, "tcp")
		}
		if _, err := v.attach(c); err != nil {
			return err
		}
		var adds, dels []sample
		for round := range n {
			add, del, err := v.again(host, 1000+100*i+round, false)
			if err != nil {
				return err
			}
			adds, dels = append(adds, add), append(dels, del)
		}
		r.fact(fmt.Sprintf("ADD without ports beside %d ports of others", i*15000), middle(adds), "ms")
		r.fact(fmt.Sprintf("DEL without ports beside %d ports of others", i*15000), middle(dels), "ms")
		switch i {
		case 0:
			alone = middle(dels)
		case 1:
			r.fact("DEL without ports beside 15,000 of others / beside none", ratio(middle(dels), alone), "x")
		}
	}
	return nil
}

// thousand measures reload and GC with n containers of two ports each. All are
// in one namespace: it is the host's side that matters.
func (v rival) thousand(r *report, n int) error {
	const host = "thousand"
	if err := newHost(host); err != nil {
		return err
	}
	all, err := newContainer(host, 0)
	if err != nil {
		return err
	}
	var containers []container
	var keep []string
	for i := range n {
		c := container{id: "t" + strconv.Itoa(i), host: host, netns: all.netns, ifname: "eth" + strconv.Itoa(i)}
		c.ports = []port{{Host: 10000 + 2*i, Container: 80, Protocol: "tcp"}, {Host: 10001 + 2*i, Container: 81, Protocol: "udp"}}
		containers = append(containers, c)
		if i < n/2 {
			keep = append(keep, fmt.Sprintf(`{"containerID":%q,"ifname":%q}`, c.id, c.ifname))
		}
	}
	for some := range slices.Chunk(containers, atOnce) {
		if _, err := together(some, v.attach); err != nil {
			return err
		}
	}
	r.fact("containers with two ports each", float64(n), "")
	if err := in(host, func() error { return sh("nft flush ruleset") }); err != nil {
		return err
	}
	reload, err := v.big(host, step{args: []string{v.Program, "reload"}})
	if err != nil {
		return err
	}
	r.fact("reload after a flush", reload.MS, "ms")
	r.fact("max RSS of reload", reload.MB, "MB")
	conf := with(strings.Replace(v.Conf, "1.0.0", "1.1.0", 1), `"cni.dev/valid-attachments":[`+strings.Join(keep, ",")+`]`)
	gc, err := v.big(host, step{args: []string{v.Program}, env: []string{"CNI_COMMAND=GC", "CNI_PATH=/usr/lib/cni"}, stdin: conf})
	if err != nil {
		return err
	}
	links, group, err := deletion(n - n/2)
	if err != nil {
		return err
	}
	r.fact("GC of half", gc.MS, "ms")
	r.fact("max RSS of GC", gc.MB, "MB")
	r.fact("deletion of as many links", links, "ms")
	r.fact("deletion of as many links by one request", group, "ms")
	r.fact("GC of half / deletion of as many links", ratio(gc.MS, links), "x")
	return nil
}

// A bigSample is a call whose memory was measured, too.
type bigSample struct{ MS, MB float64 }

func (v rival) big(host string, s step) (bigSample, error) {
	const usage = "/run/io/usage"
	took, _, err := v.run(container{id: "big", host: host}, s, []string{"/usr/bin/time", "-o", usage, "-f", "%M"})
	if err != nil {
		return bigSample{}, err
	}
	text, err := os.ReadFile(usage)
	if err != nil {
		return bigSample{}, err
	}
	kib, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return bigSample{took.MS, float64(kib) / 1024}, err
}

// deletion is how long the kernel takes to delete n veth pairs on a bridge, one
// after the other (ip's batch, which waits for each), and all by one request.
func deletion(n int) (single, group float64, err error) {
	const host, peer = "deletion", "deletionpeer"
	if err := newHost(host); err != nil {
		return 0, 0, err
	}
	if err := newNetNS(peer); err != nil {
		return 0, 0, err
	}
	const bridge = "link add br0 type bridge\nlink set br0 up\n"
	create, remove, grouped := bridge, "", ""
	for i := range n {
		create += fmt.Sprintf("link add v%d type veth peer name eth%d netns %s\nlink set v%d master br0 up\n", i, i, peer, i)
		remove += fmt.Sprintf("link del v%d\n", i)
		grouped += fmt.Sprintf("link set v%d group 7\n", i)
	}
	batch := func(lines string) (float64, error) {
		begin := time.Now()
		err := in(host, func() error {
			cmd := exec.Command("ip", "-batch", "-")
			cmd.Stdin = strings.NewReader(lines)
			out, err := cmd.CombinedOutput()
			if err != nil {
				err = fmt.Errorf("ip -batch: %w: %s", err, out)
			}
			return err
		})
		return float64(time.Since(begin).Microseconds()) / 1000, err
	}
	if _, err := batch(create); err != nil {
		return 0, 0, err
	}
	if single, err = batch(remove); err != nil {
		return 0, 0, err
	}
	links := strings.TrimPrefix(create, bridge)
	if _, err := batch(links + grouped); err != nil {
		return 0, 0, err
	}
	group, err = batch("link del group 7\n")
	return single, group, err
}
