package rtnl

import (
	"testing"

	"golang.org/x/sys/unix"
)

// As in golden, of iproute2 6.1.
var goldenQdisc = []row{
	{
		// Less the table of rates, its cell size and the buffer's ticks, which the
		// kernel works out itself; and with TCA_TBF_RATE64, which iproute2 sends only
		// if the rate needs it.
		"tc qdisc replace dev d0 root handle 1: tbf rate 20mbit burst 25000 limit 87500",
		"24000505 00000000030000000000 0100ffffffff00000000 0800010074626600 40000280" +
			"28000100 0001000000000000a0252600 000000000000000000000000 cc550100 00000000 00000000" +
			"0c000400 a025260000000000 08000600a8610000",
		func(c *Conn) { c.SetTokenBucket(3, TokenBucket{2500000, 25000, 87500}) },
	},
	{
		"tc qdisc replace dev d0 root handle 1: tbf rate 80gbit burst 25000 limit 87500",
		"24000505 00000000030000000000 0100ffffffff00000000 0800010074626600 40000280" +
			"28000100 0001000000000000ffffffff 000000000000000000000000 cc550100 00000000 00000000" +
			"0c000400 00e40b5402000000 08000600a8610000",
		func(c *Conn) { c.SetTokenBucket(3, TokenBucket{10000000000, 25000, 87500}) },
	},
	{
		"tc qdisc del dev d0 ingress",
		"25000500 00000000030000000000 fffff1ffffff00000000 0c000100696e677265737300",
		func(c *Conn) { c.DeleteIngress(3) },
	},
	{
		// iproute2 leaves NLA_F_NESTED out.
		"tc qdisc add dev d0 ingress, and " +
			"tc filter add dev d0 parent ffff: protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev d1",
		"24000506 00000000030000000000 fffff1ffffff00000000 0c000100696e677265737300" +
			"2c000506 00000000030000000000 00000000ffff00030100 0800010075333200 60000280 38000780 34000180" +
			"0b0001006d697272656400 00 24000280 20000200 0000000000000000040000000000000000000000 01000000 02000000" +
			"24000500 01000100000000000000000000000000 00000000000000000000000000000000",
		func(c *Conn) { c.RedirectIngress(3, 2) },
	},
	{
		"ip link add name fb-0123 address 02:11:22:33:44:55 mtu 1500 up type ifb",
		"10000506 00000000000000000100000001000000 0a000100021122334455 0000 08000400dc050000 0c00030066622d3031323300 0c001280 0700010069666200",
		func(c *Conn) { c.AddLink("ifb", "fb-0123", mac("02:11:22:33:44:55"), 1500) },
	},
	{
		"ip link set dev d0 group 10870",
		"13000500 00000000030000000000000000000000 08001b00762a0000",
		func(c *Conn) { c.SetLink(Link{Index: 3}, LinkChange{Group: 10870}) },
	},
	{
		"ip link set dev br0 type bridge no_linklocal_learn 1",
		"10000500 00000000030000000000000000000000 20001280 0a000100627269646765 0000 10000280 0c002e00 0100000001000000",
		func(c *Conn) { c.SetNoLinkLocalLearn(Link{Index: 3}) },
	},
	{
		"bridge link set dev d0 isolated on",
		"13000500 07000000030000000000000000000000 0c000c80 0500210001000000",
		func(c *Conn) { c.SetPort("isolation", Link{Index: 3}, unix.IFLA_BRPORT_ISOLATED) },
	},
}

func TestGoldenQdisc(t *testing.T) { testSent(t, goldenQdisc) }
