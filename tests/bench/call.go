package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A sample is what one call took: milliseconds, CPU time and page faults, with
// those of its child processes.
type sample struct {
	MS, CPU float64
	Faults  int64
}

func (s sample) plus(o sample) sample { return sample{s.MS + o.MS, s.CPU + o.CPU, s.Faults + o.Faults} }

// A step is one program that is run for a call.
type step struct {
	args  []string
	env   []string
	stdin string
}

// attach is an ADD or setup. wrapper is a command that runs the programs.
func (r rival) attach(c container, wrapper ...string) (sample, error) {
	took, out, err := r.run(c, r.step("ADD", c), wrapper)
	if err != nil || r.Portmap == "" || len(c.ports) == 0 {
		return took, err
	}
	second, _, err := r.run(c, r.portmap("ADD", c, out), wrapper)
	return took.plus(second), err
}

// detach is a DEL or teardown, in the opposite order.
func (r rival) detach(c container, wrapper ...string) (sample, error) {
	var first sample
	if r.Portmap != "" && len(c.ports) > 0 {
		var err error
		if first, _, err = r.run(c, r.portmap("DEL", c, ""), wrapper); err != nil {
			return first, err
		}
	}
	took, _, err := r.run(c, r.step("DEL", c), wrapper)
	return took.plus(first), err
}

// step is the call of the rival's own program.
func (r rival) step(verb string, c container) step {
	switch r.Door {
	case "floor":
		return step{args: []string{r.Program, verb}, env: c.env(verb)}
	case "cni":
		conf := r.Conf
		if len(c.ports) > 0 && r.Portmap == "" {
			conf = with(conf, c.capability())
		}
		return step{args: []string{r.Program}, env: c.env(verb), stdin: conf}
	}
	word := map[string]string{"ADD": "setup", "DEL": "teardown"}[verb]
	if r.Door == "main" {
		return step{args: []string{r.Program, "--config", "/run/netavark-" + c.host, word, path(c.netns)}, stdin: r.options(c)}
	}
	return step{args: []string{r.Program, word, path(c.netns)}, stdin: r.options(c)}
}

func (r rival) portmap(verb string, c container, previous string) step {
	conf := with(r.PortConf, c.capability())
	if previous != "" {
		conf = with(conf, `"prevResult":`+previous)
	}
	return step{args: []string{r.Portmap}, env: c.env(verb), stdin: conf}
}

// env is the environment of a CNI call.
func (c container) env(verb string) []string {
	ifname := c.ifname
	if ifname == "" {
		ifname = "eth0"
	}
	return []string{"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + c.id, "CNI_NETNS=" + path(c.netns), "CNI_IFNAME=" + ifname, "CNI_PATH=/usr/lib/cni"}
}

// run runs a step in the container's host, with files as its input and output,
// so that nothing has to be copied while it runs.
func (r rival) run(c container, s step, wrapper []string) (sample, string, error) {
	name := "/run/io/" + c.host + "." + c.id
	if err := os.WriteFile(name+".in", []byte(s.stdin), 0o600); err != nil {
		return sample{}, "", err
	}
	defer os.Remove(name + ".in")
	defer os.Remove(name + ".out")
	in, err := os.Open(name + ".in")
	if err != nil {
		return sample{}, "", err
	}
	defer in.Close()
	out, err := os.Create(name + ".out")
	if err != nil {
		return sample{}, "", err
	}
	defer out.Close()
	fault, err := os.Create(name + ".err")
	if err != nil {
		return sample{}, "", err
	}
	defer fault.Close()
	defer os.Remove(name + ".err")
	cmd := r.command(s, wrapper)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, fault
	took, err := timed(c.host, cmd)
	said, _ := os.ReadFile(name + ".out")
	if err != nil {
		more, _ := os.ReadFile(name + ".err")
		err = fmt.Errorf("%s: %s of %s: %w: %s%s", r.Name, strings.Join(s.args, " "), c.id, err, said, more)
	}
	return took, string(said), err
}

// command is a step in the rival's root; a wrapper is the machine's own.
func (r rival) command(s step, wrapper []string) *exec.Cmd {
	args := s.args
	if r.Root != "" && len(wrapper) > 0 {
		args = append([]string{"/usr/sbin/chroot", r.Root}, args...)
	}
	args = append(append([]string{}, wrapper...), args...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, s.env...), r.Env...)
	if r.Root != "" && len(wrapper) == 0 {
		cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Chroot: r.Root}
	}
	return cmd
}

// timed runs a command in a host.
func timed(host string, cmd *exec.Cmd) (sample, error) {
	var took sample
	err := in(host, func() error {
		begin := time.Now()
		err := cmd.Run()
		took.MS = float64(time.Since(begin).Microseconds()) / 1000
		return err
	})
	if cmd.ProcessState != nil {
		usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		took.CPU = float64((cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Microseconds()) / 1000
		took.Faults = usage.Minflt + usage.Majflt
	}
	return took, err
}
