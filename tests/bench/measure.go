package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"flatnet/tests/lab"
)

// rounds is how often each ADD and DEL is timed.
const rounds = 25

// A row is what was measured of a rival; times are medians in ms, RSS is the
// greatest of one ADD in KiB, as are the counts.
type row struct {
	Name               string
	Add, Del           float64
	Syscalls, Children int
	RSS                int
}

// measure times all rivals in turn, round after round. Each has one container
// all the time, so that what the first ADD makes is not part of the times.
func measure(rivals []rival) ([]row, error) {
	rows := make([]row, len(rivals))
	adds, dels := make([][]float64, len(rivals)), make([][]float64, len(rivals))
	for i, r := range rivals {
		rows[i].Name = r.Name
		if _, err := r.inNew(fmt.Sprint("stay", i), r.Program, "ADD"); err != nil {
			return nil, err
		}
	}
	for n := range rounds {
		for i, r := range rivals {
			id := fmt.Sprint("c", n, "x", i)
			add, err := r.inNew(id, r.Program, "ADD")
			if err != nil {
				return nil, err
			}
			del, err := r.run("DEL", id, r.Program, "DEL")
			if err != nil {
				return nil, err
			}
			adds[i], dels[i] = append(adds[i], add), append(dels[i], del)
		}
	}
	for i, r := range rivals {
		rows[i].Add, rows[i].Del = median(adds[i]), median(dels[i])
		if err := r.count(&rows[i], fmt.Sprint("traced", i)); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// inNew times an ADD in a new namespace, run by args.
func (r rival) inNew(id string, args ...string) (float64, error) {
	if out, err := exec.Command("ip", "netns", "add", id).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	return r.run("ADD", id, args...)
}

// run runs a call with files as its input and output, so that nobody has to
// copy while it runs, and returns how many milliseconds it took.
func (r rival) run(command, id string, args ...string) (float64, error) {
	if err := os.WriteFile("/run/conf", []byte(r.Conf), 0o600); err != nil {
		return 0, err
	}
	in, err := os.Open("/run/conf")
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, err := os.Create("/run/out")
	if err != nil {
		return 0, err
	}
	defer out.Close()
	cmd := exec.Command(args[0], args[1:]...)
	call := lab.Call{Command: command, ID: id, NetNS: "/run/netns/" + id, IfName: "eth0"}
	cmd.Env = append(append(call.Env(), r.Env...), "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, out
	begin := time.Now()
	err = cmd.Run()
	took := time.Since(begin)
	if err != nil {
		said, _ := os.ReadFile("/run/out")
		err = fmt.Errorf("%s %s: %w: %s", r.Name, command, err, said)
	}
	return float64(took.Microseconds()) / 1000, err
}

// count counts the system calls and child processes of one ADD, and asks
// another for its memory: through GNU time, because a process starts with the
// greatest RSS of the one that started it.
func (r rival) count(to *row, id string) error {
	const trace, usage = "/run/trace", "/run/usage"
	if _, err := r.inNew(id, "strace", "-f", "-qq", "-o", trace, r.Program, "ADD"); err != nil {
		return err
	}
	calls, err := os.ReadFile(trace)
	if err != nil {
		return err
	}
	to.Children = -1 // the plugin itself
	for line := range strings.Lines(string(calls)) {
		_, said, _ := strings.Cut(strings.TrimSpace(line), " ")
		said = strings.TrimSpace(said)
		if strings.Contains(said, "execve") && strings.HasSuffix(said, "= 0") {
			to.Children++
		}
		// Not the end of a call that is counted already, a signal or an exit.
		if !strings.HasPrefix(said, "<... ") && !strings.HasPrefix(said, "---") && !strings.HasPrefix(said, "+++") {
			to.Syscalls++
		}
	}
	if _, err := r.inNew(id+"m", "/usr/bin/time", "-o", usage, "-f", "%M", r.Program, "ADD"); err != nil {
		return err
	}
	kib, err := os.ReadFile(usage)
	if err != nil {
		return err
	}
	to.RSS, err = strconv.Atoi(strings.TrimSpace(string(kib)))
	return err
}
