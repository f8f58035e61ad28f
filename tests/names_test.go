package tests

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"flatnet/tests/lab"
)

// Container names by aardvark-dns 1.4 of Debian 12, 1.14 of Debian 13 and sid's:
// they differ in what they answer to the host, in the spelling of names, and in
// what they do if they can't listen.
func TestNames(t *testing.T) {
	t.Parallel()
	for _, suite := range []string{"bookworm", "trixie", "sid"} {
		t.Run(suite, func(t *testing.T) {
			b := newBox(t)
			podman := b.debianPodman(suite)
			if suite == "bookworm" {
				t.Run("by Podman", func(t *testing.T) { podmanNames(t, podman) })
			}
			for _, s := range []struct {
				name string
				run  func(named)
			}{
				{"in any spelling", named.spelling},
				{"that DNS can't hold", named.invalid},
				{"of a network that the server's file is named like", named.collision},
				{"while another holds the lock", named.lock},
				{"while a program of the host has port 53", named.portInUse},
				{"while a container publishes port 53", named.publishedPort},
				{"of a server that has ended", named.ended},
			} {
				t.Run(s.name, func(t *testing.T) {
					n := named{box{podman.World.In(t), t}, b.Place}
					defer func() { n.Sh("ip -all netns del; rm -rf /var/lib/flatnet/ipam") }()
					s.run(n)
				})
			}
		})
	}
}

// A named is a box whose containers have names.
type named struct {
	box
	host lab.Place // the same host, with the test's own program
}

// installed is where the roots of all suites have the plugin.
const installed = "/usr/local/bin/flatnet"

// soon is far above what an ADD takes, on any machine, and below the time for
// which a server was once waited for.
const soon = 3 * time.Second

// call is a call about a container of a name.
func (n named) call(command, id, keys string) lab.Call {
	c := call(command, strings.ToLower(id))
	c.Args = "IgnoreUnknown=1;K8S_POD_NAME=" + id
	c.Conf = conf(`"dnsEnabled":true` + keys)
	return c
}

// add attaches a container that must start at once. It returns the reply.
func (n named) add(id, keys string) lab.Reply {
	n.t.Helper()
	n.NetNS(strings.ToLower(id))
	n.t.Cleanup(func() { n.World.Call(installed, n.call("DEL", id, "")) })
	began := time.Now()
	r := n.World.Call(installed, n.call("ADD", id, keys))
	if took := time.Since(began); r.Exit != 0 || took > soon {
		n.t.Fatalf("ADD %s: %s%s after %v", id, r.Stdout, r.Stderr, took)
	}
	return r
}

// served fails unless the container got flatnet's name server, without a warning.
func (n named) served(r lab.Reply) {
	n.t.Helper()
	if !slices.Equal(r.DNS.Nameservers, []string{gateway}) || r.Stderr != "" {
		n.t.Errorf("name servers %v, stderr %q", r.DNS.Nameservers, r.Stderr)
	}
}

// lookup asks for a name in a container, and returns its address or "".
func (n named) lookup(from, name string) string {
	n.t.Helper()
	out, err := n.Try("ip", "netns", "exec", from, "busybox", "nslookup", name+".dns.podman", gateway)
	_, answer, _ := strings.Cut(out, "Name:")
	_, addr, _ := strings.Cut(answer, "Address: ")
	addr, _, _ = strings.Cut(addr, "\n")
	if addr == "" {
		n.t.Logf("%s asks for %s: %s, %v", from, name, out, err)
	}
	return addr
}

func (n named) found(from, name string, r lab.Reply) {
	n.t.Helper()
	if got := n.lookup(from, name); got != r.Addr() {
		n.t.Errorf("%s finds %s at %q, want %s", from, name, got, r.Addr())
	}
}

// podmanNames runs containers of Podman 4 in a network with names.
func podmanNames(t *testing.T, p lab.Podman) {
	p = p.In(t)
	p.World.Write("/etc/cni/net.d/88-named.conflist", `{"cniVersion":"1.0.0","name":"named","plugins":[{"type":"flatnet","bridge":"br8",
		"ipam":{"subnet":"10.87.8.0/24"},"dnsEnabled":true,"capabilities":{"aliases":true,"portMappings":true}}]}`)
	args := []string{"run", "-d", p.World.Cgroup(), "--network", "named"}
	p.Do(slices.Concat(args, []string{"--name", "Web", "--network-alias", "WWW", "--network-alias", "space 1"}, sleep)...)
	p.Do(slices.Concat(args, []string{"--name", "db"}, sleep)...)
	defer p.Do("rm", "-fat0")
	if conf := p.Do("exec", "db", "cat", "/etc/resolv.conf"); !strings.Contains(conf, "nameserver 10.87.8.1") || !strings.Contains(conf, "search dns.podman") {
		t.Errorf("resolv.conf: %s", conf)
	}
	for _, name := range []string{"web", "www"} {
		if out := p.Do("exec", "db", "busybox", "nslookup", name); !strings.Contains(out, p.Network("Web", "named", "IPAddress")) {
			t.Errorf("db asks for %s: %s", name, out)
		}
	}
}

func (n named) spelling() {
	web := n.add("Web", `,"runtimeConfig":{"aliases":{"flatnet":["WWW","Ünïcode"]}}`)
	n.served(web)
	n.served(n.add("db", ""))
	for _, name := range []string{"web", "www"} {
		n.found("db", name, web)
	}
	n.served(n.add("UPPER", ""))
}

func (n named) invalid() {
	web := n.add("web", `,"runtimeConfig":{"aliases":{"flatnet":["space 1","www","a,b","x\n10.87.1.9"]}}`)
	for _, name := range []string{`"space 1"`, `"a,b"`, `"x\n10.87.1.9"`} {
		if !strings.Contains(web.Stderr, name+" can't be a DNS name") {
			n.t.Errorf("%s is not warned about: %q", name, web.Stderr)
		}
	}
	if len(web.DNS.Nameservers) != 1 {
		n.t.Errorf("name servers: %v", web.DNS.Nameservers)
	}
	// What is not UTF-8 would make the server skip the network's file.
	n.NetNS("raw")
	raw := n.call("ADD", "raw", "")
	raw.Args = "K8S_POD_NAME=r\xffw"
	if r := n.World.Call(installed, raw); r.Exit != 0 || !strings.Contains(r.Stderr, `"r\xffw" can't be a DNS name`) {
		n.t.Errorf("a name that is not UTF-8: %s%s", r.Stdout, r.Stderr)
	}
	n.found("raw", "web", web)
	n.found("raw", "www", web)
	raw.Command = "DEL"
	n.World.Call(installed, raw)
}

func (n named) collision() {
	web := n.add("web", "")
	before := n.Sh("cat /run/containers/networks/aardvark-dns/aardvark.pid")
	n.NetNS("c1")
	c := n.call("ADD", "c1", "")
	c.Conf = strings.NewReplacer(`"flatnet",`, `"aardvark.pid",`, `"type":"aardvark.pid"`, `"type":"flatnet"`).Replace(c.Conf)
	c.Conf = strings.TrimSuffix(c.Conf, "}") + `,"bridge":"br9","ipam":{"subnet":"10.87.9.0/24"}}`
	if r := n.World.Call(installed, c); r.Code != 7 || !strings.Contains(r.Msg, `"aardvark.pid" can't be a network with container names`) {
		n.t.Errorf("ADD: %s", r.Stdout)
	}
	c.Command = "DEL"
	if r := n.World.Call(installed, c); r.Exit != 0 {
		n.t.Errorf("DEL: %s", r.Stdout)
	}
	if after := n.Sh("cat /run/containers/networks/aardvark-dns/aardvark.pid"); after != before {
		n.t.Errorf("the server's process ID was %q and is %q", before, after)
	}
	n.add("db", "")
	n.found("db", "web", web)
}

func (n named) lock() {
	n.add("web", "")
	n.NetNS("c1")
	holder := n.Cmd("flock", "/run/containers/networks/aardvark.lock", "sh", "-c", "echo ready; exec cat")
	in, err1 := holder.StdinPipe()
	out, err2 := holder.StdoutPipe()
	if err := errors.Join(err1, err2, holder.Start()); err != nil {
		n.t.Fatal(err)
	}
	out.Read(make([]byte, 1))
	r := n.World.Call(installed, n.call("ADD", "c1", ""))
	if r.Code != 11 || !strings.Contains(r.Msg, "aardvark.lock") {
		n.t.Errorf("ADD: %s", r.Stdout)
	}
	in.Close()
	holder.Wait()
	if links := n.Run("ip", "link"); strings.Contains(links, "fn-c1") {
		n.t.Errorf("left behind: %s", links)
	}
	if r := n.World.Call(installed, n.call("ADD", "c1", "")); r.Exit != 0 {
		n.t.Errorf("ADD after that: %s", r.Stdout)
	}
	n.World.Call(installed, n.call("DEL", "c1", ""))
}

func (n named) portInUse() {
	n.t.Run("of all addresses", func(t *testing.T) {
		taken := named{n.in(t), n.host}
		taken.host.In(t).ServeUDP("0.0.0.0:53")
		for _, id := range []string{"a", "b"} {
			r := taken.add(id, "")
			if len(r.DNS.Nameservers) != 0 || !strings.Contains(r.Stderr, "aardvark-dns can't listen at 10.87.1.1, because another program listens at [::]:53") {
				t.Errorf("name servers %v, stderr %q", r.DNS.Nameservers, r.Stderr)
			}
		}
	})
	n.t.Run("of another network's gateway", func(t *testing.T) {
		taken := named{n.in(t), n.host}
		web := taken.add("web2", "")
		other := call("ADD", "other")
		otherNetwork(&other)
		taken.NetNS("other")
		taken.NetNS("other2")
		if r := taken.World.Call(installed, other); r.Exit != 0 {
			t.Fatalf("ADD: %s", r.Stdout)
		}
		taken.host.In(t).ServeUDP("10.87.9.1:53")
		second := other
		second.ID, second.NetNS = "other2", "/run/netns/other2"
		second.Conf = strings.Replace(other.Conf, `"bridge"`, `"dnsEnabled":true,"bridge"`, 1)
		r := taken.World.Call(installed, second)
		if r.Exit != 0 || len(r.DNS.Nameservers) != 0 || !strings.Contains(r.Stderr, "aardvark-dns can't listen at 10.87.9.1, because another program listens at 10.87.9.1:53") {
			t.Errorf("%s, stderr %q", r.Stdout, r.Stderr)
		}
		// Nor is it in the server's way when that starts again.
		taken.Sh("kill -9 $(cat /run/containers/networks/aardvark-dns/aardvark.pid)")
		taken.served(taken.add("db2", ""))
		taken.found("db2", "web2", web)
		for _, c := range []lab.Call{other, second} {
			c.Command = "DEL"
			taken.World.Call(installed, c)
		}
		taken.Run("ip", "link", "del", "br9")
	})
	n.t.Run("no more", func(t *testing.T) {
		free := named{n.in(t), n.host}
		web := free.add("web", "")
		free.served(web)
		free.add("db", "")
		free.found("db", "web", web)
	})
}

// Like Pi-hole: its network's later containers start at once, whether the port
// is published for all addresses or for one.
func (n named) publishedPort() {
	for _, ip := range []string{"", `,"hostIP":"` + lab.HostAddr + `"`} {
		hole := n.add("hole", `,"runtimeConfig":{"portMappings":[{"hostPort":53,"containerPort":53,"protocol":"udp"`+ip+`}]}`)
		n.served(hole)
		n.served(n.add("db", ""))
		n.found("db", "hole", hole)
		for _, id := range []string{"db", "hole"} {
			n.World.Call(installed, n.call("DEL", id, ""))
			n.Run("ip", "netns", "del", id)
		}
	}
}

// The server ends with the last record, or because somebody kills it.
func (n named) ended() {
	for range 3 {
		n.served(n.add("web", ""))
		n.World.Call(installed, n.call("DEL", "web", ""))
		n.Run("ip", "netns", "del", "web")
	}
	web := n.add("web", "")
	n.Sh("kill -9 $(cat /run/containers/networks/aardvark-dns/aardvark.pid)")
	n.served(n.add("db", ""))
	n.found("db", "web", web)
}

// silent takes aardvark-dns' place and, like 1.12, answers the host nothing that
// it could use; %s is the test's own program.
const silent = `#!/bin/sh
if [ "$1" = --config ]; then
	mkfifo /run/ready
	"$0" serve "$2" >/dev/null 2>&1 </dev/null &
	read line </run/ready
	exit
fi
trap "" HUP
echo $$ >"$2/aardvark.pid"
mkdir -p /run/silent
cp %s /run/silent/aardvark-dns
mkfifo /run/silent/input
FLATNET_LAB_ROLE=serve-udp exec /run/silent/aardvark-dns 10.87.1.1:53 <>/run/silent/input >/run/ready
`

// A server that can't be verified is used, after a short wait, with a warning.
func TestNameServerThatDoesNotAnswerTheHost(t *testing.T) {
	b := newBox(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const server = "/usr/libexec/podman/aardvark-dns"
	b.Sh("mkdir -p /usr/libexec/podman; rm -f " + server)
	b.Write(server, fmt.Sprintf(silent, self))
	b.Sh("chmod +x " + server)
	for _, id := range []string{"c1", "c2"} {
		began := time.Now()
		c := b.attach(id, func(c *lab.Call) { c.Conf = conf(`"dnsEnabled":true`) })
		if took := time.Since(began); took > soon {
			t.Errorf("ADD took %v", took)
		}
		if !slices.Equal(c.result.DNS.Nameservers, []string{gateway}) || !strings.Contains(c.result.Stderr, "aardvark-dns does not answer at 10.87.1.1") {
			t.Errorf("name servers %v, stderr %q", c.result.DNS.Nameservers, c.result.Stderr)
		}
		if file := b.Read("/run/containers/networks/aardvark-dns/flatnet"); !strings.Contains(file, id+" "+c.addr) {
			t.Errorf("the server's file is %q", file)
		}
	}
}
