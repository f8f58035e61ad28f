package tests

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"flatnet/tests/lab"
	"flatnet/tests/oci"
)

const childrenFile = "docs/seccomp-children.json"

// family is the life of networks for which flatnet starts other programs: Debian 12's
// aardvark-dns for names, and its host-local for addresses. It returns how many ADDs had
// names. run returns at the reply.
func family(t *testing.T, run func(env []string, stdin string) (out string, status int)) (named int) {
	t.Helper()
	names := conf(`"dnsEnabled":true`)
	delegated := conf(`"ipam":{"type":"host-local","subnet":"10.87.1.0/24"}`)
	for _, step := range []struct{ verb, id, conf string }{
		{"ADD", "c1", names}, {"ADD", "c2", names}, {"DEL", "c2", names}, {"DEL", "c1", names},
		{"ADD", "c1", delegated}, {"DEL", "c1", delegated},
	} {
		c := call(step.verb, step.id)
		c.Conf, c.Args = step.conf, "IgnoreUnknown=1;K8S_POD_NAME="+step.id
		out, status := run(c.Env(), c.Conf)
		if status != 0 {
			t.Fatalf("%s %s %s: exit %d: %s", step.verb, step.id, step.conf, status, out)
		}
		if strings.Contains(out, `"nameservers":["10.87.1.1"]`) {
			named++
		}
	}
	return named
}

// The profile for networks for which flatnet starts other programs has all that these
// call, and does as runc applies it. Nothing is said of what it has and was not called,
// since that depends on the threads of those programs.
func TestSeccompChildrenProfile(t *testing.T) {
	b := newBox(t)
	host := box{b.debianPodman("bookworm").World, t}
	host.Sh("mkdir -p /run/netns; ip netns add c1; ip netns add c2")
	childrenTraced(t, host)
	childrenConfined(t, host, strings.TrimPrefix(b.Cgroup(), "--cgroup-parent="))
}

func childrenTraced(t *testing.T, host box) {
	t.Helper()
	var running []*exec.Cmd
	var traces []string
	family(t, func(env []string, stdin string) (string, int) {
		trace := filepath.Join(t.TempDir(), "trace")
		traces = append(traces, trace)
		inside := host.Cmd(installed)
		cmd := exec.Command("strace", slices.Concat([]string{"-f", "-qq", "-y", "--pidns-translation", "-o", trace}, inside.Args)...)
		cmd.Env, cmd.Stdin = append(env, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"), strings.NewReader(stdin)
		reply, status := started(t, cmd)
		running = append(running, cmd)
		return reply, status
	})
	names := committed(t, "docs/seccomp.json").Allowed()
	own := ""
	for i, cmd := range running {
		cmd.Wait() // of the server as well, which the last DEL ends
		trace := afterExec(t, traces[i])
		maps.Copy(names, callNames(trace))
		own += ofOneProcess(trace)
	}
	namesPathsAreDocumented(t, own)
	if os.Getenv("FLATNET_WRITE") != "" {
		writeChildren(t, names)
	}
	got := committed(t, childrenFile).Allowed()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !got[name] {
			t.Errorf("%s was called, and %s lacks it: make seccomp, and look at the difference", name, childrenFile)
		}
	}
}

// started starts a command that may leave a process with its output behind, and returns
// once flatnet, whose reply is one line or none, has ended.
func started(t *testing.T, cmd *exec.Cmd) (reply string, status int) {
	t.Helper()
	cmd.WaitDelay = 10 * time.Second
	file, err := os.Create(filepath.Join(t.TempDir(), "reply"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd.Stdout, cmd.Stderr = file, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	if !slices.Contains(cmd.Env, "CNI_COMMAND=ADD") {
		err := cmd.Wait()
		said, _ := os.ReadFile(file.Name())
		if err != nil {
			return string(said), 1
		}
		return string(said), 0
	}
	err = lab.Until(time.Minute, func() error {
		said, err := os.ReadFile(file.Name())
		reply = string(said)
		return cmpErr(err, json.Unmarshal(said, new(lab.Reply)))
	})
	if err != nil || strings.Contains(reply, `"code":`) {
		return reply, 1
	}
	return reply, 0
}

// cmpErr is the first error.
func cmpErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// afterExec returns what a trace has of flatnet and of what it started, but not of the
// nsenter that started flatnet.
func afterExec(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	nsenter, _, _ := strings.Cut(string(data), " ")
	var lines []string
	started := false
	for line := range strings.Lines(whole(string(data))) {
		pid, _, _ := strings.Cut(line, " ")
		started = started || strings.Contains(line, `execve("`+installed+`"`)
		if started && pid != nsenter {
			lines = append(lines, line)
		}
	}
	if !started {
		t.Fatalf("flatnet was not executed: %s", data)
	}
	return strings.Join(lines, "")
}

func callNames(trace string) map[string]bool {
	names := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\d+ +([a-z0-9_]+)\(`).FindAllStringSubmatch(trace, -1) {
		names[m[1]] = true
	}
	return names
}

// ofOneProcess returns the calls of the first process of a trace, with all its threads.
func ofOneProcess(trace string) string {
	first, _, _ := strings.Cut(trace, " ")
	own := map[string]bool{first: true}
	threads := regexp.MustCompile(`(?m)^(\d+) +clone3?\(.*CLONE_THREAD.* = .*?(\d+)[^0-9]*$`).FindAllStringSubmatch(trace, -1)
	for range threads { // a thread's line may come before the one of its creator
		for _, m := range threads {
			own[m[2]] = own[m[2]] || own[m[1]]
		}
	}
	var lines []string
	for line := range strings.Lines(trace) {
		if pid, _, _ := strings.Cut(line, " "); own[pid] {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// writeChildren commits the profile, with what an earlier run has seen.
func writeChildren(t *testing.T, names map[string]bool) {
	t.Helper()
	file := filepath.Join(root, childrenFile)
	profile := *committed(t, "docs/seccomp.json")
	if data, err := os.ReadFile(file); err == nil {
		var earlier oci.Seccomp
		fromJSON(t, string(data), &earlier)
		maps.Copy(names, earlier.Allowed())
	}
	profile.Syscalls = []oci.Syscall{{Names: slices.Sorted(maps.Keys(names)), Action: "SCMP_ACT_ALLOW"}}
	text, _ := json.MarshalIndent(profile, "", "\t")
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// childrenConfined has runc apply the profile, in a container with Debian's programs.
func childrenConfined(t *testing.T, host box, cgroup string) {
	t.Helper()
	i := image{box: host, bundle: "/run/bundle-children", program: installed}
	i.Root, i.Cgroup = i.bundle+"/rootfs", cgroup+i.bundle
	i.Seccomp = committed(t, childrenFile)
	i.Capabilities = append(slices.Clone(needs), "CAP_NET_BIND_SERVICE")
	i.Binds = []string{"/run", "/var/lib/flatnet", "/var/lib/cni"}
	host.Sh("mkdir -p /run/flatnet /var/lib/cni " + i.Root + "; mount --bind / " + i.Root)
	// One is enough: on a busy machine a server may come too late for an ADD to wait.
	if named := family(t, func(env []string, stdin string) (string, int) { return i.runc(env, stdin) }); named == 0 {
		t.Error("no container got names")
	}
}
