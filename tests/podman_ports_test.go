package tests

import (
	"net"
	"strings"
	"testing"
	"time"

	"flatnet/tests/lab"
)

// podman run -p, on the network that make install puts there. Podman itself
// listens on the port, so only bytes of the container show that it is reached.
func TestPodmanPublishes(t *testing.T) {
	b := newBox(t)
	podman := b.debianPodman("bookworm")
	run := func(name, port string) error {
		_, err := podman.Try("run", "-d", "--name", name, "--network", "flatnet", b.Cgroup(), "-p", port, lab.Image,
			"/bin/busybox", "nc", "-ll", "-p", "80", "-e", "/bin/busybox", "echo", "from", name)
		return err
	}
	reach := func(want string) {
		t.Helper()
		for name, c := range map[string]struct {
			from lab.Place
			to   string
		}{
			"outside": {b.Outside, lab.HostAddr}, "host": {b.Place, lab.HostAddr}, "127.0.0.1": {b.Place, "127.0.0.1"},
		} {
			var got string
			err := lab.Until(10*time.Second, func() (err error) { // the server may still be starting
				got, err = c.from.Ask(net.JoinHostPort(c.to, "8080"))
				return err
			})
			if strings.TrimSpace(got) != want {
				t.Errorf("%s: %q instead of %q: %v", name, got, want, err)
			}
		}
	}
	if err := run("web", "8080:80"); err != nil {
		t.Fatal(err)
	}
	reach("from web")
	if err := run("late", "8080:80"); err == nil {
		t.Error("one port is published twice")
	}
	podman.Do("rm", "-ft0", "late")
	b.Run("nft", "flush", "ruleset")
	podman.Do("network", "reload", "web")
	reach("from web")
	podman.Do("restart", "-t0", "web")
	reach("from web")
	podman.Do("rm", "-ft0", "web")
	if err := run("next", "8080:80"); err != nil {
		t.Fatal(err)
	}
	reach("from next")
	podman.Do("rm", "-fat0")
	newPod(t, podman).clean()
}
