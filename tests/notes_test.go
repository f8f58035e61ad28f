package tests

import (
	"sync"
	"testing"
)

// Two containers that died get their DELs at the same moment: no note is left of either.
func TestNotesOfDELsAtOnce(t *testing.T) {
	b := newBox(t)
	left := 0
	for range 40 {
		c1, c2 := b.attach("c1"), b.attach("c2")
		b.vanish("c1")
		b.vanish("c2")
		var wg sync.WaitGroup
		for _, c := range []container{c1, c2} {
			wg.Go(func() {
				if r := b.Call(program, c.then("DEL")); r.Exit != 0 {
					t.Errorf("DEL: %s", r.Stdout)
				}
			})
		}
		wg.Wait()
		if notes := b.Sh("find /run/flatnet -path '*/.gone*'; find /run/flatnet -path '*/.gone*' -delete"); notes != "" {
			left++
			t.Logf("%s", notes)
		}
	}
	if left > 0 {
		t.Errorf("notes are left in %d of 40 rounds", left)
	}
}
