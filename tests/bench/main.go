// Command bench compares flatnet's ADD and DEL with floor/floor.c, the same
// work with the fewest system calls, and with Debian's bridge + host-local:
// whole processes, interleaved, medians. It asserts nothing about time.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"flatnet/tests/lab"
)

// floorSource is the yardstick.
const floorSource = "bench/floor/floor.c"

func main() {
	lab.Main()
	if len(os.Args) == 2 { // in the world: measure, and tell the rows
		var rivals []rival
		if err := json.Unmarshal([]byte(os.Args[1]), &rivals); err != nil {
			fail(err)
		}
		rows, err := measure(rivals)
		if err != nil {
			fail(err)
		}
		if err := json.NewEncoder(os.Stdout).Encode(rows); err != nil {
			fail(err)
		}
		return
	}
	var s lab.Script
	defer s.Close()
	if err := compare(&s); err != nil {
		s.Fatalf("bench: %v", err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

func compare(s *lab.Script) error {
	rivals, err := field(s)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	arg, err := json.Marshal(rivals)
	if err != nil {
		return err
	}
	var rows []row
	if err := json.Unmarshal([]byte(lab.New(s).Run(self, string(arg))), &rows); err != nil {
		return err
	}
	show(rows)
	return facts()
}

// A rival is a plugin to measure.
type rival struct {
	Name, Program, Conf string
	Env                 []string
}

// field is who takes part; all keep their leases on the same file system.
func field(s *lab.Script) ([]rival, error) {
	dir := s.TempDir()
	program, err := filepath.Abs("../bin/flatnet")
	if err != nil {
		return nil, err
	}
	bridge := func(name, masq string) rival {
		return rival{Name: name, Program: "/usr/lib/cni/bridge", Conf: fmt.Sprintf(`{"cniVersion":"1.0.0","name":"debian%s","type":"bridge",
			"bridge":"deb-%s","isGateway":true,"isDefaultGateway":true,"ipMasq":%s,
			"ipam":{"type":"host-local","subnet":"10.89.0.0/16","dataDir":"%s/%s"}}`, masq, masq, masq, dir, name)}
	}
	rivals := []rival{
		{Name: "flatnet", Program: program, Conf: fmt.Sprintf(`{"cniVersion":"1.0.0","name":"flatnet","type":"flatnet",
			"ipam":{"type":"flatnet-ipam","subnet":"10.87.0.0/16","dataDir":"%s/flatnet"}}`, dir)},
		bridge("bridge+host-local", "false"),
		bridge("the same with ipMasq", "true"),
	}
	floor := filepath.Join(dir, "floor")
	if out, err := exec.Command("gcc", "-O2", "-static", "-s", "-o", floor, floorSource).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("floor.c: %w: %s", err, out)
	}
	if err := os.Mkdir(filepath.Join(dir, "floor.d"), 0o700); err != nil {
		return nil, err
	}
	f := rival{Name: "floor", Program: floor, Env: []string{"FLOOR_BRIDGE=floor0", "FLOOR_LEASES=" + dir + "/floor.d"}}
	return append([]rival{f}, rivals...), nil
}

func show(rows []row) {
	fmt.Printf("%-22s %8s %8s %8s %8s %9s %9s %8s\n", "medians of "+fmt.Sprint(rounds), "ADD ms", "x first", "DEL ms", "x first", "syscalls", "children", "RSS MB")
	for _, r := range rows {
		fmt.Printf("%-22s %8.2f %8.2f %8.2f %8.2f %9d %9d %8.1f\n", r.Name, r.Add, r.Add/rows[0].Add, r.Del, r.Del/rows[0].Del,
			r.Syscalls, r.Children, float64(r.RSS)/1024)
	}
}

// facts prints the sizes of the binary and of the code.
func facts() error {
	info, err := os.Stat("../bin/flatnet")
	if err != nil {
		return err
	}
	var code, tests int
	err = filepath.WalkDir("..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		content, err := os.ReadFile(path)
		lines := strings.Count(string(content), "\n")
		if strings.HasPrefix(path, "../tests/") || strings.HasSuffix(path, "_test.go") {
			tests += lines
		} else {
			code += lines
		}
		return err
	})
	fmt.Printf("binary %d bytes; %d lines of code, %d of tests\n", info.Size(), code, tests)
	return err
}
