package tests

import (
	"testing"

	"flatnet/tests/lab"
)

// Whatever happened before, DEL succeeds and leaves nothing.
func TestDEL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(b box, c container, del *lab.Call)
	}{
		{"as usual", func(box, container, *lab.Call) {}},
		{"no prevResult", func(b box, c container, del *lab.Call) { del.Conf = lab.Conf }},
		{"prevResult of another version", func(b box, c container, del *lab.Call) {
			del.Conf = lab.WithPrev(lab.Conf, lab.Reply{Stdout: `{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.87.1.2/24"}]}`})
		}},
		{"namespace gone", func(b box, c container, del *lab.Call) { b.Run("ip", "netns", "del", "c1") }},
		{"namespace empty", func(b box, c container, del *lab.Call) { del.NetNS = "" }},
		{"namespace gone and empty, no prevResult", func(b box, c container, del *lab.Call) {
			b.Run("ip", "netns", "del", "c1")
			del.NetNS, del.Conf = "", lab.Conf
		}},
		{"namespace is a file", func(b box, c container, del *lab.Call) {
			b.Write("/run/file", "")
			del.NetNS = "/run/file"
		}},
		{"bridge gone", func(b box, c container, del *lab.Call) { b.Run("ip", "link", "del", bridgeName) }},
		{"link gone", func(b box, c container, del *lab.Call) { c.Run("ip", "link", "del", "eth0") }},
		{"not on the bridge", func(b box, c container, del *lab.Call) { b.Run("ip", "link", "set", "fn-c1", "nomaster") }},
		{"interface renamed", func(b box, c container, del *lab.Call) {
			c.Sh("ip link set eth0 down; ip link set eth0 name eth9")
		}},
		{"rules flushed", func(b box, c container, del *lab.Call) { b.Run("nft", "flush", "ruleset") }},
		{"lease file gone", func(b box, c container, del *lab.Call) { b.Run("rm", leaseFile) }},
		{"configuration changed", func(b box, c container, del *lab.Call) {
			del.Conf = conf(`"bridge":"br7","ipMasq":false,"ipam":{"type":"flatnet-ipam","subnet":"10.87.7.0/24"}`)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			c1 := b.attach("c1")
			del := c1.then("DEL")
			c.spoil(b, c1, &del)
			for range 2 {
				b.do(del)
				b.clean()
			}
		})
	}
}

func TestDELLeavesOthersAlone(t *testing.T) {
	b := newBox(t)
	c1, c2 := b.attach("c1"), b.attach("c2")
	b.do(c1.then("DEL"))
	b.do(c2.then("CHECK"))
	if err := c2.Ping(lab.OutsideAddr); err != nil {
		t.Error(err)
	}
	if _, still := links(t, b.Place)[bridgeName]; !still {
		t.Error("the bridge is gone")
	}
}

func TestDELOfWhatNeverWas(t *testing.T) {
	b := newBox(t)
	before := b.state()
	b.do(call("DEL", "c1"))
	b.same(before)
}
