// Command report runs all tests of the modules in the given directories, shows
// how they get on, repeats at the end what failed, and closes with one line that
// counts them. It fails if a test fails, or is skipped without standing in
// [allowed].
//
//	report DIR[:race]... [-- FLAG...]
//
// With :race the tests of a module run under the race detector, which makes each
// process of a test program start slower. Twice as many tests as there are CPUs
// run beside each other, because many of them wait for most of their time. The flags are further ones of go test; with -v the output of tests that pass
// is shown as well.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// packageTime bounds the tests of one package, if no flag does; go test then
// shows where each of them was. All tests of a module have grace on top, for
// builds and downloads.
const (
	packageTime = 30 * time.Minute
	grace       = 15 * time.Minute
)

// quiet is how long nothing is printed at most.
const quiet = 15 * time.Second

func main() {
	dirs, flags := os.Args[1:], []string(nil)
	if i := slices.Index(dirs, "--"); i >= 0 {
		dirs, flags = dirs[:i], dirs[i+1:]
	}
	if err := adoptOrphans(); err != nil {
		fmt.Println("orphans are not adopted:", err)
	}
	r := newRun(os.Stdout, slices.Contains(flags, "-v"))
	limit := packageTime
	for _, flag := range flags {
		if text, ok := strings.CutPrefix(flag, "-timeout="); ok {
			limit, _ = time.ParseDuration(text) // go test says what is wrong with it
		}
	}
	for _, dir := range dirs {
		dir, race := strings.CutSuffix(dir, ":race")
		args := slices.Concat([]string{"test", "-json", fmt.Sprint("-race=", race), "-count=1", fmt.Sprint("-parallel=", 2*runtime.NumCPU()),
			"-timeout=" + limit.String()}, flags, []string{"./..."})
		cmd := exec.Command("go", args...)
		cmd.Dir, cmd.Stderr = dir, os.Stderr
		if err := follow(cmd, r, limit+grace); err != nil {
			r.broken = append(r.broken, fmt.Sprintf("go test in %s: %v", dir, err))
		}
	}
	if !r.close() {
		os.Exit(1)
	}
}

// follow runs go test to its end, or kills it.
func follow(cmd *exec.Cmd, r *run, deadline time.Duration) error {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer time.AfterFunc(deadline, func() { cmd.Process.Kill() }).Stop()
	lines := make(chan []byte)
	go func() {
		defer close(lines)
		for in := bufio.NewReader(out); ; {
			line, err := in.ReadBytes('\n')
			if err != nil {
				return
			}
			lines <- line
		}
	}()
	ended := make(chan error, 1)
	go func() {
		ended <- reapUntil(cmd.Process.Pid)
		// What a test left running may have the other end: there is no more to come.
		time.AfterFunc(quiet, func() { out.(io.Closer).Close() })
	}()
	tick := time.NewTicker(quiet)
	defer tick.Stop()
	for {
		select {
		case line, more := <-lines:
			if !more {
				return <-ended
			}
			var e event
			if err := json.Unmarshal(line, &e); err != nil {
				fmt.Printf("%s", line) // not go test's own
				continue
			}
			r.add(e)
		case <-tick.C:
			r.beat()
		}
	}
}
