package tests

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"flatnet/tests/oci"
)

// tracedLife runs a life under strace, and returns what it wrote of all calls through the
// doors, and of those that people make.
func tracedLife(t *testing.T) (doors, people string) {
	b := newBox(t)
	b.Run("mkdir", "/run/traces")
	calls := map[bool]int{} // whether through a door
	l := life{box: b, said: map[string]int{}, run: func(env []string, stdin string, args ...string) (string, int) {
		door := len(env) > 0 || strings.Contains("info create setup teardown", args[0])
		calls[door]++
		trace := fmt.Sprintf("/run/traces/%v%d", door, calls[door])
		return b.invoke(env, stdin, slices.Concat([]string{"strace", "-f", "-qq", "-y", "-o", trace, program}, args)...)
	}}
	l.live()
	all := map[bool]string{}
	for door, count := range calls {
		for n := range count {
			all[door] += whole(b.Read(fmt.Sprintf("/run/traces/%v%d", door, n+1)))
		}
	}
	return all[true], all[false]
}

// The committed profile is what the traces of all verbs have, and what the document adds
// with a reason.
func TestSeccompProfile(t *testing.T) {
	if _, err := os.Stat("/proc/sys/kernel/seccomp"); err != nil {
		t.Fatal(err)
	}
	doors, people := tracedLife(t)
	profile := made(t, callsIn(t, doors+people))
	file := filepath.Join(root, "docs", "seccomp.json")
	if os.Getenv("FLATNET_WRITE") != "" {
		text, _ := json.MarshalIndent(profile, "", "\t")
		if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	compare(t, profile, committed(t, file))
	pathsAreDocumented(t, doors, people)
}

// callsIn returns the names of the system calls of a trace, but that which started the
// program. It checks what the profile has of arguments.
func callsIn(t *testing.T, trace string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\d+ +([a-z0-9_]+)\((.*)$`).FindAllStringSubmatch(trace, -1) {
		name, args := m[1], m[2]
		switch {
		case name == "execve":
			continue
		case name == "socket" && !strings.HasPrefix(args, "AF_NETLINK,"), name == "clone" && !strings.Contains(args, "CLONE_THREAD"):
			t.Errorf("the profile does not allow %s(%s", name, args)
		}
		names[name] = true
	}
	return names
}

// made returns the profile for the calls of traces.
func made(t *testing.T, names map[string]bool) *oci.Seccomp {
	t.Helper()
	maps.Copy(names, documented(t))
	for _, limited := range []string{"clone", "socket"} {
		delete(names, limited)
	}
	allow := func(names ...string) oci.Syscall { return oci.Syscall{Names: names, Action: "SCMP_ACT_ALLOW"} }
	threads, netlink := allow("clone"), allow("socket")
	threads.Args = []oci.Arg{{Index: 0, Value: unix.CLONE_THREAD, ValueTwo: unix.CLONE_THREAD, Op: "SCMP_CMP_MASKED_EQ"}}
	netlink.Args = []oci.Arg{{Index: 0, Value: unix.AF_NETLINK, Op: "SCMP_CMP_EQ"}}
	return &oci.Seccomp{
		DefaultAction: "SCMP_ACT_ERRNO", DefaultErrnoRet: int(unix.EPERM), Architectures: []string{"SCMP_ARCH_X86_64"},
		Syscalls: []oci.Syscall{allow(slices.Sorted(maps.Keys(names))...), threads, netlink},
	}
}

// documented returns the calls that no trace need have, from the table of the document.
func documented(t *testing.T) map[string]bool {
	t.Helper()
	_, section, _ := strings.Cut(output(t, root, "cat", "docs/embedding.md"), "\n| added by hand | why |\n")
	table, _, _ := strings.Cut(section, "\n\n")
	names := map[string]bool{}
	for line := range strings.Lines(table) {
		cell, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
		for _, m := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllStringSubmatch(cell, -1) {
			names[m[1]] = true
		}
	}
	if !names["execve"] {
		t.Fatalf("docs/embedding.md has no table of calls added by hand")
	}
	return names
}

func committed(t *testing.T, file string) *oci.Seccomp {
	t.Helper()
	var profile oci.Seccomp
	fromJSON(t, output(t, root, "cat", file), &profile)
	return &profile
}

// compare fails unless the committed profile is the one made now.
func compare(t *testing.T, now, committed *oci.Seccomp) {
	t.Helper()
	want, got := now.Allowed(), committed.Allowed()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !got[name] {
			t.Errorf("%s was called, and the profile lacks it: make seccomp, and look at the difference", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if !want[name] {
			t.Errorf("%s is in the profile, and was not called: make seccomp, or document it", name)
		}
	}
	a, _ := json.Marshal(now)
	b, _ := json.Marshal(committed)
	if string(a) != string(b) && !t.Failed() {
		t.Errorf("the profile is\n%s\nand not\n%s", b, a)
	}
}
