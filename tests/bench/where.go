package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A spent is where the time of a verb goes.
type spent struct {
	Verb  string
	Total float64 // ms without strace
	Parts []part
}

// A part is the time from each of some system calls until the next one that is traced.
type part struct {
	Name  string
	MS    float64
	Calls int // traced ones
}

// A tallied is a system call and how often floor and flatnet make it, with the time that
// they spend in it, in ms of CPU.
type tallied struct {
	Call           string
	Floor, Own     int
	FloorMS, OwnMS float64
}

// kinds are the parts, each with what its system calls have in them: the first that
// matches decides.
var kinds = []struct {
	name string
	of   *regexp.Regexp
}{
	{"start: exec, Go's runtime, packages", regexp.MustCompile(`^execve\(|hpage_pmd_size|/proc/self/(cgroup|mountinfo)|/sys/fs/cgroup`)},
	{"configuration", regexp.MustCompile(`^read\(0,`)},
	{"reply and exit", regexp.MustCompile(`^write\(1,|^exit_group`)},
	{"records and locks between calls", regexp.MustCompile(`/run/flatnet`)},
	{"names of containers", regexp.MustCompile(`aardvark`)},
	{"sysctls", regexp.MustCompile(`"/proc/(sys|self/fd)/[^"]*(net|ipv[46]|conf|eth0)`)},
	{"namespaces", regexp.MustCompile(`/ns/net"|/run/netns/|^setns`)},
	{"rules", regexp.MustCompile(`NETLINK_NETFILTER|NFNL|NFT_`)},
	{"links, addresses, routes", regexp.MustCompile(`^socket\(AF_NETLINK|^sendto`)},
	{"lease", regexp.MustCompile(`^(openat|newfstatat|unlinkat|renameat|fdatasync|fsync|mkdirat)\(`)},
}

// measureWhere asks strace when the calls are made that begin something, and which there
// are at all. Only those stop the process, and what each stop costs is taken off: it is
// the difference to calls without strace.
func measureWhere(w world, r *report) error {
	const host = "where"
	flatnet, floor := w.rival(flatnetCNI), w.rival(floorName)
	for _, v := range []rival{flatnet, floor} {
		if err := newHost(host + v.Name); err != nil {
			return err
		}
		c, err := newContainer(host+v.Name, 0)
		if err != nil {
			return err
		}
		if _, err := v.attach(c); err != nil {
			return err
		}
	}
	var free [2][]float64
	var parts [2][]map[string]part
	for round := range w.pick(5, 25) {
		c, err := newContainer(host+flatnet.Name, 1+round)
		if err != nil {
			return err
		}
		for i, verb := range []func(container, ...string) (sample, error){flatnet.attach, flatnet.detach} {
			s, err := verb(c)
			if err != nil {
				return err
			}
			free[i] = append(free[i], s.MS)
		}
		for i, verb := range []func(container, ...string) (sample, error){flatnet.attach, flatnet.detach} {
			found, err := timeline(verb, c)
			if err != nil {
				return err
			}
			parts[i] = append(parts[i], found)
		}
	}
	for i, verb := range []string{"ADD", "DEL"} {
		r.Where = append(r.Where, summary(verb, free[i], parts[i]))
	}
	var err error
	r.Calls, err = tallies(floor, flatnet, host)
	return err
}

// begins are the system calls at which strace stops the process.
const begins = "trace=execve,openat,newfstatat,socket,sendto,read,write,unlinkat,renameat,fdatasync,setns,exit_group"

// timeline makes one call under strace, and returns the time of its parts, in ms.
func timeline(verb func(container, ...string) (sample, error), c container) (parts map[string]part, err error) {
	const trace = "/run/io/timeline"
	if _, err := verb(c, "strace", "-f", "--seccomp-bpf", "-ttt", "-s", "128", "-e", begins, "-o", trace); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		return nil, err
	}
	parts = map[string]part{}
	var since float64
	var name string
	for line := range strings.Lines(string(text)) {
		at, call, ok := event(line)
		if !ok {
			continue
		}
		if name != "" {
			p := parts[name]
			parts[name] = part{Name: name, MS: p.MS + at - since, Calls: p.Calls + 1}
		}
		since = at
		for _, k := range kinds {
			if k.of.MatchString(call) {
				name = k.name
				break
			}
		}
	}
	if name == "" {
		return nil, fmt.Errorf("strace wrote %.200q", text)
	}
	return parts, nil
}

// event is a line of strace -f -ttt: a call that begins, or the end of the process.
func event(line string) (ms float64, call string, ok bool) {
	_, rest, _ := strings.Cut(strings.TrimSpace(line), " ") // the process
	at, call, _ := strings.Cut(strings.TrimSpace(rest), " ")
	if strings.HasPrefix(call, "<...") || strings.HasPrefix(call, "---") {
		return 0, "", false
	}
	seconds, err := strconv.ParseFloat(at, 64)
	return seconds * 1000, call, err == nil
}

// summary takes off what the stops cost: as much for each, but no more than the cheapest
// part has for its calls, and what is then still more than the verb takes without strace
// in proportion. Times are the least of all rounds, since other programs of the machine
// add to some parts of some rounds only.
func summary(verb string, free []float64, rounds []map[string]part) spent {
	slices.Sort(free)
	s := spent{Verb: verb, Total: free[0]}
	for _, k := range kinds {
		var ms, calls []float64
		for _, parts := range rounds {
			ms, calls = append(ms, parts[k.name].MS), append(calls, float64(parts[k.name].Calls))
		}
		slices.Sort(ms)
		slices.Sort(calls)
		if n := median(calls); n > 0 {
			s.Parts = append(s.Parts, part{k.name, ms[0], int(n)})
		}
	}
	var sum, calls float64
	for _, p := range s.Parts {
		sum, calls = sum+p.MS, calls+float64(p.Calls)
	}
	stop := max(0, (sum-s.Total)/calls)
	for _, p := range s.Parts {
		stop = min(stop, p.MS/float64(p.Calls))
	}
	sum -= stop * calls
	for i := range s.Parts {
		p := &s.Parts[i]
		p.MS = (p.MS - stop*float64(p.Calls)) * ratio(s.Total, sum)
	}
	return s
}

// tallies counts the system calls of another container's ADD.
func tallies(floor, flatnet rival, host string) ([]tallied, error) {
	const out = "/run/io/tallies"
	found := map[string]*tallied{}
	for _, v := range []rival{floor, flatnet} {
		c, err := newContainer(host+v.Name, 1000)
		if err != nil {
			return nil, err
		}
		if _, err := v.attach(c, "strace", "-f", "-c", "-o", out); err != nil {
			return nil, err
		}
		text, err := os.ReadFile(out)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line) // % time, seconds, usecs/call, calls, errors if any, syscall
			if len(f) < 5 || f[len(f)-1] == "total" {
				continue
			}
			seconds, serr := strconv.ParseFloat(f[1], 64)
			calls, cerr := strconv.Atoi(f[3])
			if serr != nil || cerr != nil {
				continue
			}
			t := found[f[len(f)-1]]
			if t == nil {
				t = &tallied{Call: f[len(f)-1]}
				found[t.Call] = t
			}
			if v.Name == floorName {
				t.Floor, t.FloorMS = calls, seconds*1000
			} else {
				t.Own, t.OwnMS = calls, seconds*1000
			}
		}
	}
	var all []tallied
	for _, t := range found {
		all = append(all, *t)
	}
	slices.SortFunc(all, func(a, b tallied) int { return b.Own - a.Own })
	return all, nil
}

// wheres are the tables of where the time goes.
func (r report) wheres(b *sheets) {
	for _, s := range r.Where {
		lines := []string{"from the first of these calls to the next other one\tms\tpart\tcalls seen"}
		for _, p := range s.Parts {
			lines = append(lines, fmt.Sprintf("%s\t%.2f\t%.0f %%\t%d", p.Name, p.MS, 100*ratio(p.MS, s.Total), p.Calls))
		}
		table(b, fmt.Sprintf("Where the time of another container's %s goes, of %.2f ms at least", s.Verb, s.Total), lines)
	}
	lines := []string{"\tfloor\tms of CPU\tflatnet\tms of CPU"}
	for _, t := range r.Calls {
		if t.Own+t.Floor > 1 {
			lines = append(lines, fmt.Sprintf("%s\t%d\t%.2f\t%d\t%.2f", t.Call, t.Floor, t.FloorMS, t.Own, t.OwnMS))
		}
	}
	table(b, "System calls of another container's ADD, as strace -c counts and slows them", lines)
}
