package tests

import (
	"testing"

	"flatnet/tests/lab"
)

// A subnet that somebody else has is found before anything is made, and both are
// named: on WSL and with VPNs it would cut the host off.
func TestOverlaps(t *testing.T) {
	vpn := "ip link add vpn0 up type veth peer name vpn1; "
	for _, c := range []struct {
		name, prepare, conf string
		refused             []string // texts of the error; none: it must work
	}{
		{"address in the subnet", vpn + "ip addr add 10.87.1.200/32 dev vpn0", lab.Conf, []string{"10.87.1.0/24", "10.87.1.200/32", "vpn0"}},
		{"the same subnet", vpn + "ip addr add 10.87.1.77/24 dev vpn0", lab.Conf, []string{"10.87.1.0/24", "10.87.1.77/24", "vpn0"}},
		{"wider subnet", vpn + "ip addr add 10.80.0.1/12 dev vpn0", lab.Conf, []string{"10.80.0.1/12", "vpn0"}},
		{"route to a part", vpn + "ip route add 10.87.1.128/25 dev vpn0", lab.Conf, []string{"10.87.1.128/25", "vpn0"}},
		{"route in another table", vpn + "ip route add 10.87.1.0/24 dev vpn0 table 51820", lab.Conf, []string{"10.87.1.0/24", "vpn0"}},
		{"route to all private addresses", vpn + "ip route add 10.0.0.0/8 dev vpn0", lab.Conf, []string{"10.0.0.0/8", "vpn0"}},
		{"IPv6", vpn + "ip addr add fd87:1::9/64 dev vpn0 nodad", conf(`"ipam":{"subnet":"fd87:1::/64"}`), []string{"fd87:1::/64", "vpn0"}},
		{"one of two", vpn + "ip addr add fd87:1::9/64 dev vpn0 nodad", conf(`"ipam":{"ranges":[[{"subnet":"10.87.1.0/24"}],[{"subnet":"fd87:1::/64"}]]}`), []string{"fd87:1::/64", "vpn0"}},

		{"a default route", ":", lab.Conf, nil}, // which each world has
		{"an overlay's route to the flat network", vpn + "ip route add 10.87.0.0/16 dev vpn0", lab.Conf, nil},
		{"our own bridge", "ip link add flatnet-br0 up type bridge; ip addr add 10.87.1.1/24 dev flatnet-br0", lab.Conf, nil},
		{"a neighbouring subnet", vpn + "ip addr add 10.87.2.1/24 dev vpn0", lab.Conf, nil},
		{"a bridge without a gateway", vpn + "ip addr add 10.87.1.200/24 dev vpn0", conf(`"isGateway":false,"ipMasq":false`), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			b.Sh(c.prepare)
			b.NetNS("c1")
			add := call("ADD", "c1")
			add.Conf = c.conf
			before := b.state()
			if c.refused == nil {
				b.do(add)
				return
			}
			b.refused(add, 102, c.refused...)
			b.same(before)
			if files := b.Sh("find /var/lib/flatnet -type f"); files != "" {
				t.Errorf("files are made: %s", files)
			}
		})
	}
}

// An overlap that comes later does not hurt a network that is in use.
func TestOverlapThatComesLater(t *testing.T) {
	b := newBox(t)
	b.attach("c1")
	b.Run("ip", "addr", "add", "10.87.1.200/32", "dev", lab.Uplink)
	c2 := b.attach("c2")
	if err := b.Ping(c2.addr); err != nil {
		t.Error(err)
	}
}
