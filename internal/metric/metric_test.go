package metric

import (
	"math"
	"testing"
)

// Beside netavark's own networks, whose metric is 100, and the bridge plugin's, whose is 0
// in IPv4 and 1024 in IPv6, both families choose the same network.
func TestOrder(t *testing.T) {
	names := []string{"eth0", "eth1", "eth2", "eth10", "eth999999", "a", "a0", "dmz", "eth", "eth01", "lan0", "lan1", "Wan", "zzzzzz"}
	if m, n := Of(names[0]), Netavark(names[0]); m != 0 || n == 0 || n >= 100 {
		t.Errorf("%s: %d and %d are not first beside others", names[0], m, n)
	}
	for i, name := range names[1:] {
		if m := Of(name); m <= 1024 || m <= Of(names[i]) {
			t.Errorf("%s: %d does not follow %s's %d", name, m, names[i], Of(names[i]))
		}
		if m := Netavark(name); m <= 100 || m <= Netavark(names[i]) {
			t.Errorf("%s: %d does not follow %s's %d", name, m, names[i], Netavark(names[i]))
		}
	}
	if m := uint64(others) + uint64(code("zzzzzz")); m >= math.MaxUint32 {
		t.Errorf("the highest metric is %d", m)
	}
	if a, b := Of("network1"), Of("network2"); a != b {
		t.Errorf("names that differ late: %d and %d", a, b)
	}
}
