package tests

import (
	"fmt"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// gc is a GC call that lists container IDs as valid.
func gc(conf string, ids ...string) lab.Call {
	valid := []string{}
	for _, id := range ids {
		valid = append(valid, fmt.Sprintf(`{"containerID":%q,"ifname":"eth0"}`, id))
	}
	return lab.Call{Command: "GC", Conf: withKeys(newer(conf), `"cni.dev/valid-attachments":[`+strings.Join(valid, ",")+`]`)}
}

// otherNetwork has containers that no GC of the first one may touch.
func otherNetwork(c *lab.Call) {
	c.Conf = `{"cniVersion":"1.0.0","name":"other","type":"flatnet","bridge":"br9","ipam":{"type":"flatnet-ipam","subnet":"10.87.9.0/24"}}`
}

func TestGC(t *testing.T) {
	b := newBox(t)
	kept, other := b.attach("kept"), b.attach("other", otherNetwork)
	second := kept.add
	second.IfName = "eth1" // of a listed container, but not listed
	b.do(second)
	b.attach("gone")
	b.Sh("ip netns del gone")
	leased := b.attach("leased") // a lease without a link
	leased.Run("ip", "link", "del", "eth0")
	linked := b.attach("linked") // a link without a lease
	b.Write(leaseFile, strings.Replace(b.Read(leaseFile), ",\n    \"linked\": \""+linked.addr+"\"", "", 1))
	if len(b.leases()) != 4 {
		t.Fatalf("the leases are %v", b.leases())
	}
	b.do(gc(lab.Conf, "kept"))
	if leases := b.leases(); len(leases) != 1 || leases["kept"] != kept.addr {
		t.Errorf("leases are %v", leases)
	}
	for name := range links(t, b.Place) {
		if strings.HasPrefix(name, "fn-") && name != "fn-kept" && name != "fn-other" {
			t.Errorf("%s is left", name)
		}
	}
	b.do(kept.then("CHECK"))
	b.do(other.then("CHECK"))
	for _, c := range []container{kept, other} {
		if err := c.Ping(lab.OutsideAddr); err != nil {
			t.Error(err)
		}
	}
	b.do(gc(lab.Conf))
	b.do(gc(lab.Conf)) // nothing left to do
	b.do(other.then("CHECK"))
	b.do(gc(other.add.Conf))
	b.Run("ip", "link", "del", "br9")
	b.clean()
}

// A GC that can't remove a lease goes on to the next attachment, and says so of
// each.
func TestGCGoesOn(t *testing.T) {
	b := newBox(t)
	b.attach("c1")
	b.attach("c2")
	kept := b.attach("kept")
	const dir = "/var/lib/flatnet/ipam"
	b.Sh("mount --bind " + dir + " " + dir + "; mount -o remount,ro,bind " + dir)
	b.refused(gc(lab.Conf, "kept"), 5, "flatnet/c1/eth0", "flatnet/c2/eth0", "read-only")
	for name := range links(t, b.Place) {
		if name == "fn-c1" || name == "fn-c2" {
			t.Errorf("%s is left", name)
		}
	}
	b.Run("umount", dir)
	b.do(gc(lab.Conf, "kept"))
	if leases := b.leases(); len(leases) != 1 || leases["kept"] != kept.addr {
		t.Errorf("leases are %v", leases)
	}
}

// Without a list of valid attachments, all of the network's are removed: so do
// libcni's GCNetworkList and cnitool gc ask for it.
func TestGCByTheReferenceLibrary(t *testing.T) {
	l := newLister(t)
	l.Write("/run/list.conflist", `{"cniVersion":"1.1.0","name":"flatnet","plugins":[{"type":"flatnet"}]}`)
	for _, id := range []string{"c1", "c2"} {
		l.NetNS(id)
		if out, err := l.run("add", id); err != nil {
			t.Fatalf("add %s: %s, %v", id, out, err)
		}
	}
	other := l.attach("other", otherNetwork)
	l.Sh("rm -r /var/lib/cni/results") // else the library deletes them one by one
	if out, err := l.Try("env", "CNI_PATH="+plugins, l.program, "gc", "/run/list.conflist"); err != nil {
		t.Errorf("gc: %s, %v", out, err)
	}
	if leases := l.leases(); len(leases) != 0 {
		t.Errorf("leases are left: %v", leases)
	}
	l.do(other.then("CHECK"))
	l.do(other.then("DEL"))
	l.Run("ip", "link", "del", "br9")
	l.clean()
}

func TestGCRefusesAListThatIsNone(t *testing.T) {
	b := newBox(t)
	c := b.attach("c1")
	before := b.state()
	call := gc(lab.Conf)
	for keys, text := range map[string]string{
		`"cni.dev/valid-attachments":[{}]`:  "cni.dev/valid-attachments[0]",
		`"cni.dev/valid-attachments":"all"`: "cni.dev/valid-attachments",
	} {
		call.Conf = withKeys(newer(lab.Conf), keys)
		b.refused(call, 7, text)
		b.same(before)
	}
	old := gc(lab.Conf)
	old.Conf = strings.Replace(old.Conf, "1.1.0", "1.0.0", 1)
	b.refused(old, 1, "GC")
	b.do(c.then("CHECK"))
}
