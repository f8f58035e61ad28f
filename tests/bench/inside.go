package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// beInside measures in the lab's world and writes a report to stdout.
func beInside(arg string) error {
	var w world
	if err := json.Unmarshal([]byte(arg), &w); err != nil {
		return err
	}
	if err := w.mount(); err != nil {
		return err
	}
	r := report{Quick: w.Quick}
	for _, part := range []struct {
		name    string
		measure func(world, *report) error
	}{{"rounds", measureRounds}, {"start", measureStart}, {"where", measureWhere}, {"scale", measureScale}, {"parallel", measureParallel}, {"ports", measurePorts}, {"data path", measurePath}} {
		if only := os.Getenv("BENCH_ONLY"); only != "" && only != part.name {
			continue
		}
		begin := time.Now()
		if err := part.measure(w, &r); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s: measured in %v\n", part.name, time.Since(begin).Round(time.Second))
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// mount gives the peers' roots the world's /run, /proc, /sys and leases.
// Namespaces that are made later appear there, too, because /run is shared.
func (w world) mount() error {
	for _, dir := range []string{"/run/io", "/run/netns"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("", "/run", "", unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share /run: %w", err)
	}
	for _, root := range w.roots() {
		for _, dir := range []string{"/run", "/proc", "/sys", "/dev"} {
			if err := unix.Mount(dir, root+dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
				return fmt.Errorf("%s in %s: %w", dir, root, err)
			}
		}
		if err := unix.Mount("tmpfs", root+"/tmp", "tmpfs", 0, ""); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(root, w.Leases), 0o700); err != nil {
			return err
		}
		if err := unix.Mount(w.Leases, filepath.Join(root, w.Leases), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("leases: %w", err)
		}
	}
	return nil
}

// pick is one of two numbers, for the quick run or the full one.
func (w world) pick(quick, full int) int {
	if w.Quick {
		return quick
	}
	return full
}

func measureRounds(w world, r *report) (err error) {
	r.Rows, err = rounds(w.rivals(), w.pick(5, 25))
	return err
}

// measureStart compares programs that do nothing with VERSION and STATUS.
func measureStart(w world, r *report) error {
	const host, busy = "start", "busy"
	if err := errors.Join(newHost(host), newHost(busy)); err != nil {
		return err
	}
	flatnet := w.rival(flatnetCNI)
	c, err := newContainer(busy, 0)
	if err != nil {
		return err
	}
	if _, err := flatnet.attach(c); err != nil {
		return err
	}
	status := strings.Replace(flatnet.Conf, "1.0.0", "1.1.0", 1)
	programs := []struct {
		name, host, program, verb, conf string
	}{
		{"empty C program", host, w.Floor, "", ""},
		{"empty Go program", host, w.Empty, "", ""},
		{"VERSION", host, w.Flatnet, "VERSION", `{"cniVersion":"1.0.0"}`},
		{"STATUS of a network with a container", busy, w.Flatnet, "STATUS", status},
		{"STATUS without a network", host, w.Flatnet, "STATUS", status},
		{"bridge 1.9.1 VERSION", host, "bridge", "VERSION", `{"cniVersion":"1.0.0"}`},
	}
	r.Start = make([]row, len(programs))
	for range w.pick(11, 51) {
		for i, p := range programs {
			one := rival{Name: p.name, Program: p.program}
			if p.program == "bridge" {
				one.Program, one.Root = "/usr/lib/cni/bridge", w.Sid
			}
			args := []string{one.Program}
			if p.program == w.Floor {
				args = append(args, "nothing")
			}
			s, _, err := one.run(container{id: "start", host: p.host}, step{args: args, env: []string{"CNI_COMMAND=" + p.verb, "CNI_PATH=/usr/lib/cni"}, stdin: p.conf}, nil)
			if err != nil {
				return err
			}
			if r.Start[i].Samples == nil {
				r.Start[i] = row{Name: p.name, Samples: map[string][]sample{}}
			}
			r.Start[i].Samples[""] = append(r.Start[i].Samples[""], s)
		}
	}
	return nil
}

func measureScale(w world, r *report) error {
	levels := []int{1, 100}
	if !w.Quick {
		levels = []int{1, 100, 500, 1000}
	}
	for _, ports := range []bool{false, true} {
		if w.Quick && ports {
			levels = levels[:1]
		}
		points, err := scale(w.few(), levels, w.pick(5, 25), ports)
		if err != nil {
			return err
		}
		r.Scale = append(r.Scale, points...)
	}
	return nil
}

func measureParallel(w world, r *report) error {
	for _, ports := range []bool{false, true} {
		for _, n := range []int{1, 32, 100} {
			if w.Quick && (n == 100 || ports) {
				continue
			}
			points, err := parallel(w.few(), n, w.pick(1, 5), ports)
			if err != nil {
				return err
			}
			r.Parallel = append(r.Parallel, points...)
		}
	}
	return nil
}

// rival is the one of a name.
func (w world) rival(name string) rival {
	all := w.rivals()
	return all[slices.IndexFunc(all, func(r rival) bool { return r.Name == name })]
}

// few are the rivals that the plot shows.
func (w world) few() []rival {
	var few []rival
	for _, r := range w.rivals() {
		switch r.Name {
		case floorName, goFloorName, flatnetCNI, "flatnet, netavark's plugin", "bridge 1.9.1, iptables", "netavark, no firewall", "netavark, nftables":
			few = append(few, r)
		}
	}
	return few
}

// size is that of the rival's programs in bytes: flatnet does what three of the reference's
// do.
func (r rival) size() (all float64) {
	programs := []string{r.Program}
	if r.Portmap != "" {
		programs = append(programs, r.Portmap, "/usr/lib/cni/host-local")
	}
	for _, program := range programs {
		if info, err := os.Stat(filepath.Join(r.Root, program)); err == nil {
			all += float64(info.Size())
		}
	}
	return all
}

// output is what a command of the machine prints, on one line.
func output(args ...string) string {
	out, _ := exec.Command(args[0], args[1:]...).Output()
	return strings.TrimSpace(string(out))
}
