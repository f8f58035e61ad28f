package tests

import (
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// spoilt is what CHECK may meet.
var spoilt = []struct {
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
}

// One row for each thing that CHECK must notice; the error names it.
func TestCHECK(t *testing.T) {
	t.Parallel()
	for _, c := range spoilt {
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

// What CHECK and STATUS advise when a flag was changed helps: before the next ADD, a
// reload does not know of it.
func TestAdviceAfterAChange(t *testing.T) {
	b := newBox(t)
	c1 := b.attach("c1")
	const later = "flatnet reload mends that after the network's next ADD"
	changed := conf(`"hairpinMode":true,"portIsolation":true,"isolation":"none","macspoofchk":true`)
	check, status := c1.then("CHECK"), lab.Call{Command: "STATUS", Conf: newer(changed)}
	check.Conf = lab.WithPrev(changed, c1.result)
	for _, what := range []string{"hairpin mode of fn-c1 is off", "port isolation of fn-c1 is off", "interface " + bridgeName + " is in the group 10870 and not 10871"} {
		b.refused(check, 104, what+" ("+later)
		b.refused(status, 51, what+" ("+later)
	}
	b.refused(check, 104, "c1/eth0 was attached without macspoofchk")
	b.attach("c2", func(c *lab.Call) { c.Conf = changed })
	b.refused(check, 104, "hairpin mode of fn-c1 is off (flatnet reload mends that)")
	b.refused(status, 51, "hairpin mode of fn-c1 is off (flatnet reload mends that)")
	b.reload()
	b.do(status)
	b.refused(check, 104, "c1/eth0 was attached without macspoofchk")
	b.do(c1.then("DEL"))
	add := c1.add
	add.Conf = changed
	check.Conf = lab.WithPrev(changed, b.do(add))
	b.do(check)
}

// A reload restores ports and limits by the attachment's own record: without that, CHECK
// does not promise them.
func TestAdviceWithoutARecord(t *testing.T) {
	b := newBox(t)
	c1 := b.attach("c1", func(c *lab.Call) { c.Conf = withKeys(c.Conf, shaped) })
	b.Sh("nft flush ruleset; tc qdisc del dev fn-c1 root")
	b.refused(c1.then("CHECK"), 104, "not forwarded to "+c1.addr+":80 (flatnet reload mends that)")
	b.Sh("rm /run/flatnet/*/flatnet/c1:eth0")
	for range 2 {
		b.refused(c1.then("CHECK"), 104,
			"not forwarded to "+c1.addr+":80 (flatnet reload mends that, but not ports and limits of flatnet/c1/eth0, which are not recorded)")
		if _, err := b.Try(program, "reload"); err == nil || !strings.Contains(err.Error(), "no record of flatnet/c1/eth0") {
			t.Errorf("reload, which does not: %v", err)
		}
	}
}
