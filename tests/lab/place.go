package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A Place is a network namespace of a world.
type Place struct {
	world *World
	// Path is the namespace's file as processes of the world see it; empty for
	// the world's host.
	Path string
}

// NetNS makes a namespace, as a container runtime does.
func (w *World) NetNS(name string) Place {
	w.TB.Helper()
	w.Run("ip", "netns", "add", name)
	return w.At("/run/netns/" + name)
}

// At is the namespace of a file that the world has already.
func (w *World) At(path string) Place { return Place{world: w, Path: path} }

// In is the same place for another test, with which its processes end.
func (p Place) In(t TB) Place {
	p.world = p.world.In(t)
	return p
}

// Cmd is a command that runs in the place.
func (p Place) Cmd(args ...string) *exec.Cmd { return p.cmd(context.Background(), args) }

// cmd is a command that is killed when the context ends.
func (p Place) cmd(ctx context.Context, args []string) *exec.Cmd {
	enter := []string{"-t", strconv.Itoa(p.world.pid), "-m", "-p", "--net=" + p.namespace(), "--"}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
	// nsenter runs the command by a child, which is in its process group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if ctx.Done() != nil {
		cmd.WaitDelay = deadline // for output, also of a command that ended by itself
	}
	return cmd
}

// role is this program in a role of [Main], run in the place.
func (p Place) role(role, arg string) *exec.Cmd {
	p.world.TB.Helper()
	self, err := os.Executable()
	if err != nil {
		p.world.TB.Fatalf("own program: %v", err)
	}
	cmd := p.Cmd(self, arg)
	cmd.Env = environ(role)
	return cmd
}

// deadline bounds a command of [Place.Try] or [World.Call], so that a test which
// hangs says where.
const deadline = 5 * time.Minute

// Try runs a command and returns what it wrote to stdout.
func (p Place) Try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	var stdout, stderr strings.Builder
	cmd := p.cmd(ctx, args)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("killed after %v: %w", deadline, err)
		}
		return stdout.String(), fmt.Errorf("%s: %w: %s%s", strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// Run is Try for a command that must succeed.
func (p Place) Run(args ...string) string {
	p.world.TB.Helper()
	out, err := p.Try(args...)
	if err != nil {
		p.world.TB.Fatalf("%v", err)
	}
	return out
}

// Sh runs shell commands that must succeed.
func (p Place) Sh(script string) string {
	p.world.TB.Helper()
	return p.Run("sh", "-ec", script)
}

// IP runs a batch of ip commands that must succeed.
func (p Place) IP(batch string) {
	p.world.TB.Helper()
	cmd := p.Cmd("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(batch)
	if out, err := cmd.CombinedOutput(); err != nil {
		p.world.TB.Fatalf("ip -batch: %v: %s", err, out)
	}
}

// Write writes a file as the world sees it.
func (w *World) Write(path, content string) {
	w.TB.Helper()
	if err := os.WriteFile(w.real(path), []byte(content), 0o644); err != nil {
		w.TB.Fatalf("%v", err)
	}
}

// Read returns a file as the world sees it; one that is missing is empty.
func (w *World) Read(path string) string {
	w.TB.Helper()
	content, err := os.ReadFile(w.real(path))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.TB.Fatalf("%v", err)
	}
	return string(content)
}

// real is where a world's file is for processes outside the world.
func (w *World) real(path string) string {
	return "/proc/" + strconv.Itoa(w.pid) + "/root" + path
}

// pingTime bounds an echo request with all its repetitions, in seconds.
const pingTime = "5"

// Ping sends echo requests until one is answered: a single one may get lost on
// a busy machine.
func (p Place) Ping(addr string, options ...string) error {
	args := append([]string{"ping", "-n", "-c", "1", "-i", "0.2", "-w", pingTime}, options...)
	_, err := p.Try(append(args, addr)...)
	return err
}

// Until tries again for as long as there is an error, up to the limit, and
// returns the last one.
func Until(limit time.Duration, try func() error) error {
	end := time.Now().Add(limit)
	err := try()
	for err != nil && time.Now().Before(end) {
		err = try()
	}
	return err
}
