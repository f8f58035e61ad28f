package main

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
)

// The phases of one container after the other on a new host.
const (
	firstAdd    = "first ADD"
	otherAdd    = "another ADD"
	portAdd     = "ADD with a port"
	portDel     = "DEL with a port"
	otherDel    = "another DEL"
	lastDel     = "last DEL"
	floorName   = "floor"
	goFloorName = "the floor as a Go program"
	flatnetCNI  = "flatnet"
)

var phases = []string{firstAdd, otherAdd, portAdd, portDel, otherDel, lastDel}

// A row is what was measured of a rival.
type row struct {
	Name    string
	Samples map[string][]sample // by phase
	Counts  counts
	Size    float64 // of the programs, in bytes, without iptables and nft
}

// of are the samples of a phase, in order of one of their numbers.
func (r row) of(phase string, value func(sample) float64) []float64 {
	var v []float64
	for _, s := range r.Samples[phase] {
		v = append(v, value(s))
	}
	slices.Sort(v)
	return v
}

func ms(s sample) float64     { return s.MS }
func cpu(s sample) float64    { return s.CPU }
func faults(s sample) float64 { return float64(s.Faults) }

// median is that of sorted values; of none it is 0.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	return v[len(v)/2]
}

// rounds measures all rivals in turn, each round on a host of its own.
func rounds(rivals []rival, n int) ([]row, error) {
	rows := make([]row, len(rivals))
	for i, r := range rivals {
		rows[i] = row{Name: r.Name, Samples: map[string][]sample{}, Size: r.size()}
	}
	for round := range n {
		for i, r := range rivals {
			if err := r.round(fmt.Sprintf("r%dx%d", round, i), rows[i].Samples); err != nil {
				return nil, err
			}
		}
	}
	for i, r := range rivals {
		var err error
		if rows[i].Counts, err = r.count(fmt.Sprint("count", i)); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// round attaches and detaches three containers on a new host.
func (r rival) round(host string, samples map[string][]sample) error {
	if err := newHost(host); err != nil {
		return err
	}
	var all [3]container
	for i := range all {
		var err error
		if all[i], err = newContainer(host, i); err != nil {
			return err
		}
	}
	all[2].ports = []port{{Host: 8080, Container: 80, Protocol: "tcp"}}
	for _, p := range []struct {
		phase string
		verb  func(container, ...string) (sample, error)
		c     container
	}{
		{firstAdd, r.attach, all[0]}, {otherAdd, r.attach, all[1]}, {portAdd, r.attach, all[2]},
		{portDel, r.detach, all[2]}, {otherDel, r.detach, all[1]}, {lastDel, r.detach, all[0]},
	} {
		if r.NoPorts && len(p.c.ports) > 0 {
			continue
		}
		s, err := p.verb(p.c)
		if err != nil {
			return err
		}
		samples[p.phase] = append(samples[p.phase], s)
	}
	return nil
}

// newContainer makes the network namespace of a container on a host.
func newContainer(host string, number int) (container, error) {
	id := containerID(host, number)
	return container{id: id, host: host, netns: id, number: number}, newNetNS(id)
}

// containerID is what a runtime would choose: rivals name interfaces by its beginning.
func containerID(host string, number int) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(host+"/"+strconv.Itoa(number))))
}
