package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// module is what the report is about: tests that end in each way, of which one
// leaves an orphan and waits until that is reaped, and a package that does not
// build.
var module = map[string]string{
	"go.mod":           "module example\n\ngo 1.26.0\n",
	"bad/bad_test.go":  "package bad\n\nfunc nothing() { undefined() }\n",
	"dead/end_test.go": "package dead\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestEndsAll(t *testing.T) { os.Exit(3) }\n",
	"good/good_test.go": `package good

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestPasses(t *testing.T) { t.Log("unheard") }

func TestFails(t *testing.T) {
	t.Run("part", func(t *testing.T) { t.Error("this is wrong") })
}

func TestKernels(t *testing.T)   { t.Skip("no mirror") }
func TestSkips(t *testing.T)     { t.Skip("for no reason") }

func TestIsSlow(t *testing.T) {
	exec.Command("sleep", "1").Run()
}

func TestOrphan(t *testing.T) {
	out, err := exec.Command("sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!").Output()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	status := "/proc/" + strconv.Itoa(pid) + "/status"
	text, err := os.ReadFile(status)
	if err != nil {
		t.Fatal(err)
	}
	_, parent, _ := strings.Cut(string(text), "PPid:\t")
	parent, _, _ = strings.Cut(parent, "\n")
	if name, err := os.ReadFile("/proc/" + parent + "/comm"); string(name) != "report\n" {
		t.Errorf("the orphan's parent is %s: %s %v", parent, name, err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; {
		text, err := os.ReadFile(status)
		if err != nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the orphan is still there: %s", text)
		}
	}
}
`,
}

func TestReport(t *testing.T) {
	dir := t.TempDir()
	for name, content := range module {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(dir, "report")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.Command(program, dir).CombinedOutput()
	if exit, failed := err.(*exec.ExitError); !failed || exit.ExitCode() != 1 {
		t.Errorf("report ends with %v", err)
	}
	said := string(out)
	if !strings.HasSuffix(said, "\n3 passed, 2 failed, 2 skipped\n") {
		t.Errorf("the last line does not count")
	}
	shown, again, ok := strings.Cut(said, "\n=== what failed, once more\n")
	for _, want := range []string{"this is wrong", "for no reason", "undefined: undefined", "--- FAIL: TestFails/part"} {
		if !strings.Contains(shown, want) || !strings.Contains(again, want) {
			t.Errorf("%q is not shown, or not once more", want)
		}
	}
	for _, want := range []string{"TestIsSlow", "(may be skipped: qemu", "FAIL\texample/dead"} {
		if !strings.Contains(shown, want) || strings.Contains(again, want) {
			t.Errorf("%q is not shown, or shown once more", want)
		}
	}
	if !strings.Contains(again, "example/dead TestEndsAll did not end") || strings.Contains(said, "unheard") {
		t.Errorf("of what did not end nothing is said")
	}
	if t.Failed() || !ok {
		t.Errorf("the report is\n%s", said)
	}
}
