package tests

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// A program of the host that listens at a port which a container publishes is
// named with its address, and the port is published all the same.
func TestListenerOfTheHost(t *testing.T) {
	b := newBox(t)
	b.Serve("127.0.0.1:8080")
	b.Serve("[::]:8081") // both families
	b.Serve(lab.HostAddr + ":8082")
	b.ServeUDP("127.0.0.1:8083")
	for i, c := range []struct{ mapping, want string }{
		{`"hostPort":8080,"protocol":"tcp"`, "port 8080/tcp is published although a program of the host listens at 127.0.0.1:8080: "},
		{`"hostPort":8081,"protocol":"tcp"`, "listens at [::]:8081: "},
		{`"hostPort":8082,"protocol":"tcp"`, "listens at 192.0.2.1:8082: "},
		{`"hostPort":8083,"protocol":"udp"`, "port 8083/udp is published although a program of the host listens at 127.0.0.1:8083: "},
		{`"hostPort":8082,"protocol":"udp"`, ""},
		{`"hostPort":8083,"protocol":"tcp"`, ""},
		{`"hostPort":8080,"protocol":"sctp"`, ""},
		{`"hostPort":8080,"protocol":"tcp","hostIP":"192.0.2.1"`, ""},
		{`"hostPort":8084,"protocol":"tcp"`, ""},
	} {
		id := fmt.Sprint("c", i)
		a := b.attach(id, func(call *lab.Call) {
			call.Conf = conf(`"runtimeConfig":{"portMappings":[{"containerPort":80,` + c.mapping + `}]}`)
		})
		if got := a.result.Stderr; c.want == "" && got != "" || strings.Count(got, "\n") > 1 || !strings.Contains(got, c.want) {
			t.Errorf("%s: stderr %q, want %q", c.mapping, got, c.want)
		}
		if i == 2 {
			a.Serve(a.addr + ":80")
			if _, err := b.Outside.Ask(lab.HostAddr + ":8082"); err != nil {
				t.Error(err)
			}
		}
		b.do(a.then("DEL"))
	}
}

// Podman's conmon listens itself at the ports that Podman publishes; that is no
// reason for a warning.
func TestListenerThatIsPodmans(t *testing.T) {
	p := newBox(t).debianPodman("bookworm")
	id := p.Do(slices.Concat([]string{"run", "-d", p.World.Cgroup(), "--name", "a", "--network", "flatnet", "-p", "8080:80", "-p", "8081:81/udp"}, sleep)...)
	defer p.Do("rm", "-fat0")
	if sockets := p.World.Run("ss", "-ltunp"); strings.Count(sockets, `"conmon"`) != 2 {
		t.Fatalf("conmon does not listen: %s", sockets)
	}
	// As for podman network reload, which would swallow what plugins say.
	netns := p.Do("inspect", "-f", "{{.NetworkSettings.SandboxKey}}", "a")
	c := lab.Call{Command: "DEL", ID: id, NetNS: netns, IfName: "eth0", Conf: conf(`"runtimeConfig":{"portMappings":[
		{"hostPort":8080,"containerPort":80,"protocol":"tcp"},{"hostPort":8081,"containerPort":81,"protocol":"udp"}]}`)}
	for _, c.Command = range []string{"DEL", "ADD"} {
		if r := p.World.Call(installed, c); r.Exit != 0 || r.Stderr != "" {
			t.Errorf("%s: %s%s", c.Command, r.Stdout, r.Stderr)
		}
	}
}

// Keys that look like mistakes are named on stderr by ADD, and by no other verb.
func TestOddKeysAreNamed(t *testing.T) {
	b := newBox(t)
	c := b.attach("c1", func(c *lab.Call) {
		c.Conf = conf(`"subnet":"10.87.7.0/24","ipmasq":true,"isolaton":"none","plugins":[{}],"other":1,"ipam":{"subnett":"10.87.7.0/24"},
			"capabilities":{"portmappings":true},"runtimeConfig":{"bandwidth":{"ingresRate":1}}`)
	})
	for _, want := range []string{`"subnet" means nothing here; it belongs into the ipam object`, `"ipmasq" is read as "ipMasq"`, `did you mean "isolation"?`, "whole conflist", `did you mean "subnet"?`,
		`capabilities: "portmappings" means nothing to runtimes; did you mean "portMappings"?`, `runtimeConfig.bandwidth: "ingresRate" means`} {
		if !strings.Contains(c.result.Stderr, want) {
			t.Errorf("stderr lacks %q: %s", want, c.result.Stderr)
		}
	}
	if strings.Contains(c.result.Stderr, "other") {
		t.Errorf("stderr: %s", c.result.Stderr)
	}
	for _, verb := range []string{"CHECK", "DEL"} {
		if r := b.do(c.then(verb)); r.Stderr != "" {
			t.Errorf("%s says %s", verb, r.Stderr)
		}
	}
}
