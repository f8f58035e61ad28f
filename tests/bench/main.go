// Command bench compares flatnet with floor/floor.c, the same work with the
// fewest system calls, and with that in Go (gofloor), with Debian's reference plugins
// and with netavark: whole processes, in turn, on hosts of their own, in one world. It asserts nothing.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"flatnet/tests/lab"
)

// A report is all that was measured.
type report struct {
	Rows     []row
	Start    []row // programs that do nothing, VERSION and STATUS
	Scale    []point
	Parallel []point
	Ports    []fact
	Path     []flow
	Where    []spent
	Calls    []tallied
	Quick    bool
	Peers    []string // packages
}

// A fact is one measured number.
type fact struct {
	Name  string
	Value float64
	Unit  string
}

func main() {
	lab.Main()
	quick := flag.Bool("quick", false, "a minute or two instead of a quarter of an hour")
	write := flag.String("write", "", "also write the results to this document, and the plot beside it")
	inside := flag.String("inside", "", "measure; only for bench itself")
	flag.Parse()
	if *inside != "" {
		if err := beInside(*inside); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	var s lab.Script
	defer s.Close()
	if err := compare(&s, *quick, *write); err != nil {
		s.Fatalf("bench: %v", err)
	}
}

func compare(s *lab.Script, quick bool, write string) error {
	w, err := prepare(s)
	if err != nil {
		return err
	}
	w.Quick = quick
	self, err := os.Executable()
	if err != nil {
		return err
	}
	arg, err := json.Marshal(w)
	if err != nil {
		return err
	}
	cmd := lab.New(s).Cmd(self, "-inside", string(arg))
	cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		return err
	}
	if r.Peers, err = w.packages(); err != nil {
		return err
	}
	fmt.Print(r.text())
	if write == "" {
		return nil
	}
	return r.document(write)
}

// packages are Debian's packages of the rivals, with their versions.
func (w world) packages() ([]string, error) {
	var found []string
	for _, root := range w.roots() {
		list, err := os.ReadFile(filepath.Join(root, "packages"))
		if err != nil {
			return nil, err
		}
		for _, file := range strings.Fields(string(list)) {
			name, rest, _ := strings.Cut(file, "_")
			version, _, _ := strings.Cut(rest, "_")
			switch name {
			case "containernetworking-plugins", "netavark", "iptables", "nftables":
				found = append(found, filepath.Base(root)+": "+name+" "+version)
			}
		}
	}
	return found, nil
}

// prepare builds the small programs and finds the others.
func prepare(s *lab.Script) (world, error) {
	dir := s.TempDir()
	var w world
	cache, err := os.UserCacheDir()
	if err != nil {
		return w, err
	}
	flatnet, err := filepath.Abs("../bin/flatnet")
	if err != nil {
		return w, err
	}
	peers := filepath.Join(cache, "flatnet-tests", "bench")
	w = world{Flatnet: flatnet, Floor: filepath.Join(dir, "floor"), GoFloor: filepath.Join(dir, "gofloor"), Empty: filepath.Join(dir, "empty"),
		Stable: filepath.Join(peers, "stable"), Sid: filepath.Join(peers, "sid"), Leases: filepath.Join(dir, "leases")}
	if dir := filepath.Join(peers, "experimental"); exists(dir) {
		w.Experimental = dir
	}
	if out, err := exec.Command("gcc", "-O2", "-static", "-s", "-o", w.Floor, "bench/floor/floor.c").CombinedOutput(); err != nil {
		return w, fmt.Errorf("floor.c: %w: %s", err, out)
	}
	for _, program := range []string{w.Empty, w.GoFloor} {
		// As the Makefile does: a copy of what the linker wrote starts faster.
		build := exec.Command("sh", "-ec", `go build -trimpath -ldflags "-s -w" -o "$1.linked" "./bench/$(basename "$1")" && cp "$1.linked" "$1"`, "sh", program)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return w, fmt.Errorf("%s: %w: %s", filepath.Base(program), err, out)
		}
	}
	return w, errors.Join(os.MkdirAll(w.leases("floor"), 0o700), os.MkdirAll(w.leases("gofloor"), 0o700))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
