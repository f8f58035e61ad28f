package tests

import (
	"fmt"
	"slices"
	"strings"

	"flatnet/tests/lab"
)

// lookup asks for a name as a program in a container does. It asks again if no
// answer has reached us, for podman exec may lose one on a busy machine.
func (p nv) lookup(from, name string) (addr string) {
	for range 3 {
		out, err := p.Try("exec", from, "busybox", "nslookup", name)
		said := fmt.Sprint(out, err)
		_, answer, _ := strings.Cut(out, "Name:")
		_, addr, _ = strings.Cut(answer, "Address: ")
		addr, _, _ = strings.Cut(addr, "\n")
		if addr != "" {
			break
		}
		p.t.Logf("%s asks for %s: %s", from, name, said)
		if strings.Contains(said, "NXDOMAIN") {
			break
		}
	}
	return addr
}

func (p nv) names() {
	p.run("web", flatnet, "--network-alias", "www")
	p.run("db", flatnet)
	for name, from := range map[string]string{"web": "db", "www": "db", "db": "web", "WEB": "db", "web.dns.podman": "db"} {
		want := p.addr("web", "flatnet")
		if name == "db" {
			want = p.addr("db", "flatnet")
		}
		if got := p.lookup(from, name); got != want {
			p.t.Errorf("%s finds %s at %q, want %s", from, name, got, want)
		}
	}
	p.ping("db", "www")
	if conf := p.Do("exec", "db", "cat", "/etc/resolv.conf"); !strings.Contains(conf, "nameserver "+gateway) {
		p.t.Errorf("resolv.conf: %s", conf)
	}
	p.Do("rm", "-ft0", "web")
	if got := p.lookup("db", "web.dns.podman"); got != "" {
		p.t.Errorf("a container that is gone is found at %s", got)
	}
}

// The last container of all takes the server with it, which may take a moment:
// who comes then must not be told of a server that is about to go.
func (p nv) flapping() {
	for i := range 5 {
		name := fmt.Sprint("c", i)
		p.run(name, flatnet)
		if got := p.lookup(name, name); got != p.addr(name, "flatnet") {
			p.t.Errorf("%s finds itself at %q", name, got)
		}
		p.Do("restart", "-t0", name)
		if got := p.lookup(name, name); got != p.addr(name, "flatnet") {
			p.t.Errorf("restarted, %s finds itself at %q", name, got)
		}
		p.Do("rm", "-ft0", name)
	}
	p.run("a", flatnet)
	p.World.Run("pkill", "-9", "aardvark-dns")
	p.run("b", flatnet)
	if got := p.lookup("b", "a"); got != p.addr("a", "flatnet") {
		p.t.Errorf("after the server was killed a is at %q", got)
	}
}

// One server knows the containers of netavark's networks and of flatnet's.
func (p nv) namesOfSeveral() {
	p.Do("network", "create", "theirs")
	defer p.Do("network", "rm", "-f", "theirs")
	p.run("both", []string{"theirs", "flatnet"})
	p.run("own", flatnet)
	p.run("foreign", []string{"theirs"})
	for name, network := range map[string]string{"own": "flatnet", "foreign": "theirs"} {
		if got, want := p.lookup("both", name), p.addr(name, network); got != want {
			p.t.Errorf("both finds %s at %q, want %s", name, got, want)
		}
	}
	if got := p.lookup("own", "foreign"); got != "" {
		p.t.Errorf("own finds foreign, which is in no network with it, at %s", got)
	}
	p.Do("rm", "-fat0")
	p.World.Run("nft", "delete", "table", "inet", "netavark")
}

// The CNI door makes containers known by what it is told of their names, to
// those of the other door as well.
func (p nv) namesOfBothDoors() {
	p.run("web", flatnet)
	p.World.Run("ip", "netns", "add", "cni1")
	defer p.World.Run("ip", "netns", "del", "cni1")
	c := lab.Call{Command: "ADD", ID: "cni1", NetNS: "/run/netns/cni1", IfName: "eth0", Args: "IgnoreUnknown=1;K8S_POD_NAME=pod1",
		Conf: `{"cniVersion":"1.0.0","name":"flatnet","type":"flatnet","dnsEnabled":true,"runtimeConfig":{"aliases":{"flatnet":["www"]}}}`}
	r := p.World.Call(lab.NetavarkPlugin, c)
	if r.Exit != 0 || !slices.Equal(r.DNS.Nameservers, []string{gateway}) {
		p.t.Fatalf("ADD: %s", r.Stdout)
	}
	for _, name := range []string{"pod1", "www"} {
		if got := p.lookup("web", name); got != r.Addr() {
			p.t.Errorf("web finds %s at %q, want %s", name, got, r.Addr())
		}
	}
	if out := p.World.Run("ip", "netns", "exec", "cni1", "busybox", "nslookup", "web", gateway); !strings.Contains(out, p.addr("web", "flatnet")) {
		p.t.Errorf("the other door's container finds %s", out)
	}
	c.Command = "DEL"
	if r := p.World.Call(lab.NetavarkPlugin, c); r.Exit != 0 {
		p.t.Errorf("DEL: %s", r.Stdout)
	}
	if got := p.lookup("web", "pod1.dns.podman"); got != "" {
		p.t.Errorf("a container that is gone is found at %s", got)
	}
}

// A host whose own firewall drops what it doesn't know keeps containers from
// the server, unless the network is to have a rule there. The ruleset is that
// of iptables-nft in shape.
func (p nv) namesBehindFirewall() {
	p.World.Sh(`nft -f - <<'X'
table ip filter {
	chain INPUT {
		type filter hook input priority filter; policy drop;
		ct state established,related accept
		iifname "lo" accept
	}
	chain FORWARD { type filter hook forward priority filter; policy drop; }
}
X`)
	defer p.World.Run("nft", "delete", "table", "ip", "filter")
	before := p.World.Run("nft", "-s", "list", "ruleset")
	ask := []string{"busybox", "nslookup", "-timeout=1", "-retry=1", "a"}
	connect := []string{"busybox", "nc", "-w", "1", "10.87.3.1", "53", "-e", "true"}
	status := lab.Call{Command: "STATUS"}
	for _, accept := range []string{"true", "false"} {
		p.Do("network", "create", "--driver", "flatnet", "-o", "forwardAccept="+accept, "walled")
		args := slices.Concat([]string{"run", "-d", p.cgroup, "--name", "a", "--network", "walled"}, sleep)
		cmd := p.World.Cmd(append([]string{"podman"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "ip filter INPUT drops the DNS queries") != (accept == "false") {
			p.t.Errorf("forwardAccept=%s: %s, %v", accept, out, err)
		}
		status.Conf = `{"cniVersion":"1.1.0","name":"walled","type":"flatnet","bridge":"flatnet-br3","ipam":{"subnet":"10.87.3.0/24"},"dnsEnabled":true,"forwardAccept":` + accept + `}`
		if r := p.World.Call(lab.NetavarkPlugin, status); (r.Code == 51 && strings.Contains(r.Msg, "INPUT")) != (accept == "false") {
			p.t.Errorf("STATUS with forwardAccept %s: %s", accept, r.Stdout)
		}
		for _, question := range [][]string{ask, connect} {
			if out, err := p.Try(append([]string{"exec", "a"}, question...)...); (err == nil) != (accept == "true") {
				p.t.Errorf("forwardAccept=%s, %v: %s, %v", accept, question, out, err)
			}
		}
		if accept == "true" {
			var added []string
			for line := range strings.Lines(p.World.Run("nft", "-s", "list", "table", "ip", "filter")) {
				if !strings.Contains(before, line) {
					added = append(added, strings.TrimSpace(line))
				}
			}
			const comment = ` accept comment "flatnet network walled, forwardAccept"`
			want := []string{`iifname "flatnet-br3" udp dport 53` + comment, `iifname "flatnet-br3" tcp dport 53` + comment,
				`iifname "flatnet-br3"` + comment, `oifname "flatnet-br3"` + comment}
			slices.Sort(added) // all accept: their order does not matter
			if slices.Sort(want); !slices.Equal(added, want) {
				p.t.Errorf("rules are added: %q, want %q", added, want)
			}
		}
		p.Do("rm", "-fat0")
		p.Do("network", "rm", "walled")
		if after := p.World.Run("nft", "-s", "list", "ruleset"); after != before {
			p.t.Errorf("was\n%s\nand is\n%s", before, after)
		}
	}
	p.World.Run("nft", "add", "rule", "ip", "filter", "INPUT", "tcp", "dport", "53", "accept")
	if r := p.World.Call(lab.NetavarkPlugin, status); !strings.Contains(r.Msg, "FORWARD") || strings.Contains(r.Msg, "INPUT") {
		p.t.Errorf("STATUS where the host's firewall knows DNS: %s", r.Stdout)
	}
}

// In an internal network containers know each other, and nobody else.
func (p nv) namesInternal() {
	p.Do("network", "create", "--driver", "flatnet", "--internal", "inside")
	defer p.Do("network", "rm", "-f", "inside")
	for _, name := range []string{"a", "b"} {
		p.run(name, []string{"inside"})
	}
	if got, want := p.lookup("a", "b"), p.addr("b", "inside"); got != want {
		p.t.Errorf("a finds b at %q, want %s", got, want)
	}
	p.ping("a", "b")
	p.refused("", "exec", "a", "ping", "-c", "1", "-W", "1", lab.OutsideAddr)
	p.Do("rm", "-fat0")
}

// A capital letter in a container's name is no reason not to start it, nor is an
// alias that DNS can't hold.
func (p nv) oddNames() {
	p.run("Capital", flatnet, "--network-alias", "space 1", "--network-alias", "OK")
	p.run("other", flatnet)
	for _, name := range []string{"capital", "ok"} {
		if got, want := p.lookup("other", name), p.addr("Capital", "flatnet"); got != want {
			p.t.Errorf("other finds %s at %q, want %s", name, got, want)
		}
	}
}

// Podman itself listens at a port that it publishes, and so keeps the server
// from the port of DNS. Containers start all the same, with the host's servers.
func (p nv) portOfNames() {
	p.run("hole", []string{"nameless"}, "-p", "53:53/udp")
	cmd := p.World.Cmd(slices.Concat([]string{"podman", "run", "--rm", p.cgroup, "--network", "flatnet", lab.Image, "cat", "/etc/resolv.conf"})...)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "nameserver "+gateway) || !strings.Contains(string(out), "aardvark-dns can't listen at "+gateway+", because another program listens at ") {
		p.t.Errorf("%s, %v", out, err)
	}
	p.Do("rm", "-ft0", "hole")
	p.run("web", flatnet)
	if conf := p.Do("exec", "web", "cat", "/etc/resolv.conf"); !strings.Contains(conf, "nameserver "+gateway) {
		p.t.Errorf("resolv.conf: %s", conf)
	}
}

func (p nv) noServer() {
	const program = "/usr/lib/podman/aardvark-dns"
	p.World.Run("mv", program, program+".away")
	defer p.World.Run("mv", program+".away", program)
	p.Do("network", "create", "--driver", "flatnet", "plain")
	defer p.Do("network", "rm", "-f", "plain")
	p.run("a", []string{"plain"}, "--dns", "192.0.2.53")
	if conf := p.Do("exec", "a", "cat", "/etc/resolv.conf"); !strings.Contains(conf, "nameserver 192.0.2.53") || strings.Contains(conf, "nameserver 10.") {
		p.t.Errorf("resolv.conf: %s", conf)
	}
	p.refused("aardvark-dns", "network", "create", "--driver", "flatnet", "--dns", "192.0.2.53", "extra")
	out, err := p.plugin(`{"name":"extra","dns_enabled":true}`, "create")
	if err != nil || !strings.Contains(out, `"dns_enabled":true`) {
		p.t.Errorf("create: %s, %v", out, err)
	}
}

// With dns_bind_port the server listens there, and containers ask port 53 all the same.
func (p nv) namesOnAnotherPort() {
	const conf = "/etc/containers/containers.conf"
	p.World.Sh("sed -i '/^.network.$/a dns_bind_port = 1053' " + conf)
	defer p.World.Sh("sed -i /^dns_bind_port/d " + conf)
	p.run("web", flatnet)
	p.run("db", flatnet)
	if got, want := p.lookup("db", "web"), p.addr("web", "flatnet"); got != want {
		p.t.Errorf("db finds web at %q, want %s", got, want)
	}
	if out := p.World.Sh("pgrep -a aardvark-dns"); !strings.Contains(out, "-p 1053") {
		p.t.Errorf("the server runs as %s", out)
	}
	p.Do("network", "reload", "web")
	if got, want := p.lookup("db", "web"), p.addr("web", "flatnet"); got != want {
		p.t.Errorf("after a reload db finds web at %q, want %s", got, want)
	}
}
