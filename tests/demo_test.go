package tests

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"flatnet/tests/lab"
)

// shown is what the demo shows of every engine.
var shown = []string{
	"\n1. Two containers get a flat network\n", "\n   $ flatnet show\n", "10.87.1.2", "10.87.1.3",
	"\n   outside$ curl -s http://192.0.2.1:8080\n     Hello from web, you are 192.0.2.2\n",
	"ok: safe does not reach web\n", "ok: web does not reach safe\n", "Hello from the outside, you are 192.0.2.1\n",
	"\n   $ nft flush ruleset\n", "ok: the published port is dead\n", "\n   $ flatnet reload\n", "ok: and lives again",
	" times as long\n", "ok: no rule is left\n", "ok: no address is leased\n", "seconds. Your machine saw none of this.\n",
}

// make demo runs containers of the Podman that the machine has, through the
// door that this one has, and leaves nothing; also on a machine where flatnet is
// installed and in use, of which it sees nothing.
func TestDemo(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(tool(t, "demo"))
	if err != nil {
		t.Fatal(err)
	}
	named := "ok: db reaches web by name, and is seen as 10.87.1.3\n"
	for suite, wants := range map[string][]string{
		"bookworm": {"Podman 4.3.1 (cni)", "$ podman run -d --name web --network flatnet -p 8080:80 demo hello web\n", named, "bridge, host-local and portmap  "},
		"trixie":   {"Podman 5.4.2 (netavark)", "$ podman network create --driver flatnet flatnet\n", named, "netavark's own bridge driver  "},
		"sid":      {" (netavark)", "$ podman network create --driver flatnet flatnet\n", named, "netavark's own bridge driver  "},
	} {
		t.Run(suite, func(t *testing.T) {
			b := newBox(t)
			podman := b.debianPodman(suite)
			if podman.Backend == "netavark" {
				podman.Do("network", "create", "--driver", "flatnet", "flatnet")
			}
			podman.Start("before")
			machine := box{podman.World, t}
			machine.Write("/tmp/demo", string(content))
			before := machine.hostOfDemo()
			out := machine.Sh("chmod +x /tmp/demo; cd " + lab.Repository + "/tests; /tmp/demo")
			readable(t, out, wants)
			if after := machine.hostOfDemo(); after != before {
				t.Errorf("the machine was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

// On a machine without Podman the demo shows the same with network namespaces; here on a
// terminal, and so in colour.
func TestDemoWithoutPodman(t *testing.T) {
	b := newBox(t)
	b.Sh("rm -f /usr/bin/podman /usr/local/bin/podman")
	demo := tool(t, "demo")
	out := b.Sh("cd " + root + "/tests; TERM=xterm script -qec " + demo + " /dev/null")
	out = strings.ReplaceAll(out, "\r\n", "\n")
	color := regexp.MustCompile("\x1b\\[[0-9]+m")
	if !strings.Contains(out, "\x1b[1m1. Two containers") {
		t.Errorf("no colour in\n%s", out)
	}
	readable(t, color.ReplaceAllString(out, ""), []string{"There is no Podman here", "$ ip netns exec safe curl", "bridge, host-local and portmap  "})
}

// readable fails unless the demo has said all of it, quickly, in lines of 80 columns and
// without a control character.
func readable(t *testing.T, out string, wants []string) {
	t.Helper()
	t.Log(out)
	for _, want := range append(wants, shown...) {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for line := range strings.Lines(out) {
		if line = strings.TrimSuffix(line, "\n"); utf8.RuneCountInString(line) > 80 || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' }) {
			t.Errorf("a terminal of 80 columns does not show %q", line)
		}
	}
	seconds := regexp.MustCompile(`(?m)^([0-9]+) seconds`).FindStringSubmatch(out)
	if seconds == nil {
		return
	}
	if took, err := time.ParseDuration(seconds[1] + "s"); err != nil || took > time.Minute {
		t.Errorf("it took %v (%v)", took, err)
	}
}

// hostOfDemo is all that somebody's demo could have changed on a machine.
func (b box) hostOfDemo() string {
	b.t.Helper()
	return b.state() + b.Sh(`for dir in /etc/cni /etc/containers /usr/local /var/lib/flatnet /var/lib/cni /run/flatnet; do
		[ ! -d $dir ] || find $dir -type f -exec sha256sum {} +
	done
	podman ps --format "{{.Names}}"; podman network ls`)
}
