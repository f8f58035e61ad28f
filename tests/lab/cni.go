package lab

import (
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
)

// Conf is the least configuration: everything else is flatnet's default.
const Conf = `{"cniVersion":"1.0.0","name":"flatnet","type":"flatnet"}`

// A Call is one call of a plugin as a container runtime makes it (CNI SPEC
// 1.1.0, section 2). Empty fields are variables that are not set.
type Call struct {
	Command string // CNI_COMMAND
	ID      string // CNI_CONTAINERID
	NetNS   string // CNI_NETNS
	IfName  string // CNI_IFNAME
	Args    string // CNI_ARGS
	Conf    string // stdin
}

// Env is the environment of the call.
func (c Call) Env() []string {
	env := []string{"CNI_PATH=/usr/lib/cni"}
	for _, v := range [][2]string{
		{"CNI_COMMAND", c.Command}, {"CNI_CONTAINERID", c.ID}, {"CNI_NETNS", c.NetNS},
		{"CNI_IFNAME", c.IfName}, {"CNI_ARGS", c.Args},
	} {
		if v[1] != "" {
			env = append(env, v[0]+"="+v[1])
		}
	}
	return env
}

// A Reply is what a plugin answered, with the fields of results since 0.3.0
// and of errors (CNI SPEC 1.1.0, section 5).
type Reply struct {
	Stdout string `json:"-"`
	Stderr string `json:"-"`
	Exit   int    `json:"-"`

	CNIVersion        string
	SupportedVersions []string
	Interfaces        []struct{ Name, Mac, Sandbox string }
	IPs               []IP
	Routes            []struct{ Dst, GW string }
	DNS               struct{ Nameservers []string }

	Code    int
	Msg     string
	Details string
}

// An IP is one address of a result.
type IP struct {
	Version, Address, Gateway string
	Interface                 *int
}

// Addr is the first address of a result, without its prefix length.
func (r Reply) Addr() string {
	if len(r.IPs) == 0 {
		return ""
	}
	addr, _, _ := strings.Cut(r.IPs[0].Address, "/")
	return addr
}

// Call runs the plugin program on the world's host. wrapper is a command that
// runs it, such as strace.
func (w *World) Call(program string, c Call, wrapper ...string) Reply {
	w.TB.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	cmd := w.cmd(ctx, append(wrapper, program))
	cmd.Env = append(c.Env(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.Stdin = strings.NewReader(c.Conf)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		w.TB.Fatalf("%s %s: killed after %v (stderr %q)", c.Command, c.ID, deadline, stderr.String())
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		w.TB.Fatalf("%s: %v", program, err)
	}
	r := Reply{Stdout: stdout.String(), Stderr: stderr.String(), Exit: cmd.ProcessState.ExitCode()}
	if r.Stdout != "" {
		if err := json.Unmarshal([]byte(r.Stdout), &r); err != nil {
			w.TB.Fatalf("%s %s wrote %q (stderr %q): %v", c.Command, c.ID, r.Stdout, stderr.String(), err)
		}
	}
	return r
}

// WithPrev is conf with a result as its prevResult, as DEL and CHECK get it.
func WithPrev(conf string, result Reply) string {
	return strings.TrimSuffix(strings.TrimSpace(conf), "}") + `,"prevResult":` + result.Stdout + "}"
}
