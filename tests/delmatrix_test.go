package tests

import (
	"fmt"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// delNamespaces are ways in which the namespace of a DEL may be lost.
var delNamespaces = []struct {
	name  string
	spoil func(b box, c container, del *lab.Call)
}{
	{"namespace present", func(box, container, *lab.Call) {}},
	{"namespace empty", func(b box, c container, del *lab.Call) { del.NetNS = "" }},
	{"namespace missing", func(b box, c container, del *lab.Call) { b.Run("ip", "netns", "del", c.add.ID) }},
	{"namespace a regular file", func(b box, c container, del *lab.Call) {
		b.Run("umount", c.add.NetNS)
	}},
	{"namespace a stale bind", func(b box, c container, del *lab.Call) { // of one that is another's by now
		b.Run("umount", c.add.NetNS)
		b.Run("mount", "--bind", "/run/netns/neighbour", c.add.NetNS)
	}},
}

// delChanges are what else may have happened since the ADD.
var delChanges = []struct {
	name  string
	spoil func(b box, c container, del *lab.Call)
}{
	{"nothing changed", func(box, container, *lab.Call) {}},
	{"configuration changed", func(b box, c container, del *lab.Call) {
		del.Conf = conf(`"bridge":"br7","ipMasq":false,"mtu":"wrong","ipam":{"type":"flatnet-ipam","subnet":"10.87.7.0/24"}`)
	}},
	{"ranges removed", func(b box, c container, del *lab.Call) {
		del.Conf = lab.WithPrev(conf(`"ipam":{"type":"flatnet-ipam","ranges":[]}`), c.result)
	}},
	{"no prevResult", func(b box, c container, del *lab.Call) { del.Conf = c.add.Conf }},
	{"prevResult of another version", func(b box, c container, del *lab.Call) {
		del.Conf = lab.WithPrev(c.add.Conf, lab.Reply{Stdout: `{"cniVersion":"0.2.0","ip4":{"ip":"10.87.1.200/24"}}`})
	}},
	{"ruleset flushed", func(b box, c container, del *lab.Call) { b.Run("nft", "flush", "ruleset") }},
	{"bridge gone", func(b box, c container, del *lab.Call) { b.Run("ip", "link", "del", bridgeName) }},
	{"lease gone", func(b box, c container, del *lab.Call) { b.Run("rm", "-r", "/var/lib/flatnet/ipam") }},
	{"lease file torn", func(b box, c container, del *lab.Call) { b.Write(leaseFile, b.Read(leaseFile)[:40]) }},
	{"link gone", func(b box, c container, del *lab.Call) { b.Run("ip", "link", "del", "fn-"+c.add.ID) }},
}

// The matrix of what DEL may find: whatever became of the namespace, the
// configuration and the host since ADD, DEL succeeds, once and twice, and leaves
// nothing behind.
func TestDELMatrix(t *testing.T) {
	b := newBox(t)
	b.NetNS("neighbour").Sh("ip link add eth0 type veth peer name other")
	for i, ns := range delNamespaces {
		for j, ch := range delChanges {
			t.Run(ns.name+", "+ch.name, func(t *testing.T) {
				b := b.in(t)
				c := b.attach(fmt.Sprintf("m%d-%d", i, j))
				del := c.then("DEL")
				ch.spoil(b, c, &del)
				ns.spoil(b, c, &del)
				for range 2 {
					b.do(del)
					b.clean()
					if names := b.Sh("cd /var/lib/flatnet; find . -type f ! -name allocations.json ! -name .lock ! -name '*.broken-1'"); names != "" {
						t.Errorf("files are left: %s", names)
					}
				}
				if inside := b.At("/run/netns/neighbour").Run("ip", "-br", "link"); !strings.Contains(inside, "eth0") {
					t.Errorf("the neighbour has lost its eth0: %s", inside)
				}
				b.Sh("rm -f /var/lib/flatnet/ipam/*.broken-1; umount /run/netns/" + c.add.ID + " || :; rm -f /run/netns/" + c.add.ID)
			})
		}
	}
}
