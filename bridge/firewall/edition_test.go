package firewall

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"flatnet/internal/sha256"
)

// Rules that another version has noted as complete are not taken for those of this one.
func TestEdition(t *testing.T) {
	var all string
	for _, name := range slices.Sorted(maps.Keys(networks)) {
		s := network(networks[name])
		all += fmt.Sprintf("%#v", chains(s, nil))
		s.ForwardAccept, s.ServesDNS, s.PortIsolated, s.VLANs.ID = true, true, true, 7
		all += fmt.Sprintf("%#v", chains(s, nil))
	}
	if got := fmt.Sprintf("%.4x", sha256.Sum(all)); got != edition {
		t.Errorf("the rules are others now: set edition to %q", got)
	}
}
