package tests

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"flatnet/tests/lab"
)

// registered is a configuration of host 3 with registries.
func registered(urls ...string) string {
	list, _ := json.Marshal(urls)
	return conf(`"hostId":3,"ipam":{"ranges":[[{"subnet":"fd10:3::/64"}]]},"registryEndpoints":` + string(list))
}

// Registries are told of a container, and of its end, in the shape of the seed's project.
func TestRegistry(t *testing.T) {
	b := newBox(t)
	b.Outside.Registry("192.0.2.2:8080", "201", "/run/v4")
	b.Outside.Registry("[2001:db8::2]:80", "100", "/run/v6")
	if err := b.Ping("2001:db8::2"); err != nil { // the first packet may be lost
		t.Fatal(err)
	}
	id := strings.Repeat("0123456789abcdef", 4)
	c := b.attach(id[:8], func(c *lab.Call) {
		c.ID, c.Args = id, "IgnoreUnknown=1;K8S_POD_NAME=my service"
		c.Conf = withKeys(registered("http://192.0.2.2:8080/api/containers", "http://[2001:db8::2]/api/containers/"),
			`"runtimeConfig":{"portMappings":[{"hostPort":8443,"containerPort":443},{"hostPort":8080,"containerPort":80},{"hostPort":8081,"containerPort":80}]}`)
	})
	b.do(c.then("DEL"))
	stamp := regexp.MustCompile(`"createdAt":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"`)
	entry := `{"id":"` + id + `","ip":"10.100.3.10","ips":["10.100.3.10","fd10:3::2"],"hostname":"my service","ports":[443,80],"hostId":3,"network":"flatnet","createdAt":"then"}`
	for file, path := range map[string]string{"/run/v4": "/api/containers", "/run/v6": "/api/containers/"} {
		want := "POST " + path + " " + entry + "\nDELETE " + strings.TrimSuffix(path, "/") + "/" + id + " \n"
		if got := stamp.ReplaceAllString(b.Read(file), `"createdAt":"then"`); got != want {
			t.Errorf("%s has\n%s\nwant\n%s", file, got, want)
		}
	}
	if c.result.Stderr != "" {
		t.Errorf("stderr %q", c.result.Stderr)
	}

	// Off is off.
	off := b.attach("off", func(c *lab.Call) {
		c.Conf = withKeys(registered("http://192.0.2.2:8080/x"), `"registryEnabled":false`)
	})
	b.do(off.then("DEL"))
	if got := b.Read("/run/v4"); strings.Count(got, "\n") != 2 {
		t.Errorf("registryEnabled is false: %s", got)
	}
	b.clean()
}

// An entry is a container's: it stays until the last of its interfaces goes.
func TestRegistryOfTwoInterfaces(t *testing.T) {
	b := newBox(t)
	b.Outside.Registry("192.0.2.2:8080", "200", "/run/log")
	conf := func(c *lab.Call) { c.Conf = registered("http://192.0.2.2:8080/c") }
	first := b.attach("two", conf)
	second := call("ADD", "two")
	conf(&second)
	second.IfName = "eth1"
	b.do(second)
	for _, want := range []int{0, 1} {
		second.Command = "DEL"
		b.do(second)
		if got := b.Read("/run/log"); strings.Count(got, "DELETE ") != want {
			t.Errorf("after the DEL of %s: %s, want %d DELETE", second.IfName, got, want)
		}
		second = first.then("DEL")
	}
}

// GC removes the entries of what it removes.
func TestRegistryGC(t *testing.T) {
	b := newBox(t)
	b.Outside.Registry("192.0.2.2:8080", "404", "/run/log")
	url := registered("http://192.0.2.2:8080/c", "http://192.0.2.2:8080/c") // twice is once
	for _, id := range []string{"c1", "c2", "c3"} {
		b.attach(id, func(c *lab.Call) { c.Conf = url })
	}
	gc := lab.Call{Command: "GC", Conf: withKeys(newer(url), `"cni.dev/valid-attachments":[{"containerID":"c2","ifname":"eth0"}]`)}
	if r := b.do(gc); r.Stderr != "" {
		t.Errorf("stderr %q, although an entry that is not there need not be removed", r.Stderr)
	}
	got := b.Read("/run/log")
	if strings.Count(got, "DELETE /c/") != 2 || !strings.Contains(got, "DELETE /c/c1 ") || !strings.Contains(got, "DELETE /c/c3 ") {
		t.Error(got)
	}
}

// A failed ADD sends registries nothing, and neither does a removal that has failed.
func TestRegistryOfWhatFails(t *testing.T) {
	b := newBox(t)
	b.Outside.Registry("192.0.2.2:8080", "200", "/run/log")
	url := registered("http://192.0.2.2:8080/c")
	c := b.attach("c1", func(c *lab.Call) {
		c.Conf = withKeys(url, `"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80}]}`)
	})
	told := func(want string) {
		t.Helper()
		var got []string
		for line := range strings.Lines(b.Read("/run/log")) {
			got = append(got, strings.Join(strings.Fields(line)[:2], " "))
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("the registry was told %q, want %s", got, want)
		}
	}
	b.NetNS("c2")
	add := call("ADD", "c2")
	add.Conf = c.add.Conf
	b.refused(add, 101, "8080")
	told("POST /c")

	b.Sh("mount --bind " + ipamDir + " " + ipamDir + "; mount -o remount,bind,ro " + ipamDir)
	b.refused(c.then("DEL"), 0, "read-only")
	b.refused(lab.Call{Command: "GC", Conf: newer(url)}, 0, "read-only")
	told("POST /c")
	b.Sh("umount " + ipamDir)
	b.do(c.then("DEL"))
	told("POST /c, DELETE /c/c1")
}

// Nothing that registries do fails a call or delays it by more than a second, and each that
// did not take an entry is named.
func TestSickRegistries(t *testing.T) {
	b := newBox(t)
	sick := map[string]string{ // behaviour and what is said
		"201": "", "slow": "", "500": "status 500", "404": "status 404", "hang": "no answer within a second", "hangup": "hung up",
		"reset": "reset", "trickle": "no answer", "endless": "no answer in 8192 bytes", "interim": "no answer in 8192 bytes", "garbage": `"SSH-2.0-\x1b]0;owned\a\r"`,
	}
	urls := map[string]string{
		"refused":    "http://192.0.2.2:1/c",   // nobody listens
		"unanswered": "http://192.0.2.77:80/c", // no such neighbour
		"no route":   "http://[2001:db8:1::1]:80/c",
	}
	port := 9000
	for behaviour := range sick {
		port++
		b.Outside.Registry(fmt.Sprintf("192.0.2.2:%d", port), behaviour, "/run/"+behaviour)
		urls[behaviour] = fmt.Sprintf("http://192.0.2.2:%d/c", port)
	}
	sick["refused"], sick["unanswered"], sick["no route"] = "refused", "no answer within a second", "unreachable"
	b.Sh("ip -6 route del default")
	var list []string
	for _, url := range urls {
		list = append(list, url)
	}
	c := b.attach("c1", func(c *lab.Call) { c.Conf = registered(list...) })
	begun := time.Now()
	del := b.do(c.then("DEL"))
	if took := time.Since(begun); took > 3*time.Second { // a busy machine may need longer than the second
		t.Errorf("DEL took %v", took)
	}
	for name, text := range sick {
		for method, stderr := range map[string]string{"POST": c.result.Stderr, "DELETE": del.Stderr} {
			i := strings.Index(stderr, urls[name]+": "+method)
			healthy := text == "" || name == "404" && method == "DELETE"
			line, _, _ := strings.Cut(stderr[max(i, 0):], "\n")
			if healthy != (i < 0) || !healthy && !strings.Contains(line, text) {
				t.Errorf("%s: %s: want %q in %s", name, method, text, stderr)
			}
		}
	}
	if strings.ContainsAny(c.result.Stderr, "\x1b\a") {
		t.Errorf("a registry's control characters are in %q", c.result.Stderr)
	}
	b.clean()
}

// Netavark's options are the same, also where the container is detached.
func TestNetavarkRegistry(t *testing.T) {
	b := newBox(t)
	b.NetNS("c1")
	b.Outside.Registry("192.0.2.2:8080", "201", "/run/log")
	n := network{keys: `"options":{"host_id":"3","registry_endpoints":"http://192.0.2.2:8080/a, http://192.0.2.2:8080/b","registry_enabled":"true"}`}
	definition, err := b.create(n)
	if err != nil {
		t.Fatalf("create: %v: %s", err, definition)
	}
	for _, command := range []string{"setup", "teardown"} {
		if out, err := b.exec(command, "c1", definition, n); err != nil || strings.Contains(out, "registry") {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
	got := b.Read("/run/log")
	for _, text := range []string{`POST /a {"id":"c1","ip":"10.100.3.10"`, `POST /b {"id":"c1"`, "DELETE /a/c1 ", "DELETE /b/c1 "} {
		if strings.Count(got, text) != 1 {
			t.Errorf("%q is not once in %s", text, got)
		}
	}
	for _, url := range []string{"https://192.0.2.2/", "http://gateway.local/api", "http://192.0.2.2:0/", "192.0.2.2:80"} {
		if out, err := b.create(network{keys: `"options":{"registry_endpoints":"` + url + `"}`}); err == nil || !strings.Contains(out, url) {
			t.Errorf("create with %s: %v: %s", url, err, out)
		}
	}
}

// spanning runs a container of a network that spans hosts, with all that Podman makes of the
// definition.
func (p nv) spanning() {
	p.outside.Registry(lab.OutsideAddr+":8055", "201", "/run/registry")
	p.Do("network", "create", "--driver", "flatnet", "-o", "host_id=9", "-o", "registry_endpoints=http://"+lab.OutsideAddr+":8055/c", "ninth")
	p.run("a", []string{"ninth"}, "-p", "8066:80")
	if got := p.addr("a", "ninth"); got != "10.100.9.10" {
		p.t.Errorf("address %s", got)
	}
	p.Do("restart", "-t0", "a")
	p.Do("rm", "-ft0", "a")
	log := p.outside.Run("cat", "/run/registry")
	entry := `"ip":"10.100.9.10","ips":["10.100.9.10"],"hostname":"a","ports":[80],"hostId":9,"network":"ninth"`
	if strings.Count(log, entry) != 2 || strings.Count(log, "DELETE /c/") != 2 {
		p.t.Errorf("the registry was told\n%s", log)
	}
	p.Do("network", "rm", "ninth")
}
