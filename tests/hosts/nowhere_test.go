package hosts

import (
	"fmt"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// What docs/hosts.md has against packets that leave without the tunnel, as a real systemd
// runs it: the unit has no cycle and is enabled, and the route stays where systemd-networkd
// sets up the interfaces.
func TestNowhereUnit(t *testing.T) {
	t.Parallel()
	w := lab.New(t)
	booted, err := w.Systemd()
	if err != nil {
		t.Skipf("NO DEBIAN WITH SYSTEMD TO TEST WITH: %v", err)
	}
	booted.Write("/etc/systemd/network/up0.network", "[Match]\nName=up0\n[Network]\nAddress=198.51.100.7/24\n")
	booted.Run("mount", "-o", "remount,bind,ro", "/sys") // by which networkd knows that there is no udevd to wait for
	booted.Run("systemctl", "start", "systemd-networkd")
	for _, b := range blocksOf(t, withoutTunnel) {
		booted.Run("sh", "-ec", b.on(1))
	}
	booted.Run("systemctl", "enable", "--now", unit)
	if out, err := booted.Try("systemd-analyze", "--man=no", "verify", unit+".service"); err != nil || out != "" {
		t.Errorf("the unit: %v: %s", err, out)
	}
	booted.Run("networkctl", "reconfigure", "up0")
	booted.Run("systemctl", "restart", "systemd-networkd")
	if err := lab.Until(soon, func() error {
		if out := booted.Run("networkctl", "status", "up0"); !strings.Contains(out, "(configured)") {
			return fmt.Errorf("networkd has not configured up0: %s", out)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if out := booted.Run("ip", "-4", "addr", "show", "up0"); !strings.Contains(out, "198.51.100.7/24") {
		t.Errorf("networkd did not set up0: %s", out)
	}
	if out := booted.Run("ip", "route", "show", "type", "unreachable"); !strings.Contains(out, nowhere) {
		t.Errorf("beside systemd-networkd the unreachable routes are %q", out)
	}
}
