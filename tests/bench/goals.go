package main

import (
	"fmt"
)

// A goal is a ratio or number that is not to be exceeded. A limit of 0 is none: the
// number is there to compare others with.
type goal struct {
	name         string
	value, limit float64
}

// goals lists the goals, what was measured, and whether that meets them. A goal
// for which nothing was measured is left out.
func (r report) goals(b *sheets) {
	lines := []string{"goal\tat most\tmeasured\t"}
	all := append(append(r.phaseGoals(), r.startGoals()...), r.pointGoals()...)
	for _, f := range r.Ports {
		if limit, ok := factLimits[f.Name]; ok {
			all = append(all, goal{f.Name + ", " + f.Unit, f.Value, limit})
		}
	}
	for _, g := range append(all, r.pathGoals()...) {
		if g.value <= 0 {
			continue
		}
		limit, verdict := fmt.Sprintf("%.3g", g.limit), "met"
		if g.value > g.limit {
			verdict = "NOT MET"
		}
		if g.limit == 0 {
			limit, verdict = "", "no goal"
		}
		lines = append(lines, fmt.Sprintf("%s\t%s\t%.3g\t%s", g.name, limit, g.value, verdict))
	}
	table(b, "Goals", lines)
}

// ratio is a / b, or 0 if one of them was not measured.
func ratio(a, b float64) float64 {
	if a <= 0 || b <= 0 {
		return 0
	}
	return a / b
}

// time is the median of a rival's phase.
func (r report) time(name, phase string) float64 {
	for _, row := range r.Rows {
		if row.Name == name {
			return median(row.of(phase, ms))
		}
	}
	return 0
}

func (r report) phaseGoals() []goal {
	f := func(phase string) float64 { return r.time(flatnetCNI, phase) }
	cpuOf := func(name string) float64 {
		for _, row := range r.Rows {
			if row.Name == name {
				return median(row.of(otherDel, cpu))
			}
		}
		return 0
	}
	against := func(name, phase string) float64 { return ratio(f(phase), r.time(name, phase)) }
	return []goal{
		{"another ADD / floor", against(floorName, otherAdd), 1.5},
		{"first ADD / another", ratio(f(firstAdd), f(otherAdd)), 1.2},
		{"last DEL / another", ratio(f(lastDel), f(otherDel)), 1.2},
		{"ADD with a port / without", ratio(f(portAdd), f(otherAdd)), 1.3},
		{"DEL with a port / without", ratio(f(portDel), f(otherDel)), 1.2},
		{"DEL / floor", against(floorName, otherDel), 1.1},
		{"CPU time of DEL / bridge with iptables", ratio(cpuOf(flatnetCNI), cpuOf("bridge 1.9.1, iptables")), 1.0 / 6},
		{"ADD / bridge with iptables", against("bridge 1.9.1, iptables", otherAdd), 1.0 / 8},
		{"ADD / bridge with nftables", against("bridge 1.9.1, nftables", otherAdd), 1.0 / 12},
		{"ADD with a port / bridge and portmap, iptables", against("bridge 1.9.1, iptables", portAdd), 1.0 / 15},
		{"ADD with a port / bridge and portmap, nftables", against("bridge 1.9.1, nftables", portAdd), 1.0 / 15},
		{"ADD / netavark without a firewall", against("netavark, no firewall", otherAdd), 1},
		{"netavark's plugin, setup / netavark without a firewall", ratio(r.time("flatnet, netavark's plugin", otherAdd), r.time("netavark, no firewall", otherAdd)), 1},
	}
}

func (r report) startGoals() []goal {
	times := map[string]float64{}
	for _, row := range r.Start {
		times[row.Name] = median(row.of("", ms))
	}
	return []goal{
		{goFloorName + ", ADD / floor", ratio(r.time(goFloorName, otherAdd), r.time(floorName, otherAdd)), 0},
		{"STATUS of a network with a container / an empty Go program", ratio(times["STATUS of a network with a container"], times["empty Go program"]), 3},
		{"STATUS without a network / an empty Go program", ratio(times["STATUS without a network"], times["empty Go program"]), 3},
		{"VERSION / an empty Go program", ratio(times["VERSION"], times["empty Go program"]), 1.15},
	}
}

func (r report) pointGoals() []goal {
	var all []goal
	add := func(name, rival string, points []point, n int, limit float64) {
		own, _ := find(points, rival, n, false)
		floor, _ := find(points, floorName, n, false)
		all = append(all, goal{fmt.Sprintf(name, n), ratio(median(own.Add), median(floor.Add)), limit})
	}
	for _, n := range []int{1, 500, 1000} {
		add("ADD beside %d containers / floor", flatnetCNI, r.Scale, n, 1.5)
	}
	add("%d ADDs at once / floor", flatnetCNI, r.Parallel, 100, 1.7)
	add(goFloorName+", %d ADDs at once / floor", goFloorName, r.Parallel, 100, 0)
	return all
}
