// Package subprocess runs another program and collects its output: an IPAM
// plugin, or aardvark-dns. The standard library's os/exec does the same and
// more; with all that it imports it is 98 kB of the binary.
package subprocess

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// outputWait is how long the output is read on after the program has ended, in
// case a child of its own keeps it open.
const outputWait = time.Second

// ErrTimeout is the error of a program that was killed after [Command.Timeout].
var ErrTimeout = errors.New("killed at its time limit")

// A Command is a program to run. All of it but Args[0], Output and Timeout is
// optional.
type Command struct {
	Args    []string // of which the first is the program's path
	Dir     string   // its working directory; empty: this process's
	Env     []string // variables beside this process's, or instead of them
	Input   []byte   // its standard input
	Output  int      // what to collect: 1 for standard output, 2 for standard error
	Limit   int64    // of the output, in bytes
	Timeout time.Duration
}

// Run runs the program until it ends and returns its output: one byte more than
// the limit if that is exceeded, and also if the program fails. Standard output
// is discarded if it is not collected; standard error is this process's.
func (c Command) Run() (output []byte, err error) {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // else the program inherits that it is ignored
	null, nerr := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	input, feed, ierr := os.Pipe()
	out, write, oerr := os.Pipe()
	var p *os.Process
	if err = errors.Join(nerr, ierr, oerr); err == nil {
		files := []*os.File{input, null, os.Stderr}
		files[c.Output] = write
		p, err = os.StartProcess(c.Args[0], c.Args, &os.ProcAttr{Dir: c.Dir, Env: c.environ(), Files: files})
	}
	for _, f := range []*os.File{null, input, write} {
		f.Close()
	}
	if err != nil {
		feed.Close()
		out.Close()
		return nil, err
	}
	kill := time.AfterFunc(c.Timeout, func() { p.Kill() })
	go func() {
		feed.Write(c.Input) // fails if the program does not read it
		feed.Close()
	}()
	ended := make(chan error)
	go func() {
		state, err := p.Wait()
		out.SetReadDeadline(time.Now().Add(outputWait))
		if err == nil && !state.Success() {
			err = errors.New(state.String())
		}
		ended <- err
	}()
	output, _ = io.ReadAll(io.LimitReader(out, c.Limit+1)) // fails at the deadline only
	out.Close()                                            // a program that goes on writing ends by SIGPIPE
	err = <-ended
	if !kill.Stop() {
		err = ErrTimeout
	}
	return output, err
}

// environ returns the program's environment, in which every variable is once.
func (c Command) environ() []string {
	own := slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.ContainsFunc(c.Env, func(v string) bool { return strings.HasPrefix(v, name+"=") })
	})
	return append(own, c.Env...)
}

// Find returns the path of an executable file of this name in the first of the
// directories that has one, or "". Relative directories are skipped.
func Find(name string, dirs []string) string {
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err == nil && filepath.IsAbs(path) && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}
