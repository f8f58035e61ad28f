package ipam

import (
	"fmt"
	"net/netip"
	"testing"

	"flatnet/bridge/model"
)

// Leases of half a /16 are rebuilt, looked up and removed. Its time is not asserted: one
// index for each lease made it minutes.
func TestManyLeases(t *testing.T) {
	const n = 30000
	var owners []model.Owner
	a := netip.MustParseAddr("10.0.0.1")
	for i := range n {
		k := model.Key{Network: "n", ContainerID: fmt.Sprintf("c%d", i*7919%n), IfName: "eth0"}
		owners = append(owners, model.Owner{Key: k, Addresses: []netip.Addr{a}})
		a = a.Next()
	}
	l := &leases{network: "n"}
	if changed := l.adopt(owners); changed != n || len(l.all) != n {
		t.Fatalf("%d leases of %d", len(l.all), changed)
	}
	if changed := l.adopt(owners); changed != 0 {
		t.Errorf("%d leases changed", changed)
	}
	decoded, err := decode("n", l.encode())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range owners {
		if le := decoded.owner(o.Addresses[0]); le == nil || decoded.key(le) != o.Key {
			t.Fatalf("%s is not leased to %s", o.Addresses[0], o.Key)
		}
	}
	var keys []model.Key
	for _, o := range owners[:n/2] {
		keys = append(keys, o.Key)
	}
	decoded.removeKeys(keys)
	if len(decoded.all) != n/2 {
		t.Errorf("%d leases are left", len(decoded.all))
	}
}
