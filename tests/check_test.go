package tests

import (
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// One row for each thing that CHECK must notice; the error names it.
func TestCHECK(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(b box, c container, check *lab.Call)
		names string // what the error names; empty: there must be none
	}{
		{"as it was made", func(box, container, *lab.Call) {}, ""},
		{"more routes and addresses", func(b box, c container, check *lab.Call) {
			c.Sh("ip route add 198.51.100.0/24 via 10.87.1.1; ip addr add 192.0.2.99/32 dev eth0")
		}, ""},
		{"interface missing", func(b box, c container, check *lab.Call) { c.Run("ip", "link", "del", "eth0") }, "eth0"},
		{"interface down", func(b box, c container, check *lab.Call) {
			c.Run("ip", "link", "set", "eth0", "down")
		}, "eth0"},
		{"host end down", func(b box, c container, check *lab.Call) { b.Run("ip", "link", "set", "fn-c1", "down") }, "fn-c1"},
		{"other MAC", func(b box, c container, check *lab.Call) {
			c.Run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:99")
		}, "02:00:00:00:00:99"},
		{"address missing", func(b box, c container, check *lab.Call) {
			c.Sh("ip addr flush dev eth0; ip addr add 10.87.1.200/24 dev eth0; ip route add default via 10.87.1.1")
		}, "10.87.1.2"},
		{"route missing", func(b box, c container, check *lab.Call) { c.Run("ip", "route", "del", "default") }, "0.0.0.0/0"},
		{"not on the bridge", func(b box, c container, check *lab.Call) {
			b.Run("ip", "link", "set", "fn-c1", "nomaster")
		}, "fn-c1"},
		{"bridge gone", func(b box, c container, check *lab.Call) { b.Run("ip", "link", "del", bridgeName) }, bridgeName},
		{"bridge down", func(b box, c container, check *lab.Call) { b.Run("ip", "link", "set", bridgeName, "down") }, bridgeName},
		{"bridge without its address", func(b box, c container, check *lab.Call) {
			b.Run("ip", "addr", "flush", "dev", bridgeName)
		}, gateway},
		{"lease missing", func(b box, c container, check *lab.Call) {
			b.Write(leaseFile, strings.Replace(b.Read(leaseFile), `"c1"`, `"c9"`, 1))
		}, "c1"},
		{"lease of another address", func(b box, c container, check *lab.Call) {
			b.Write(leaseFile, strings.Replace(b.Read(leaseFile), `"`+c.addr+`"`, `"10.87.1.99"`, 1))
		}, "10.87.1.99"},
		{"forwarding off", func(b box, c container, check *lab.Call) {
			b.Sh("echo 0 >/proc/sys/net/ipv4/ip_forward")
		}, "ip_forward"},
		{"rules flushed", func(b box, c container, check *lab.Call) { b.Run("nft", "flush", "ruleset") }, "masquerad"},
		{"prevResult of another address", func(b box, c container, check *lab.Call) {
			check.Conf = strings.ReplaceAll(check.Conf, c.addr+"/24", "10.87.1.99/24")
		}, "10.87.1.99"},
		{"no prevResult", func(b box, c container, check *lab.Call) { check.Conf = lab.Conf }, "prevResult"},
		{"namespace gone", func(b box, c container, check *lab.Call) { check.NetNS = "/run/netns/none" }, "/run/netns/none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			c1 := b.attach("c1")
			check := c1.then("CHECK")
			c.spoil(b, c1, &check)
			before := b.state()
			if c.names == "" {
				b.do(check)
			} else {
				b.refused(check, 0, c.names)
			}
			b.same(before)
		})
	}
}
