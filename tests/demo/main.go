// Command demo runs flatnet's main jobs in a world of its own and shows what happens:
// each step has the commands that a person would type, and what they did is checked
// before it is claimed.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"flatnet/tests/lab"
)

func main() {
	if guest() {
		return
	}
	lab.Main()
	began := time.Now()
	var s lab.Script
	defer s.Close()
	w := lab.New(&s)
	d := newDemo(w)
	d.containers()
	d.names()
	d.port()
	d.isolation()
	d.flush()
	d.speed()
	d.end()
	fmt.Printf("\n%.0f seconds. Your machine saw none of this.\n", time.Since(began).Seconds())
}

// A demo is what the steps work on.
type demo struct {
	screen
	engine
	w        *lab.World
	hasNames bool // a DNS server is there
	// Addresses of containers, by name.
	addr map[string]string
	curl func(lab.Place, string) (string, error)
}

// newDemo installs flatnet in the world, and a machine outside that serves.
func newDemo(w *lab.World) *demo {
	root, err := filepath.Abs("..")
	if err != nil {
		w.TB.Fatalf("%v", err)
	}
	self, err := os.Executable()
	if err != nil {
		w.TB.Fatalf("%v", err)
	}
	w.Run("make", "-s", "-C", root, "-o", "build", "install")
	d := &demo{screen: newScreen(w.TB), w: w, addr: map[string]string{}}
	d.curl = func(p lab.Place, url string) (string, error) { return p.Try(self, "curl", url) }
	d.engine = newEngine(d, self)
	outside := w.Outside.Cmd(self, "hello", "the outside")
	if err := outside.Start(); err != nil {
		w.TB.Fatalf("%v", err)
	}
	w.TB.Cleanup(func() { outside.Process.Kill(); outside.Wait() })
	d.await(w.Place, lab.OutsideAddr)
	return d
}

// await waits until a server serves.
func (d *demo) await(from lab.Place, addr string) {
	err := lab.Until(10*time.Second, func() error {
		_, err := d.curl(from, "http://"+addr)
		return err
	})
	if err != nil {
		d.fail("nobody serves at %s: %v", addr, err)
	}
}

func (d *demo) containers() {
	d.title("Two containers get a flat network")
	d.prepare()
	d.start("web", "flatnet", "8080:80")
	d.start("db", "flatnet", "")
	d.command("flatnet show")
	shown := d.sh("flatnet show")
	d.output(shown)
	for _, name := range []string{"web", "db"} {
		d.claim(strings.Contains(shown, d.addr[name]), shown, "%s has the address %s", name, d.addr[name])
	}
	d.await(d.w.Place, d.addr["web"])
	d.reads(d.w.Place, "", d.addr["web"], "web", "the host reads from web by its address")
}

// reads shows a curl in a place of the world, and claims what it reads.
func (d *demo) reads(from lab.Place, prompt, host, server, claim string) {
	d.prompt(prompt, "curl -s http://"+host)
	out, err := d.curl(from, "http://"+host)
	d.output(out)
	d.claim(err == nil && strings.HasPrefix(out, "Hello from "+server), fmt.Sprint(out, err), "%s", claim)
}

func (d *demo) names() {
	d.title("Containers find each other by name")
	if !d.hasNames {
		d.say("This needs Podman and aardvark-dns, which are not both here: it is not shown.")
		return
	}
	out, err := d.exec("db", "curl -s http://web")
	d.output(out)
	seen := strings.Contains(out, "you are "+d.addr["db"])
	d.claim(err == nil && strings.HasPrefix(out, "Hello from web") && seen, fmt.Sprint(out, err), "db reaches web by name, and is seen as %s", d.addr["db"])
}

func (d *demo) port() {
	d.title("A machine outside reads the published port 8080")
	d.reads(d.w.Outside, "outside", lab.HostAddr+":8080", "web", "the host's port 8080 leads to web")
	d.prompt("outside", "curl -s http://"+d.addr["web"])
	out, err := d.curl(d.w.Outside, "http://"+d.addr["web"])
	d.output(errText(err))
	d.claim(err != nil, out, "the outside has no route to web's own address")
}

func (d *demo) isolation() {
	d.title("A second network is kept apart")
	d.network("vault", "10.87.2")
	d.start("safe", "vault", "")
	d.await(d.w.Place, d.addr["safe"])
	out, err := d.exec("safe", "curl -s -m 1 http://"+d.addr["web"])
	d.output(errText(err))
	d.claim(err != nil && !strings.Contains(out, "Hello"), out, "safe does not reach web")
	out, err = d.exec("web", "curl -s -m 1 http://"+d.addr["safe"])
	d.output(errText(err))
	d.claim(err != nil && !strings.Contains(out, "Hello"), out, "web does not reach safe")
	out, err = d.exec("safe", "curl -s http://"+lab.OutsideAddr)
	d.output(out)
	d.claim(err == nil && strings.Contains(out, "you are "+lab.HostAddr), fmt.Sprint(out, err), "safe reaches the outside, which sees the host (masquerade)")
}

func (d *demo) flush() {
	d.title("Somebody flushes the host's firewall. One command repairs it")
	d.command("nft flush ruleset")
	d.sh("nft flush ruleset")
	d.prompt("outside", "curl -s -m 1 http://"+lab.HostAddr+":8080")
	out, err := d.curl(d.w.Outside, "http://"+lab.HostAddr+":8080 1")
	d.output(errText(err))
	d.claim(err != nil, out, "the published port is dead")
	d.command("flatnet reload")
	d.output(d.sh("flatnet reload"))
	d.reads(d.w.Outside, "outside", lab.HostAddr+":8080", "web", "and lives again, with web running all the time")
}

func (d *demo) end() {
	d.title("The containers go")
	for _, name := range []string{"web", "db", "safe"} {
		d.stop(name)
	}
	d.claim(d.ports() == "", d.ports(), "no interface is left on any bridge")
	rules := strings.TrimSpace(d.sh("nft list ruleset"))
	d.claim(rules == "", rules, "no rule is left")
	listed := strings.TrimSpace(d.sh("flatnet list --json"))
	d.claim(listed == "[]", listed, "flatnet list has no container")
	leases := d.leases()
	d.claim(len(leases) == 0, fmt.Sprint(leases), "no address is leased")
}

// errText is what a curl that failed has said.
func errText(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if i := strings.LastIndex(text, "curl: "); i >= 0 {
		text = text[i:]
	}
	line, _, _ := strings.Cut(text, "\n")
	return line
}
