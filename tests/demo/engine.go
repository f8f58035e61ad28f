package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"

	"flatnet/tests/lab"
)

// An engine starts and stops containers. Each method shows the commands that it runs.
type engine interface {
	// prepare makes the network flatnet.
	prepare()
	// network makes another one; the subnet is PREFIX.0/24.
	network(name, prefix string)
	// start runs a container that says hello. A port is HOST:CONTAINER, or empty.
	start(name, network, port string)
	// exec runs a command in a container.
	exec(name, command string) (string, error)
	stop(name string)
}

// newEngine returns the machine's Podman, or else plain network namespaces.
func newEngine(d *demo, self string) engine {
	podman, err := d.w.Podman()
	if err != nil {
		d.say("There is no Podman here, so the containers are network namespaces.")
		return &plain{d, self, map[string]*exec.Cmd{}}
	}
	content, err := image(self)
	if err != nil {
		d.fail("image: %v", err)
	}
	load := d.w.Cmd("podman", "import", "-q", "-", "localhost/demo")
	load.Stdin = content
	if out, err := load.CombinedOutput(); err != nil {
		d.fail("podman import: %v: %s", err, out)
	}
	d.hasNames = d.sh("ls /usr/lib*/podman/aardvark-dns /usr/lib*exec/podman/aardvark-dns 2>/dev/null || true") != ""
	version, _, _ := strings.Cut(strings.TrimPrefix(podman.Do("--version"), "podman version "), "+")
	d.say("Podman " + version + " (" + podman.Backend + "), in a world of its own. The image demo has two")
	d.say("programs: hello, which serves by HTTP, and a small curl.")
	return &containers{d, podman}
}

// containers are Podman's.
type containers struct {
	*demo
	podman lab.Podman
}

// run shows and runs a command; what of it only the laboratory needs is not shown.
func (c *containers) run(command string) (string, error) {
	c.command(command)
	return c.w.Try("sh", "-ec", strings.Replace(command, "podman run ", "podman run "+c.w.Cgroup()+" ", 1))
}

func (c *containers) must(command string) string {
	out, err := c.run(command)
	if err != nil {
		c.fail("%v", err)
	}
	return out
}

func (c *containers) prepare() {
	if c.podman.Backend == "netavark" {
		c.must("podman network create --driver flatnet flatnet")
	} else if c.hasNames {
		c.must("cd /etc/cni/net.d\nsed -i 's/\"type\".*/& \"dnsEnabled\": true,/' 87-flatnet.conflist")
	}
}

func (c *containers) network(name, prefix string) {
	if c.podman.Backend == "netavark" {
		c.must("podman network create --driver flatnet --subnet " + prefix + ".0/24 " + name)
		return
	}
	c.must(fmt.Sprintf(`cat >/etc/cni/net.d/88-%s.conflist <<END
{ "cniVersion": "0.4.0", "name": "%s", "plugins": [ { "type": "flatnet",
  "bridge": "%s0", "ipam": { "subnet": "%s.0/24" } } ] }
END`, name, name, name, prefix))
}

func (c *containers) start(name, network, port string) {
	if port != "" {
		port = "-p " + port + " "
	}
	c.must(fmt.Sprintf("podman run -d --name %s --network %s %sdemo hello %s", name, network, port, name))
	c.addr[name] = c.podman.Network(name, network, "IPAddress")
}

func (c *containers) exec(name, command string) (string, error) {
	return c.run("podman exec " + name + " " + command)
}

func (c *containers) stop(name string) { c.must("podman rm -f " + name) }

// plain are network namespaces, each with a server in it.
type plain struct {
	*demo
	self    string
	servers map[string]*exec.Cmd
}

func (p *plain) prepare() {}

func (p *plain) network(name, prefix string) {
	p.w.Write("/run/"+name+".keys", fmt.Sprintf("\n \"bridge\":\"%s0\",\"ipam\":{\"subnet\":\"%s.0/24\"},", name, prefix))
}

// call is the plugin called as a container runtime calls it.
func (p *plain) call(verb, name, network, keys string) string {
	command := fmt.Sprintf(`export CNI_COMMAND=%s CNI_CONTAINERID=%s CNI_IFNAME=eth0
export CNI_NETNS=/run/netns/%s
flatnet <<END
{"cniVersion":"1.0.0","name":"%s",%s
 "type":"flatnet"}
END`, verb, name, name, network, p.w.Read("/run/"+network+".keys")+keys)
	p.command(command)
	return p.sh(command)
}

func (p *plain) start(name, network, port string) {
	p.command("ip netns add " + name)
	place := p.w.NetNS(name)
	keys := ""
	if host, container, ok := strings.Cut(port, ":"); ok {
		keys = fmt.Sprintf("\n \"runtimeConfig\":{\"portMappings\":[{\"hostPort\":%s,\"containerPort\":%s}]},", host, container)
	}
	var reply lab.Reply
	if err := json.Unmarshal([]byte(p.call("ADD", name, network, keys)), &reply); err != nil {
		p.fail("%v", err)
	}
	p.addr[name] = reply.Addr()
	p.command("ip netns exec " + name + " hello " + name + " &")
	server := place.Cmd(p.self, "hello", name)
	if err := server.Start(); err != nil {
		p.fail("%v", err)
	}
	p.servers[name] = server
	p.w.TB.Cleanup(func() { server.Process.Kill(); server.Wait() })
}

func (p *plain) exec(name, command string) (string, error) {
	p.command("ip netns exec " + name + " " + command)
	words := strings.Fields(command)
	return p.w.At("/run/netns/" + name).Try(append([]string{p.self}, words...)...)
}

func (p *plain) stop(name string) {
	network := map[string]string{"safe": "vault"}[name]
	if network == "" {
		network = "flatnet"
	}
	p.call("DEL", name, network, "")
}

// sh runs a command of the host that must succeed.
func (d *demo) sh(command string) string { return d.w.Sh(command) }

// ports names the containers' interfaces on the host.
func (d *demo) ports() string {
	var names []string
	for line := range strings.Lines(d.sh("ip -o link")) {
		if f := strings.Fields(line); strings.HasPrefix(f[1], "fn-") {
			names = append(names, f[1])
		}
	}
	return strings.Join(names, " ")
}

// leases returns what the lease files have.
func (d *demo) leases() []string {
	var all []string
	for file := range strings.FieldsSeq(d.sh("find /var/lib/flatnet -name allocations.json")) {
		var content struct{ Allocations map[string]string }
		if err := json.Unmarshal([]byte(d.w.Read(file)), &content); err != nil {
			d.fail("%s: %v", file, err)
		}
		for _, addr := range content.Allocations {
			all = append(all, addr)
		}
	}
	return all
}
