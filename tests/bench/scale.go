package main

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// A point is what was measured at a number of containers, or of calls at once, sorted.
type point struct {
	Rival    string
	N        int
	Ports    bool
	Add, Del []float64 // ms
}

// slowRounds is how often the rivals are measured that take ten times as long as the
// others. The ratios to them need no more.
const slowRounds = 5

// atOnce is how many ADDs fill a host at the same time.
const atOnce = 8

// A scaled is a rival with a host of its own, that is filled with containers.
type scaled struct {
	rival
	host   string
	ports  bool
	filled int
}

// scale measures another container's ADD and DEL beside as many others as each level
// says, n times. The slow rivals stop at 100 containers.
func scale(rivals []rival, levels []int, n int, ports bool) ([]point, error) {
	var points []point
	var all []*scaled
	for i, r := range rivals {
		if ports && r.NoPorts {
			continue
		}
		s := &scaled{rival: r, host: fmt.Sprintf("scale%d%v", i, ports), ports: ports}
		if err := newHost(s.host); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	for _, level := range levels {
		if level > 100 {
			all = slices.DeleteFunc(all, func(s *scaled) bool { return s.Slow })
		}
		more, err := atLevel(all, level, n)
		if err != nil {
			return nil, err
		}
		points = append(points, more...)
	}
	return points, nil
}

// atLevel fills all hosts and measures them in turn.
func atLevel(all []*scaled, level, n int) ([]point, error) {
	points := make([]point, len(all))
	for i, s := range all {
		points[i] = point{Rival: s.Name, N: level, Ports: s.ports}
		if err := s.fill(level); err != nil {
			return nil, err
		}
	}
	for round := range n {
		for i, s := range all {
			if s.Slow && round >= slowRounds {
				continue
			}
			add, del, err := s.again(s.host, 10000+level*30+round, s.ports)
			if err != nil {
				return nil, err
			}
			points[i].Add, points[i].Del = append(points[i].Add, add.MS), append(points[i].Del, del.MS)
		}
	}
	for _, p := range points {
		slices.Sort(p.Add)
		slices.Sort(p.Del)
	}
	return points, nil
}

// fill attaches containers, some at once, until the host has as many as the level says.
// The first one is alone, since it makes the bridge.
func (s *scaled) fill(level int) error {
	for s.filled < level {
		batch := make([]container, min(level-s.filled, atOnce))
		if s.filled == 0 {
			batch = batch[:1]
		}
		for i := range batch {
			var err error
			if batch[i], err = numbered(s.host, s.filled, s.ports); err != nil {
				return err
			}
			s.filled++
		}
		if _, err := together(batch, s.attach); err != nil {
			return err
		}
	}
	return nil
}

// middle is the median time of samples.
func middle(v []sample) float64 {
	return median(row{Samples: map[string][]sample{"": v}}.of("", ms))
}

// numbered is a container that publishes a port of its own, if any.
func numbered(host string, number int, ports bool) (container, error) {
	c, err := newContainer(host, number)
	if ports {
		c.ports = []port{{Host: 2000 + number, Container: 80, Protocol: "tcp"}}
	}
	return c, err
}

// again attaches and detaches one more container.
func (r rival) again(host string, number int, ports bool) (add, del sample, err error) {
	c, err := numbered(host, number, ports)
	if err != nil {
		return add, del, err
	}
	if add, err = r.attach(c); err != nil {
		return add, del, err
	}
	del, err = r.detach(c)
	return add, del, err
}

// parallel measures how long n ADDs take that are started at once on a host
// with one container, and as many DELs: rounds times, and the slow rivals once.
func parallel(rivals []rival, n, rounds int, ports bool) ([]point, error) {
	points := make([]point, len(rivals))
	all, err := pool(fmt.Sprintf("pool%dx%v", n, ports), n+1)
	if err != nil {
		return nil, err
	}
	for round := range rounds {
		for i, r := range rivals {
			if ports && r.NoPorts || r.Slow && round > 0 {
				continue
			}
			add, del, err := r.burst(fmt.Sprintf("p%dx%dx%dx%v", n, round, i, ports), all, ports)
			if err != nil {
				return nil, err
			}
			points[i].Rival, points[i].N, points[i].Ports = r.Name, n, ports
			points[i].Add, points[i].Del = append(points[i].Add, add), append(points[i].Del, del)
		}
	}
	for _, p := range points {
		slices.Sort(p.Add)
		slices.Sort(p.Del)
	}
	return slices.DeleteFunc(points, func(p point) bool { return p.N == 0 }), nil
}

// pool are n namespaces of containers, which are empty again after each DEL.
func pool(name string, n int) ([]string, error) {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprint(name, "x", i)
		if err := newNetNS(all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// burst times calls at once, for all namespaces but the last, on a host of their own.
func (r rival) burst(host string, namespaces []string, ports bool) (add, del float64, err error) {
	if err := newHost(host); err != nil {
		return 0, 0, err
	}
	all, n := make([]container, len(namespaces)), len(namespaces)-1
	for i, netns := range namespaces {
		all[i] = container{id: containerID(host, i), host: host, netns: netns, number: i}
		if ports {
			all[i].ports = []port{{Host: 2000 + i, Container: 80, Protocol: "tcp"}}
		}
	}
	if _, err := r.attach(all[n]); err != nil {
		return 0, 0, err
	}
	if add, err = together(all[:n], r.attach); err != nil {
		return 0, 0, err
	}
	if del, err = together(all[:n], r.detach); err != nil {
		return 0, 0, err
	}
	_, err = r.detach(all[n])
	return add, del, err
}

// together makes a call for each container at once and returns the milliseconds
// until the last one has ended.
func together(all []container, verb func(container, ...string) (sample, error)) (float64, error) {
	results := make(chan error, len(all))
	begin := time.Now()
	for _, c := range all {
		go func() {
			_, err := verb(c)
			results <- err
		}()
	}
	var errs []error
	for range all {
		errs = append(errs, <-results)
	}
	return float64(time.Since(begin).Microseconds()) / 1000, errors.Join(errs...)
}
