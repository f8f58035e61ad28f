package main

import (
	"errors"
	"fmt"
	"time"
)

// A point is a median at a number of containers, or of calls at once.
type point struct {
	Rival    string
	N        int
	Ports    bool
	Add, Del float64
}

// scale measures another container's ADD and DEL beside n others, for each n.
// The rivals' hosts are filled by their own ADDs; those that take minutes stop
// at 100 containers.
func scale(rivals []rival, levels []int, n int, ports bool) ([]point, error) {
	var points []point
	filled := make([]int, len(rivals))
	for i := range rivals {
		if err := newHost(scaleHost(i, ports)); err != nil {
			return nil, err
		}
	}
	for _, level := range levels {
		at := make([]point, len(rivals))
		adds, dels := make([][]sample, len(rivals)), make([][]sample, len(rivals))
		for i, r := range rivals {
			if skips(r, level, ports) {
				continue
			}
			at[i] = point{Rival: r.Name, N: level, Ports: ports}
			for ; filled[i] < level; filled[i]++ {
				c, err := numbered(scaleHost(i, ports), filled[i], ports)
				if err != nil {
					return nil, err
				}
				if _, err := r.attach(c); err != nil {
					return nil, err
				}
			}
		}
		for round := range n {
			for i, r := range rivals {
				if skips(r, level, ports) {
					continue
				}
				add, del, err := r.again(scaleHost(i, ports), 10000+level*30+round, ports)
				if err != nil {
					return nil, err
				}
				adds[i], dels[i] = append(adds[i], add), append(dels[i], del)
			}
		}
		for i := range rivals {
			if at[i].N > 0 {
				at[i].Add, at[i].Del = middle(adds[i]), middle(dels[i])
				points = append(points, at[i])
			}
		}
	}
	return points, nil
}

func scaleHost(i int, ports bool) string { return fmt.Sprintf("scale%d%v", i, ports) }

// skips reports whether a rival takes no part at a level.
func skips(r rival, level int, ports bool) bool {
	return r.Slow && level > 100 || ports && r.NoPorts
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
// with one container, and as many DELs. The numbers are medians of the rounds.
func parallel(rivals []rival, n, rounds int, ports bool) ([]point, error) {
	var points []point
	adds, dels := make([][]float64, len(rivals)), make([][]float64, len(rivals))
	for round := range rounds {
		for i, r := range rivals {
			if ports && r.NoPorts {
				continue
			}
			add, del, err := r.burst(fmt.Sprintf("p%dx%dx%dx%v", n, round, i, ports), n, ports)
			if err != nil {
				return nil, err
			}
			adds[i], dels[i] = append(adds[i], add), append(dels[i], del)
		}
	}
	for i, r := range rivals {
		if len(adds[i]) > 0 {
			points = append(points, point{Rival: r.Name, N: n, Ports: ports, Add: sortedMedian(adds[i]), Del: sortedMedian(dels[i])})
		}
	}
	return points, nil
}

// burst times n calls at once.
func (r rival) burst(host string, n int, ports bool) (add, del float64, err error) {
	if err := newHost(host); err != nil {
		return 0, 0, err
	}
	all := make([]container, n+1)
	for i := range all {
		if all[i], err = numbered(host, i, ports); err != nil {
			return 0, 0, err
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
