package tests

import (
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"flatnet/tests/lab"
	"flatnet/tests/oci"
)

// A life is what a network sees of flatnet: every verb of both doors and every command
// for people, well and badly called. run runs flatnet and returns its exit status.
type life struct {
	box
	run  func(env []string, stdin string, args ...string) (out string, status int)
	said map[string]int // the exit status of every command for people
}

// plain and rich are two containers of a network that has everything that a configuration
// can ask of the kernel, except VLANs, which not every kernel has.
var (
	plain = withKeys(dual, `"macspoofchk":true,"portIsolation":true,"forwardAccept":true`)
	rich  = withKeys(plain, `"enabledad":true,"runtimeConfig":{"portMappings":[`+mapping(8080, 80, "")+","+mapping(8053, 53, `,"protocol":"udp"`)+`],
		"bandwidth":{"ingressRate":1000000,"egressRate":1000000}}`)
)

// cni calls the plugin, which must succeed, or else fail.
func (l life) cni(c lab.Call, fails bool) lab.Reply {
	l.t.Helper()
	out, status := l.run(c.Env(), c.Conf)
	if (status != 0) != fails {
		l.t.Fatalf("%s %s: exit %d: %s", c.Command, c.ID, status, out)
	}
	r := lab.Reply{Stdout: out}
	if out != "" {
		fromJSON(l.t, out, &r)
	}
	return r
}

// live goes through all of it, and leaves nothing.
func (l life) live() {
	l.t.Helper()
	l.NetNS("c1")
	l.NetNS("c2")
	l.throughCNI()
	l.throughNetavark()
	l.clean()
}

func (l life) throughCNI() {
	l.t.Helper()
	c1, c2 := call("ADD", "c1"), call("ADD", "c2")
	c1.Conf, c2.Conf = rich, plain
	l.cni(lab.Call{Command: "VERSION", Conf: lab.Conf}, false)
	l.cni(lab.Call{Command: "STATUS", Conf: newer(rich)}, false)
	added := l.cni(c1, false)
	l.cni(c2, false)
	l.cni(c1, true) // it is there
	gone := call("ADD", "c3")
	l.cni(gone, true) // no such namespace
	gone.Conf = "{"
	l.cni(gone, true)
	if err := l.Ping(added.Addr()); err != nil {
		l.t.Error(err)
	}
	l.Run("nft", "flush", "ruleset")
	l.people()
	check := c1
	check.Command, check.Conf = "CHECK", lab.WithPrev(rich, added)
	l.cni(check, false)
	l.cni(gc(plain, "c1"), false)
	c1.Command, c2.Command = "DEL", "DEL"
	l.cni(c2, false) // which GC has removed
	l.cni(c1, false)
	c1.NetNS = ""
	l.cni(c1, false)
	// A torn lease file is set aside, and a directory that others could enter is closed.
	l.Write(leaseFile, "{")
	l.Sh("chmod 755 /run/flatnet /run/flatnet/*; chmod 777 /var/lib/flatnet/ipam")
	c2.Command = "ADD"
	l.cni(c2, false)
	c2.Command = "DEL"
	l.cni(c2, false)
}

// listed is a line of the help that names a command.
var listed = regexp.MustCompile(`(?m)^  ([a-z]+)  `)

// people runs every command of the help. It has those here with the arguments that make
// them do something, and all others without any.
func (l life) people() {
	l.t.Helper()
	arguments := map[string][][]string{
		"list": {{"--json"}}, "show": {{"flatnet"}, {"--dot"}}, "completion": {{"bash"}}, "help": {{"list"}}, "trace": {{"status"}},
		"gc": {{"--yes"}}, "publish": {{"c2", "8090:80"}}, "unpublish": {{"c2", "8090"}},
	}
	l.configured()
	help, status := l.run(nil, "", "help")
	names := listed.FindAllStringSubmatch(help, -1)
	if status != 0 || len(names) < 8 {
		l.t.Fatalf("help: exit %d: %s", status, help)
	}
	// The rules are flushed: the others see what a reload mends.
	names = append(names, []string{"", "reload"}, []string{"", "status"}, []string{"", "doctor"})
	for _, name := range names {
		for _, args := range append(arguments[name[1]], nil) {
			_, l.said[strings.Join(append([]string{name[1]}, args...), " ")] = l.run(nil, "", append([]string{name[1]}, args...)...)
		}
	}
	if out, status := l.run(nil, "", "lsit"); status != 2 {
		l.t.Errorf("lsit: exit %d: %s", status, out)
	}
}

// configured makes the configuration that flatnet plan reads.
func (b box) configured() {
	b.t.Helper()
	b.Run("mkdir", "-p", "/etc/cni/net.d")
	b.Write("/etc/cni/net.d/87-flatnet.conflist", `{"cniVersion":"1.0.0","name":"flatnet","plugins":[{"type":"flatnet"}]}`)
}

func (l life) throughNetavark() {
	l.t.Helper()
	network := `{"name":"flatnet","id":"f1a7","driver":"flatnet","subnets":[{"subnet":"10.87.1.0/24"}],
		"dns_enabled":false,"internal":false,"ipv6_enabled":false}`
	for _, c := range []struct {
		stdin  string
		status int
		args   []string
	}{
		{"", 0, []string{"info"}},
		{network, 0, []string{"create"}},
		{"{}", 1, []string{"create"}},
		{podmanSays, 0, []string{"setup", "/run/netns/c1"}},
		{podmanSays, 1, []string{"setup", "/run/netns/none"}},
		{podmanSays, 0, []string{"teardown", "/run/netns/c1"}},
		{"{", 1, []string{"teardown", "/run/netns/c1"}},
	} {
		if out, status := l.run(nil, c.stdin, c.args...); status != c.status {
			l.t.Fatalf("%v: exit %d: %s", c.args, status, out)
		}
	}
}

// invoke runs a command on the box's host, whose exit status is its affair.
func (b box) invoke(env []string, stdin string, args ...string) (out string, status int) {
	b.t.Helper()
	cmd := b.Cmd(args...)
	cmd.Env = append(slices.Clone(env), "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	data, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		b.t.Fatalf("%v: %v", args, err)
	}
	if stderr.Len() > 0 {
		b.t.Logf("%v %v: exit %d: %s", env, args, cmd.ProcessState.ExitCode(), stderr.String())
	}
	return string(data), cmd.ProcessState.ExitCode()
}

// An image is a root file system with one program and nothing else, and the directory of
// a bundle around it (bundle.md of the OCI specification).
type image struct {
	box
	bundle  string
	program string // its path in there
	oci.Container
}

// needs are the capabilities of the document.
var needs = []string{"CAP_NET_ADMIN", "CAP_SYS_ADMIN"}

// image makes a root file system with a program.
func (b box) image(file string) image {
	b.t.Helper()
	i := image{box: b, bundle: "/run/bundle-" + filepath.Base(file), program: "/program"}
	i.Root, i.Cgroup = i.bundle+"/rootfs", strings.TrimPrefix(b.Cgroup(), "--cgroup-parent=")+i.bundle
	i.Capabilities = needs
	b.Run("mkdir", "-p", i.Root)
	b.Run("cp", file, i.Root+i.program)
	return i
}

// runc runs the image's program in a container of its own.
func (i image) runc(env []string, stdin string, args ...string) (string, int) {
	i.t.Helper()
	i.Args, i.Env = append([]string{i.program}, args...), env
	i.Write(i.bundle+"/config.json", string(i.Config()))
	return i.invoke(nil, stdin, "runc", "--root", "/run/runc", "run", "--bundle", i.bundle, "one")
}

// The binary alone, in a root file system that can't be written to and in which there is
// nothing but /proc and the directories of the document, with two capabilities and the
// profile, does all that it does elsewhere.
func TestScratchImage(t *testing.T) {
	b := newBox(t)
	i := b.image(program)
	i.Seccomp = committed(t, "docs/seccomp.json")
	i.Binds = []string{"/run/netns", "/run/flatnet", "/var/lib/flatnet"}
	b.Run("mkdir", "-p", "-m", "700", "/run/netns", "/run/flatnet")
	l := life{box: b, said: map[string]int{}, run: func(env []string, stdin string, args ...string) (string, int) {
		out, status := i.runc(env, stdin, args...)
		if strings.Contains(out, "not permitted") {
			t.Errorf("%v %v: %s", env, args, out)
		}
		return out, status
	}}
	l.live()
	for command, want := range map[string]int{"list": 0, "list --json": 0, "show flatnet": 0, "status": 0, "reload": 0, "doctor": 0, "version": 0, "help": 0,
		"publish c2 8090:80": 0, "unpublish c2 8090": 0, "trace status": 0} {
		if got, ok := l.said[command]; !ok || got != want {
			t.Errorf("flatnet %s: exit %d (run: %v)", command, got, ok)
		}
	}
	got := b.Run("find", i.Root, "-type", "f", "-printf", "%P ")
	if got != "program " {
		t.Errorf("the image has %s", got)
	}
}

// What the profile is for: whoever takes over flatnet can't make other calls.
func TestSeccompProfileDenies(t *testing.T) {
	b := newBox(t)
	i := b.image(tool(t, "probe"))
	free, _ := i.runc(nil, "")
	for _, done := range []string{"fork", "socket AF_INET", "unshare", "kill"} {
		if !strings.Contains(free, done+": done\n") {
			t.Errorf("without the profile: no %s in\n%s", done, free)
		}
	}
	i.Seccomp = committed(t, "docs/seccomp.json")
	out, status := i.runc(nil, "")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if status != 0 || len(lines) != strings.Count(free, "\n") {
		t.Fatalf("exit %d: %s", status, out)
	}
	for _, line := range lines {
		want := ": operation not permitted"
		if strings.HasPrefix(line, "allowed") {
			want = ": done"
		}
		if !strings.HasSuffix(line, want) {
			t.Error(line)
		}
	}
}

// The Containerfile and the commands of the document, by a Podman of Debian 13: a container
// of the binary alone restores the rules of another container.
func TestEmbeddingDocument(t *testing.T) {
	b := newBox(t)
	podman := b.debianPodman("trixie")
	podman.Do("network", "create", "--driver", "flatnet", "flatnet")
	podman.Start("c1", "-p", "8080:80")
	host := box{podman.World, t}
	host.Sh("mkdir -p /run/netns /tmp/build; cp -r " + lab.Repository + "/bin " + lab.Repository + "/docs /tmp/build")
	document := output(t, root, "cat", "docs/embedding.md")
	block := func(begin string) string {
		_, from, _ := strings.Cut(document, "\n```\n"+begin)
		text, _, _ := strings.Cut(from, "\n```\n")
		return begin + text + "\n"
	}
	host.Write("/tmp/build/Containerfile", block("FROM scratch"))
	commands := strings.Replace(block("podman build"), "podman run ", "podman run "+b.Cgroup()+" ", 1)
	rules := host.Run("nft", "list", "ruleset")
	host.Run("nft", "flush", "ruleset")
	out := host.Sh("cd /tmp/build; " + commands)
	if !strings.Contains(out, "table ip flatnet.ports") {
		t.Errorf("flatnet reload: %q", out)
	}
	if after := host.Run("nft", "list", "ruleset"); len(after) != len(rules) {
		t.Errorf("the rules were\n%s\nand are\n%s", rules, after)
	}
}

// Without /proc, flatnet says so and makes nothing: once it made a directory /dev/null,
// which no later container of that root could use.
func TestRootWithoutProc(t *testing.T) {
	b := newBox(t)
	b.NetNS("c1")
	i := b.image(program)
	bare := func(c lab.Call) (lab.Reply, int) {
		out, status := b.invoke(c.Env(), c.Conf, "chroot", i.Root, "/program")
		r := lab.Reply{}
		if out != "" {
			fromJSON(t, out, &r)
		}
		return r, status
	}
	add := call("ADD", "c1")
	if r, status := bare(add); status == 0 || r.Code != 5 || !strings.Contains(r.Msg, "/proc/") {
		t.Errorf("ADD: exit %d: %+v", status, r)
	}
	if r, status := bare(call("DEL", "c1")); status != 0 {
		t.Errorf("DEL: exit %d: %s", status, r.Msg)
	}
	for _, command := range []string{"list", "status", "reload", "doctor"} {
		b.invoke(nil, "", "chroot", i.Root, "/program", command)
	}
	if made := b.Run("find", i.Root, "-mindepth", "1", "-maxdepth", "1", "!", "-name", "var", "!", "-name", "run", "-printf", "%f "); made != "program " {
		t.Errorf("the root has %s", made)
	}
	b.clean()
}
