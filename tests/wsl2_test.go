package tests

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"flatnet/tests/lab"
)

func document(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// find returns what a pattern's groups match in a document, which must have it.
func find(t *testing.T, text, pattern string) []string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("the document has no %s", pattern)
	}
	return m[1:]
}

// The route that docs/wsl2.md has Windows add leads to the default network's containers, by
// the address that its command takes and that its script finds.
func TestRouteFromWindows(t *testing.T) {
	b := newBox(t)
	c1 := b.attach("c1")
	c1.Serve(c1.addr + ":80")
	doc, script := document(t, "wsl2.md"), document(t, "flatnet-route.ps1")
	route := find(t, doc, `(?m)^route add (\S+) mask (\S+) \$\(\(wsl (hostname -I)\)\.Split\(\)\[0\]\)$`)
	var mask [4]byte
	fmt.Sscanf(route[1], "%d.%d.%d.%d", &mask[0], &mask[1], &mask[2], &mask[3])
	ones := strings.Count(fmt.Sprintf("%b", mask), "1")
	network := fmt.Sprintf("%s/%d", route[0], ones)
	if defaults := find(t, script, `Networks = @\("(\S+)"\)`); defaults[0] != network || !netip.MustParsePrefix(network).Contains(netip.MustParseAddr(c1.addr)) {
		t.Errorf("the command has %s, the script %s, the container %s", network, defaults[0], c1.addr)
	}
	address := strings.Fields(b.Run(strings.Fields(route[2])...))[0]
	shown := find(t, script, `& wsl\.exe @wsl -u root -- (ip .* eth0 .*)`)[0]
	pattern := find(t, script, `-notmatch '(.*)'\)`)[0]
	out := b.Run(strings.Fields(strings.Replace(shown, "eth0", lab.Uplink, 1))...)
	if found := find(t, out, pattern)[0]; found != address || address != lab.HostAddr {
		t.Errorf("the command takes %s, the script %s of %s", address, found, out)
	}
	b.Outside.Run("ip", "route", "add", network, "via", address)
	if err := b.Outside.Ping(c1.addr); err != nil {
		t.Error(err)
	}
	if got, err := b.Outside.Ask(c1.addr + ":80"); err != nil || got != lab.OutsideAddr {
		t.Errorf("from Windows by the container's address: %q, %v", got, err)
	}
}

// The shell commands of docs/wsl2.md, in their order: flatnet is the default network, and
// Podman reads the configuration.
func TestWSL2Document(t *testing.T) {
	for _, suite := range []string{"trixie", "bookworm"} {
		t.Run(suite, func(t *testing.T) {
			b := newBox(t)
			podman := b.debianPodman(suite)
			blocks := regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$").FindAllStringSubmatch(document(t, "wsl2.md"), -1)
			blocks = slices.DeleteFunc(blocks, func(b []string) bool { return b[1] != "" }) // of another language
			if len(blocks) != 2 {
				t.Fatalf("%d blocks of shell commands", len(blocks))
			}
			for _, block := range blocks {
				script := strings.Replace(block[2], "-it debian", podman.World.Cgroup()+" "+lab.Image+" sh -c :", 1)
				if suite == "bookworm" { // the text says so
					script = strings.Replace(script, "podman network create", "#", 1)
				}
				podman.World.Sh(script)
			}
			podman.Do(append([]string{"run", "-d", "--name", "web", "--restart", "always", podman.World.Cgroup()}, sleep...)...)
			if got := podman.Do("inspect", "-f", "{{range $n, $_ := .NetworkSettings.Networks}}{{$n}}{{end}}", "web"); got != "flatnet" {
				t.Errorf("without --network it is on %q", got)
			}
			podman.Do("stop", "-t0", "web")
			boot := find(t, document(t, "wsl2.md"), `(?m)^command=(.*)$`)[0]
			podman.World.Run(strings.Fields(boot)...)
			if got := podman.Do("inspect", "-f", "{{.State.Running}}", "web"); got != "true" {
				t.Errorf("after %s it is running: %s", boot, got)
			}
			podman.Do("rm", "-fat0")
		})
	}
}

// By both doors, in mirrored mode: Podman itself listens at the port.
func TestMirroredPodman(t *testing.T) {
	for _, suite := range []string{"trixie", "bookworm"} {
		t.Run(suite, func(t *testing.T) {
			m := newMirror(t)
			podman := m.debianPodman(suite)
			if suite == "trixie" {
				podman.Do("network", "create", "--driver", "flatnet", "--disable-dns", "flatnet")
			}
			podman.Start("web", "-p", "8092:80")
			podman.Do("exec", "-d", "web", "sh", "-c", "while :; do echo web | busybox nc -l -p 80; done")
			for _, w := range slices.DeleteFunc(m.ways(gateway), func(w way) bool { return w.to == gateway }) {
				err := lab.Until(10*time.Second, func() error {
					if got, err := w.from.Ask(w.to + ":8092"); got != "web\n" || err != nil {
						return fmt.Errorf("from %s: %q, %v", w.name, got, err)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
			podman.Do("rm", "-fat0")
			m.unchanged()
		})
	}
}
