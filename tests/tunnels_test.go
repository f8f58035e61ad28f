package tests

import "testing"

// Which addresses a tunnel of the host may have beside the host's part of the whole range,
// as docs/configuration.md says it.
func TestAddressesOfTunnels(t *testing.T) {
	for _, tt := range []struct {
		link, addr string
		collides   bool
	}{
		{"tuntap add t0 mode tun", "10.100.0.3/16", false},
		{"tuntap add t0 mode tap", "10.100.0.3/16", true},
		{"tuntap add t0 mode tap", "10.101.0.3/16", false},
		{"tuntap add t0 mode tap", "10.100.3.0/32", false},
		{"link add t0 type vxlan id 1 dstport 8472 dev up0", "10.100.0.3/16", true},
		{"link add t0 type vxlan id 1 dstport 8472 dev up0", "10.100.3.0/32", false},
	} {
		t.Run(tt.link+" "+tt.addr, func(t *testing.T) {
			b := newBox(t)
			add := call("ADD", "c1")
			add.Conf = conf(`"hostId":3`)
			b.NetNS("c1")
			b.Sh("ip " + tt.link + "; ip addr add " + tt.addr + " dev t0; ip link set t0 up")
			if tt.collides {
				b.refused(add, 102, "10.100.3.0/24", tt.addr, "t0")
			} else {
				b.do(add)
			}
		})
	}
}
