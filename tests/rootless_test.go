package tests

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"flatnet/tests/lab"
)

// A tenant is an unprivileged user of a world, as root of a user namespace with a
// network namespace of its own: what a rootless runtime gives to plugins.
type tenant struct {
	box
	home, runtime string
	env           []string // the command that enters the namespaces
}

// tenant makes the namespaces of a user ID that has no account. A kernel that refuses
// them skips the test.
func (b box) tenant(uid string, environ ...string) tenant {
	b.t.Helper()
	u := tenant{box: b, home: "/run/home/" + uid, runtime: "/run/user/" + uid}
	b.Sh(fmt.Sprintf("mkdir -p %[1]s %[2]s; chmod 700 %[1]s %[2]s; chown %[3]s:%[3]s %[1]s %[2]s", u.home, u.runtime, uid))
	cmd := b.Cmd("setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "unshare", "-rnm", "sh", "-c", "ip link set lo up && echo $$ && exec cat")
	in, err := cmd.StdinPipe()
	out, oerr := cmd.StdoutPipe()
	if err != nil || oerr != nil {
		b.t.Fatal(err, oerr)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	pid, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		io.Copy(io.Discard, out)
		b.t.Skipf("NO USER NAMESPACES FOR UNPRIVILEGED USERS HERE: %v", err)
	}
	if environ == nil {
		environ = []string{"HOME=" + u.home, "XDG_RUNTIME_DIR=" + u.runtime}
	}
	u.env = append([]string{"nsenter", "-t", strings.TrimSpace(pid), "-U", "-m", "-n", "-S", "0", "-G", "0", "--", "env", "-u", "XDG_RUNTIME_DIR", "-u", "HOME"}, environ...)
	return u
}

// run runs a command in the namespaces, which must succeed.
func (u tenant) run(args ...string) string {
	u.t.Helper()
	return u.Run(append(u.env, args...)...)
}

func (u tenant) sh(script string) string { return u.run("sh", "-ec", script) }

// netns makes a container's namespace, which is a mount in the tenant's own.
func (u tenant) netns(name string) string {
	u.t.Helper()
	path := u.runtime + "/netns-" + name
	u.sh("touch " + path + "; unshare --net=" + path + " true")
	return path
}

// call makes a call of the plugin for eth0 of the container id.
func (u tenant) call(command, id, conf string) lab.Reply {
	u.t.Helper()
	c := call(command, id)
	c.NetNS, c.Conf = u.runtime+"/netns-"+id, conf
	return u.Call(program, c, u.env...)
}

// do is call for one that must succeed and warn of nothing.
func (u tenant) do(command, id, conf string) lab.Reply {
	u.t.Helper()
	r := u.call(command, id, conf)
	if r.Exit != 0 || r.Stderr != "" {
		u.t.Fatalf("%s %s: exit %d: %s%s", command, id, r.Exit, r.Stdout, r.Stderr)
	}
	return r
}

// ping sends echo requests from a container.
func (u tenant) ping(from, to string) {
	u.t.Helper()
	err := lab.Until(5*time.Second, func() error {
		_, err := u.Try(append(u.env, "nsenter", "--net="+u.runtime+"/netns-"+from, "ping", "-c1", "-W1", to)...)
		return err
	})
	if err != nil {
		u.t.Error(err)
	}
}

// plugin calls netavark's door.
func (u tenant) plugin(stdin string, args ...string) string {
	u.t.Helper()
	cmd := u.Cmd(append(append(u.env, program), args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		u.t.Fatalf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

// The host's root and two users use the network "flatnet" of one machine at once, each
// with leases of its own.
func TestRootless(t *testing.T) {
	b := newBox(t)
	b.attach("rooted")
	before := b.state() + b.Sh("find /run/flatnet -ls")
	for _, uid := range []string{"65534", "54321"} {
		u := b.tenant(uid)
		for i, id := range []string{"a", "b"} {
			u.netns(id)
			if r := u.do("ADD", id, lab.Conf); r.Addr() != fmt.Sprint("10.87.1.", i+2) {
				t.Errorf("user %s, container %s: %s", uid, id, r.Addr())
			}
		}
		u.verbs()
		u.netavark()
		u.last()
	}
	if after := b.state() + b.Sh("find /run/flatnet -ls"); after != before {
		t.Errorf("the host's was\n%s\nand now is\n%s", before, after)
	}
	b.do(call("DEL", "rooted"))
}

// verbs makes the calls of CNI, and the commands for people, about containers a and b.
func (u tenant) verbs() {
	u.t.Helper()
	u.ping("a", "10.87.1.3")
	u.ping("a", gateway)
	u.netns("c")
	keys := conf(`"ipMasq":true`)
	later := lab.WithPrev(keys, u.do("ADD", "c", keys))
	u.do("CHECK", "c", later)
	if out := u.run(program, "list"); strings.Count(out, "fn-") != 3 {
		u.t.Errorf("list: %s", out)
	}
	u.run("nft", "flush", "ruleset")
	if r := u.call("CHECK", "c", later); r.Exit == 0 {
		u.t.Error("CHECK misses no rule")
	}
	if out := u.run(program, "reload"); !strings.Contains(out, "mended") {
		u.t.Errorf("reload: %s", out)
	}
	u.do("CHECK", "c", later)
	u.do("STATUS", "", newer(lab.Conf))
	u.do("DEL", "c", later)
	u.do("GC", "", gc(lab.Conf, "a").Conf)
	if got := u.leasesIn(u.home + "/.local/share/flatnet/ipam/allocations.json"); len(got) != 1 || got["a"] != "10.87.1.2" {
		u.t.Errorf("leases of the user: %v", got)
	}
}

// netavark attaches and detaches a container through netavark's door.
func (u tenant) netavark() {
	u.t.Helper()
	u.netns("nv")
	network := u.plugin(`{"name":"second","driver":"flatnet"}`, "create")
	if !strings.Contains(network, `"subnet":"10.87.2.0/24"`) {
		u.t.Fatalf("create: %s", network)
	}
	exec := `{"container_id":"nv","network":` + network + `,"network_options":{"interface_name":"eth0"},
		"port_mappings":[{"container_port":80,"host_port":8092,"protocol":"tcp","range":1}]}`
	if out := u.plugin(exec, "setup", u.runtime+"/netns-nv"); !strings.Contains(out, "10.87.2.2/24") {
		u.t.Errorf("setup: %s", out)
	}
	u.ping("nv", "10.87.2.1")
	u.sh("nft list ruleset | grep -q 8092")
	if out := u.plugin(exec, "teardown", u.runtime+"/netns-nv"); out != "" {
		u.t.Errorf("teardown: %s", out)
	}
}

// last removes the last container: nothing is left but what only the user can read.
func (u tenant) last() {
	u.t.Helper()
	u.do("DEL", "a", lab.Conf)
	if out := u.sh("nft list ruleset; ip -br link | grep fn- || true; find " + u.runtime + "/flatnet -name 'flatnet' -mindepth 2"); out != "" {
		u.t.Errorf("left: %s", out)
	}
	if out := u.Sh("find " + u.home + " " + u.runtime + "/flatnet -perm /077 -o ! -uid $(stat -c %u " + u.home + ")"); out != "" {
		u.t.Errorf("open to other users: %s", out)
	}
}

// Where a user's leases are, and when there is no place for them.
func TestRootlessDirectories(t *testing.T) {
	b := newBox(t)
	b.attach("rooted")
	leases := b.leases()
	b.Sh("mkdir -p /run/elsewhere /run/others/flatnet/ipam; chown 54321 /run/elsewhere; chmod 777 /run/others/flatnet/ipam; ln -s /run/home /run/link")
	const run = "XDG_RUNTIME_DIR=/run/user/54321"
	for _, tt := range []struct {
		name, setup string
		environ     []string
		leases      string // or else the error
		refused     string
	}{
		{"XDG_DATA_HOME", "", []string{run, "XDG_DATA_HOME=/run/elsewhere/data", "HOME=/run/home/54321"}, "/run/elsewhere/data/flatnet/ipam", ""},
		{"a home behind a link of root's", "", []string{run, "HOME=/run/link/54321"}, "/run/home/54321/.local/share/flatnet/ipam", ""},
		{"another's home", "", []string{run, "HOME=/root"}, "/run/user/54321/flatnet/ipam", ""},
		{"no home, and a /run of its own", "mount -t tmpfs tmpfs /run; mkdir -p /run/user/54321", []string{"A=b"}, "/run/flatnet/ipam", ""},
		{"a /var/lib of its own", "mount -t tmpfs tmpfs /var/lib", []string{run, "HOME=/run/home/54321"}, "/var/lib/flatnet/ipam", ""},
		{"another's directory", "", []string{"XDG_DATA_HOME=/run/others"}, "", "/run/others/flatnet/ipam belongs to user"},
		{"none", "", []string{"A=b"}, "", "/run/flatnet/ipam: permission denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := b.in(t).tenant("54321", tt.environ...)
			u.sh(tt.setup + "\ntrue")
			u.netns("a")
			r := u.call("ADD", "a", lab.Conf)
			if tt.refused != "" {
				if r.Exit == 0 || !strings.Contains(r.Msg, tt.refused) || u.sh("ip -br link | grep -v ^lo || true") != "" {
					t.Errorf("exit %d: %s", r.Exit, r.Stdout)
				}
				return
			}
			if out := u.sh("cat " + tt.leases + "/allocations.json"); r.Exit != 0 || !strings.Contains(out, `"a": "10.87.1.2"`) {
				t.Errorf("ADD: %d %s; leases: %s", r.Exit, r.Stdout, out)
			}
			u.do("CHECK", "a", lab.WithPrev(lab.Conf, r))
			u.do("DEL", "a", lab.Conf)
			var file struct{ Allocations map[string]string }
			if fromJSON(t, u.sh("cat "+tt.leases+"/allocations.json"), &file); len(file.Allocations) != 0 {
				t.Errorf("after DEL: %v", file.Allocations)
			}
		})
	}
	if now := b.leases(); fmt.Sprint(now) != fmt.Sprint(leases) {
		t.Errorf("leases of the host's root were %v and are %v", leases, now)
	}
}

// The host's root may have inherited the environment of a rootless Podman: its leases are
// the system's all the same.
func TestRootWithTheEnvironmentOfAUser(t *testing.T) {
	b := newBox(t)
	b.NetNS("c1")
	r := b.Call(program, call("ADD", "c1"), "env", "_CONTAINERS_USERNS_CONFIGURED=done", "HOME=/run/home", "XDG_RUNTIME_DIR=/run/user")
	if r.Exit != 0 || b.leases()["c1"] != r.Addr() {
		t.Errorf("exit %d: %s; leases %v", r.Exit, r.Stdout, b.leases())
	}
	b.do(call("DEL", "c1"))
	if left := b.leases(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
