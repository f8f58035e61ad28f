package tests

import (
	"fmt"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// The rate of a real transfer is that of the configuration, within 10 %, in
// each direction and however the two are combined. It is not measured beside
// other tests, which would take the CPU away.
func TestBandwidth(t *testing.T) {
	const mbit = 1e6
	for _, c := range []struct{ ingress, egress float64 }{{20 * mbit, 0}, {0, 20 * mbit}, {8 * mbit, 40 * mbit}} {
		t.Run(fmt.Sprintf("%g and %g Mbit per second", c.ingress/mbit, c.egress/mbit), func(t *testing.T) {
			b := box{lab.New(t), t}
			before := b.state()
			c1 := b.attach("c1", func(l *lab.Call) {
				l.Conf = strings.TrimSuffix(lab.Conf, "}") + fmt.Sprintf(
					`,"runtimeConfig":{"bandwidth":{"ingressRate":%.0f,"ingressBurst":%.0f,"egressRate":%.0f,"egressBurst":%.0f}}}`,
					c.ingress, c.ingress/50, c.egress, c.egress/50)
			})
			b.do(c1.then("CHECK"))
			c1.Drain(c1.addr + ":90")
			b.Drain(gateway + ":90")
			for _, way := range []struct {
				name string
				from lab.Place
				to   string
				want float64
			}{{"to the container", b.Place, c1.addr, c.ingress}, {"from the container", c1.Place, gateway, c.egress}} {
				// A transfer that gets no CPU time is slower, never faster: the best
				// of some counts.
				var got float64
				least := 0.9 * way.want
				if way.want == 0 { // no limit
					least = 100 * mbit
				}
				for try := 0; try < 5 && got < least; try++ {
					// What the bucket holds at first is skipped, and the kernel counts
					// Ethernet and TCP/IP headers, too.
					rate, err := way.from.Pour(way.to+":90", 1<<20, 3)
					if err != nil {
						t.Fatalf("%s: %v", way.name, err)
					}
					t.Logf("%s: %.1f Mbit/s", way.name, rate/mbit)
					got = max(got, rate)
				}
				if got < least || way.want > 0 && got > 1.1*way.want {
					t.Errorf("%s: %.1f Mbit/s instead of %.1f", way.name, got/mbit, way.want/mbit)
				}
			}
			b.do(c1.then("DEL"))
			b.Run("ip", "link", "del", bridgeName)
			b.same(before)
		})
	}
}
