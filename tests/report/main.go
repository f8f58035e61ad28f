// Command report runs all tests of the modules in the given directories and
// ends with one line that counts them. It fails if a test fails, or is skipped
// without standing in [allowed].
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// allowed names the tests that may be skipped, each with its reason.
var allowed = map[string]string{
	"TestKernels":           "qemu and Debian's kernels come from mirrors, which a machine may not reach",
	"TestPodman":            otherDebian,
	"TestPodmanPublishes":   otherDebian,
	"TestPodmanWithAChain":  otherDebian,
	"TestBuildah":           otherDebian,
	"TestNetavarkPodman":    otherDebian,
	"TestNetavarkPorts":     otherDebian,
	"TestNetavarkPodmanSid": otherDebian,
	"TestNetavarkPortsSid":  otherDebian,
	"TestDemo":              otherDebian,

	"TestFaultAtEverySystemCall": "its tool knows the system calls of amd64 only",
}

const otherDebian = "the Podmans of all Debian suites come from a mirror, which a machine may not reach"

// An event is a line of go test -json (go doc test2json).
type event struct {
	Action, Package, Test, Output, ImportPath string
}

// A count is how many tests ended how, and what they printed so far.
type count struct {
	passed, failed, skipped, unexpected int

	output map[string]string
}

func main() {
	c := count{output: map[string]string{}}
	ok := true
	for _, dir := range os.Args[1:] {
		cmd := exec.Command("go", "test", "-json", "-race", "-count=1", "-timeout=30m", "./...")
		cmd.Dir, cmd.Stderr = dir, os.Stderr
		if err := run(cmd, &c); err != nil {
			fmt.Printf("go test in %s: %v\n", dir, err)
			ok = false
		}
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", c.passed, c.failed, c.skipped)
	if !ok || c.passed == 0 || c.failed+c.unexpected > 0 {
		os.Exit(1)
	}
}

func run(cmd *exec.Cmd, c *count) error {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return cmd.Wait()
		}
		if err != nil {
			return err
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			fmt.Printf("%s", line) // not go test's own
			continue
		}
		c.add(e)
	}
}

// add counts an event, and prints what a person wants to see: go test's line
// for each package, and all that a failing or skipped test said.
func (c *count) add(e event) {
	key := e.Package + " " + e.Test
	switch {
	case e.Action == "build-output":
		fmt.Print(e.Output)
	case strings.HasPrefix(e.Output, "=== "): // RUN, PAUSE, CONT, NAME
	case e.Action == "output" && e.Test == "":
		if e.Output != "PASS\n" && !strings.Contains(e.Output, "[no test files]") {
			fmt.Print(e.Output)
		}
	case e.Action == "output":
		c.output[key] += e.Output
	case e.Test == "":
	case e.Action == "pass":
		c.passed++
		delete(c.output, key)
	case e.Action == "fail":
		c.failed++
		fmt.Print(c.output[key])
	case e.Action == "skip":
		c.skipped++
		fmt.Print(c.output[key])
		name, _, _ := strings.Cut(e.Test, "/")
		if reason, ok := allowed[name]; ok {
			fmt.Printf("    (may be skipped: %s)\n", reason)
		} else {
			c.unexpected++
			fmt.Println("    (must not be skipped)")
		}
	}
}
