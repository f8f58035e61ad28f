package metric

import (
	"fmt"
	"math"
	"testing"
)

// Beside netavark's own networks, whose metric is 100, and the bridge plugin's, whose is 0
// in IPv4 and 1024 in IPv6, both families choose the same network.
func TestOrder(t *testing.T) {
	names := []string{"eth0", "eth1", "eth2", "eth10", "eth999999", "a", "a0", "dmz", "eth", "eth01", "lan0", "lan1", "Wan", "zzzzzz"}
	for i, name := range names {
		v4, v6 := Of(name, false), Of(name, true)
		if i == 0 {
			if n := Netavark(name); v4 != 0 || v6 >= 1024 || v6 == 0 || n >= netavark || n == 0 {
				t.Errorf("%s: %d, %d and %d are not first beside others", name, v4, v6, n)
			}
			continue
		}
		if n := Netavark(name); n <= netavark || n <= Netavark(names[i-1]) {
			t.Errorf("%s: %d does not follow %s's %d", name, n, names[i-1], Netavark(names[i-1]))
		}
		if v4 != v6 || v4 <= 1024 || v4 <= Of(names[i-1], true) {
			t.Errorf("%s: %d and %d don't follow %s's %d", name, v4, v6, names[i-1], Of(names[i-1], true))
		}
	}
	if m := uint64(others) + uint64(code("zzzzzz")); m >= math.MaxUint32 {
		t.Errorf("the highest metric is %d", m)
	}
	if a, b := Of("network1", true), Of(fmt.Sprint("network", 2), true); a != b {
		t.Errorf("names that differ late: %d and %d", a, b)
	}
}
