package peers

import (
	"net/netip"
	"path/filepath"
	"testing"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/bridge/records"
	"flatnet/internal/peer"
)

// A record stays as long as the routes that only it knows of.
func TestDropKeepsTheRecordOfARoute(t *testing.T) {
	h, err := host.Open(func(s string) { t.Error(s) })
	if err != nil {
		t.Fatal(err)
	}
	dir := records.In(filepath.Join(t.TempDir(), "run", "1"), func(s string) { t.Error(s) })
	s := &model.Shared{Network: model.Network{Name: "a", Bridge: "br-a"}}
	s.Peers = []peer.Peer{{Subnet: netip.MustParsePrefix("203.0.113.0/24"), Dev: "none-such"}}
	dir.Share(s, nil)
	if err := Drop(h, dir, "a", s); err != nil || dir.Network("a") != nil {
		t.Errorf("a record is left: %v", err)
	}
	dir.Share(s, nil)
	h.Close() // and so no question is answered
	if err := Drop(h, dir, "a", s); err == nil || dir.Network("a") == nil {
		t.Errorf("no record is left: %v", err)
	}
}
