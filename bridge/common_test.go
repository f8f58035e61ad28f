package bridge

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func commonAttachment() Attachment {
	a := Network{
		Name: "flatnet", Bridge: "br", MTU: 1400, IsGateway: true, Isolated: true, PromiscMode: true, PortIsolated: true,
		VLANs: VLANs{ID: 7, Trunk: []uint16{9, 10, 4094}, KeepDefault: true},
	}.common()
	a.Addresses = []Address{{Prefix: pfx("10.87.1.2/24")}}
	a.addGateway(pfx("10.87.1.1/24"))
	return a
}

// What is recorded is what a reload makes a bridge and its ports of.
func TestNetworkRecord(t *testing.T) {
	r := records{dir: filepath.Join(t.TempDir(), "1")}
	br := bridgeState{}
	br.MAC = []byte{2, 0, 0, 0, 0, 1}
	a := commonAttachment()
	r.saveNetwork(a, br)
	file := r.networkFile("flatnet")
	first, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	os.Chtimes(file, first.ModTime().Add(-1e9), first.ModTime().Add(-1e9))
	r.saveNetwork(a, br)
	if again, _ := os.Stat(file); !again.ModTime().Before(first.ModTime()) {
		t.Error("what is recorded already is written again")
	}
	got, err := r.networks()
	want := a
	want.Addresses, want.BridgeMAC, want.Siblings = nil, HardwareAddr{2, 0, 0, 0, 0, 1}, want.Gateways
	if err != nil || !reflect.DeepEqual(got, []Attachment{want}) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

// Of several subnets, one container may have an address in only one.
func TestNetworkRecordAddsGateways(t *testing.T) {
	r := records{dir: filepath.Join(t.TempDir(), "1")}
	save := func(siblings []netip.Prefix, gateways ...string) []netip.Prefix {
		a := commonAttachment()
		a.Gateways, a.Siblings = nil, siblings
		for _, gw := range gateways {
			a.addGateway(pfx(gw))
		}
		r.saveNetwork(a, bridgeState{})
		all, err := r.networks()
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		return all[0].Gateways
	}
	both := []netip.Prefix{pfx("10.87.1.1/24"), pfx("fd87::1/64")}
	save(both, "10.87.1.1/24")
	if got := save(both, "fd87::1/64"); !reflect.DeepEqual(got, both) {
		t.Errorf("got %v", got)
	}
	if got := save(both[1:], "fd87::1/64"); !reflect.DeepEqual(got, both[1:]) {
		t.Errorf("the gateway of a subnet that the network has no longer stays: %v", got)
	}
}

func TestNetworkRecordRefuses(t *testing.T) {
	r := records{dir: filepath.Join(t.TempDir(), "1")}
	good := string(encodeCommon(commonAttachment()))
	for _, bad := range []string{
		"", "[]", "{}", good + "x", strings.Replace(good, `"br"`, `"a/b"`, 1), strings.Replace(good, "10.87.1.1/24", "10.87.1.1", 1),
		strings.Replace(good, `"vlan":7`, `"vlan":4095`, 1), strings.Replace(good, `"4094"`, `"x"`, 1), strings.Replace(good, "00:00:00:00:00:00", "zz", 1),
	} {
		r.write(r.networkFile("flatnet"), []byte(bad))
		if got, err := r.networks(); len(got) > 0 || err == nil || !strings.Contains(err.Error(), "flatnet/bridge") {
			t.Errorf("%s: got %+v, %v", bad, got, err)
		}
		r.saveNetwork(commonAttachment(), bridgeState{})
		if got, err := r.networks(); len(got) != 1 || err != nil {
			t.Errorf("%s is not replaced: %v", bad, err)
		}
	}
}

// Without a directory of its own a namespace has no records, and no other
// directory is read instead.
func TestNoRecords(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.MkdirAll("flatnet", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bridge", "c1:eth0", "firewall:10.87.1.0_24"} {
		if err := os.WriteFile(filepath.Join("flatnet", name), encodeCommon(commonAttachment()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := records{}
	networks, nerr := r.networks()
	firewalls, wishes, err := r.all()
	if len(networks)+len(firewalls)+len(wishes)+len(r.firewalls("*"))+len(r.wishesOf("c1"))+len(r.raised()) > 0 || nerr != nil || err != nil || r.know("flatnet") {
		t.Errorf("got %v, %v, %v, %v, %v", networks, firewalls, wishes, nerr, err)
	}
}

func TestOlderRecordsAreRead(t *testing.T) {
	dir := t.TempDir()
	r := records{dir: filepath.Join(dir, "1")}
	w := wish{Key: testKey, Internal: true}
	r.older().saveWish(w)
	if got, ok := r.wish(testKey); !ok || !got.Internal || !r.know(testKey.Network) {
		t.Errorf("got %+v, %v", got, ok)
	}
	newer := w
	newer.Internal = false
	r.saveWish(newer)
	if _, all, err := r.all(); err != nil || len(all) != 1 || all[0].Internal {
		t.Errorf("got %+v, %v", all, err)
	}
	if err := r.dropWish(testKey); err != nil {
		t.Error(err)
	}
	if _, ok := r.wish(testKey); ok {
		t.Error("one is left")
	}
}
