package tests

import (
	"os"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// make demo runs containers of the Podman that the machine has, through the
// door that this one has, and leaves nothing; also on a machine where flatnet is
// installed and in use, of which it sees nothing.
func TestDemo(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(tool(t, "demo"))
	if err != nil {
		t.Fatal(err)
	}
	for suite, door := range map[string]string{
		"bookworm": "Two containers of podman version 4.3.1 (cni)",
		"trixie":   "Two containers of podman version 5.4.2 (netavark)",
		"sid":      " (netavark) on the network flatnet",
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
			for _, want := range []string{door, "podman run -d --network flatnet", "web  has 10.87.1.2 ", "db   has 10.87.1.3 ",
				"web  -> outside  192.0.2.2  in ", "interfaces  none left", "rules       none left", "leases      none left"} {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			if after := machine.hostOfDemo(); after != before {
				t.Errorf("the machine was\n%s\nand is\n%s", before, after)
			}
		})
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
