package records

import (
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"flatnet/bridge/model"
	"flatnet/internal/peer"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func ip(s string) netip.Addr    { return netip.MustParseAddr(s) }

var testKey = model.Key{Network: "flatnet", ContainerID: "c1", IfName: "eth0"}

// newDir returns an empty directory of records that warns of nothing.
func newDir(t *testing.T) Dir {
	return Dir{filepath.Join(t.TempDir(), "run", "1"), func(text string) { t.Errorf("warning: %s", text) }, false}
}

// fullShared has a value in each field that is recorded.
func fullShared() *model.Shared {
	v4 := model.Subnet{Prefix: pfx("10.87.1.0/24"), Gateway: ip("10.87.1.1")}
	v6 := model.Subnet{Prefix: pfx("fd87::/64"), Gateway: ip("fe80::1")}
	return &model.Shared{
		Network: model.Network{
			Name: "flatnet", Bridge: "br", MTU: 1400, IsGateway: true, IPMasq: true, HairpinMode: true, PromiscMode: true,
			Internal: true, Isolated: true, SpoofCheck: true, PortIsolated: true, PublishedOnly: true, ForwardAccept: true,
			ServesDNS: true, DNSPort: 1053, NoAddress: true, Spans: true, AllowOverlap: true, DataDir: "/srv/leases",
			VLANs:   model.VLANs{ID: 7, Trunk: []uint16{9, 10, 4094}, KeepDefault: true},
			Subnets: []model.Subnet{v4, v6},
			Flat:    []netip.Prefix{pfx("10.87.0.0/16"), pfx("fd87::/48")},
			Leaving: []peer.Peer{{Subnet: pfx("10.87.3.0/24"), Dev: "wg0"}},
			Peers:   []peer.Peer{{Subnet: pfx("10.87.2.0/24"), Via: ip("192.0.2.2"), Dev: "eth0"}, {Subnet: pfx("fd87:2::/64"), Dev: "wg0"}},
		},
		Served:    []model.Subnet{v6, {Prefix: v4.Prefix}},
		BridgeMAC: model.HardwareAddr{2, 0, 0, 0, 0, 1},
	}
}

// fullAttachment has a value in each field that is recorded.
func fullAttachment(key model.Key) *model.Attachment {
	host, target := netip.MustParseAddrPort("[::]:80"), netip.MustParseAddrPort("[fd87::2]:8080")
	a := &model.Attachment{
		Key: key, MAC: model.HardwareAddr{2, 0, 0, 0, 0, 2}, HostEnd: "fn-c1", Rank: 99, ByHand: true,
		Addresses: []model.Address{{Prefix: pfx("10.87.1.2/24"), Gateway: ip("10.87.1.1")}, {Prefix: pfx("fd87::2/64")}},
		Ports: []model.Publication{
			{Protocol: model.SCTP, Host: host, Target: target, Local: true}, {Protocol: model.UDP, Target: target}},
		Bandwidth: model.Bandwidth{Ingress: model.Limit{Rate: 1, Burst: 2}, Egress: model.Limit{Rate: 1<<64 - 1, Burst: 4}},
	}
	a.Name, a.Internal, a.SpoofCheck, a.NoAddress = key.Network, true, true, true
	return a
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// zeroFields returns the sorted names of the fields that are zero, also of embedded
// structures and of those within.
func zeroFields(v reflect.Value, prefix string) (names []string) {
	for i := range v.NumField() {
		switch f, field := v.Type().Field(i), v.Field(i); {
		case field.Kind() == reflect.Struct && f.Anonymous:
			names = append(names, zeroFields(field, prefix)...)
		case field.IsZero():
			names = append(names, prefix+f.Name)
		case field.Kind() == reflect.Struct:
			names = append(names, zeroFields(field, prefix+f.Name+".")...)
		}
	}
	return sorted(names)
}

// What is recorded is what a reload makes the host's side of.
func TestRecordsAreComplete(t *testing.T) {
	d := newDir(t)
	shared, attachment := fullShared(), fullAttachment(testKey)
	d.Share(shared, nil)
	d.Save(attachment)
	if got := d.Network("flatnet"); !reflect.DeepEqual(got, fullShared()) {
		t.Errorf("got  %+v\nwant %+v", got, fullShared())
	}
	if got := d.Attachment(testKey); !reflect.DeepEqual(got, attachment) {
		t.Errorf("got  %+v\nwant %+v", got, attachment)
	}
	// For the container's side, the way there, or one ADD.
	notShared := []string{
		"AcceptRA", "DAD", "DNS", "First", "ForceAddress", "Former", "IsDefaultGateway", "LinkFirst", "Metric", "PathMTU",
		"Routes", "Unread",
	}
	if got := zeroFields(reflect.ValueOf(*shared), ""); !slices.Equal(got, notShared) {
		t.Errorf("not recorded of a network are %q, want %q", got, notShared)
	}
	own := *attachment
	own.Shared = *shared // of the network's own record
	if got, want := zeroFields(reflect.ValueOf(own), ""), append(notShared, "Routes"); !slices.Equal(got, sorted(want)) {
		t.Errorf("not recorded of an attachment are %q, want %q", got, want)
	}
}

func TestRecordsOfLittle(t *testing.T) {
	d := newDir(t)
	shared := &model.Shared{Network: model.Network{Name: "flatnet", Bridge: "br"}}
	attachment := &model.Attachment{Key: testKey, HostEnd: "fn-c1"}
	attachment.Name = "flatnet"
	d.Share(shared, nil)
	d.Save(attachment)
	if got := d.Network("flatnet"); !reflect.DeepEqual(got, shared) {
		t.Errorf("got %+v", got)
	}
	if got := d.Attachment(testKey); !reflect.DeepEqual(got, attachment) {
		t.Errorf("got %+v", got)
	}
}

// A record of a later version, with fields of its own, is read, and so is one of an earlier
// version, which lacks those that are not required.
func TestRecordsOfOtherVersions(t *testing.T) {
	d := newDir(t)
	d.Save(fullAttachment(testKey))
	file := d.attachmentFile(testKey)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for change, byHand := range map[string]bool{`"portsByHand":"true","later":"x"`: true, `"later":{"x":[1]}`: false} {
		text := strings.Replace(string(good), `"portsByHand":"true"`, change, 1)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		want := fullAttachment(testKey)
		want.ByHand = byHand
		if got := d.Attachment(testKey); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v", change, got)
		}
	}
}

// brokenRecords returns what can't be read: with a key missing or another value broken, cut
// off, or of an earlier version.
func brokenRecords(good, required string) []string {
	all := []string{
		"[]", "{}", "null", good + "x", `{"Key":{"Network":"flatnet"}}`,
		strings.Replace(good, `"`+required+`"`, `"other"`, 1),
	}
	for i := 1; i < len(good); i += 17 {
		all = append(all, good[:i])
	}
	for _, f := range append(networkFields(fullShared()), attachmentFields(fullAttachment(testKey))...) {
		begin := `"` + f.key + `":"`
		if bad := strings.Replace(good, begin, begin+`a/b\u0000`, 1); bad != good {
			all = append(all, bad)
		}
	}
	return all
}

func TestBrokenRecords(t *testing.T) {
	d := newDir(t)
	d.Share(fullShared(), nil)
	d.Save(fullAttachment(testKey))
	for file, required := range map[string]string{
		d.networkFile("flatnet"): "bridge", d.attachmentFile(testKey): "hostEnd",
	} {
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		read := func(content string) (int, error) {
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			networks, nerr := d.Networks()
			attachments, aerr := d.Attachments("*", "*")
			return len(networks) + len(attachments), errors.Join(nerr, aerr)
		}
		for _, content := range brokenRecords(string(good), required) {
			if n, err := read(content); n != 1 || err == nil || !strings.Contains(err.Error(), file) {
				t.Errorf("%s: %d records, %v", content, n, err)
			}
		}
		if n, err := read(""); n != 1 || err != nil {
			t.Errorf("empty: %d records, %v", n, err)
		}
		if n, err := read(string(good)); n != 2 || err != nil {
			t.Errorf("good: %d records, %v", n, err)
		}
	}
	if err := os.WriteFile(d.networkFile("flatnet"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if d.Share(fullShared(), nil); d.Network("flatnet") == nil {
		t.Error("the next ADD makes no record")
	}
}

// Of several subnets, an attachment may have an address in only one.
func TestShareAddsSubnets(t *testing.T) {
	d := newDir(t)
	v4 := model.Subnet{Prefix: pfx("10.87.1.0/24"), Gateway: ip("10.87.1.1")}
	v6, gateway6 := model.Subnet{Prefix: pfx("fd87::/64")}, model.Subnet{Prefix: pfx("fd87::/64"), Gateway: ip("fd87::1")}
	file := d.networkFile("flatnet")
	for _, tt := range []struct {
		name         string
		bridge       string
		served, want []model.Subnet
		written      bool
	}{
		{"the first", "br", []model.Subnet{v6}, []model.Subnet{v6}, true},
		{"another", "br", []model.Subnet{v4}, []model.Subnet{v6, v4}, true},
		{"both, in another order", "br", []model.Subnet{v4, v6}, []model.Subnet{v6, v4}, false},
		{"none", "br", nil, []model.Subnet{v6, v4}, false},
		{"another gateway", "br", []model.Subnet{gateway6}, []model.Subnet{gateway6, v4}, true},
		{"another bridge", "br1", []model.Subnet{v4}, []model.Subnet{v4}, true},
	} {
		was := d.Network("flatnet")
		os.Chtimes(file, time.Time{}, time.Unix(1, 0)) // there is none at first
		s := &model.Shared{Network: model.Network{Name: "flatnet", Bridge: tt.bridge}, Served: tt.served}
		before := d.Merge(s)
		d.Share(s, before)
		if !reflect.DeepEqual(before, was) {
			t.Errorf("%s: before it was %+v and not %+v", tt.name, before, was)
		}
		if got := d.Network("flatnet"); !slices.Equal(s.Served, tt.want) || !reflect.DeepEqual(got, s) {
			t.Errorf("%s: shared are %v, recorded %+v", tt.name, s.Served, got)
		}
		if st, err := os.Stat(file); err != nil || (st.ModTime() != time.Unix(1, 0)) != tt.written {
			t.Errorf("%s: written at %v, %v", tt.name, st.ModTime(), err)
		}
	}
}

// An earlier record comes back only if nobody has recorded anything since.
func TestPutBack(t *testing.T) {
	other := model.Key{Network: "flatnet", ContainerID: "c2", IfName: "eth0"}
	for _, tt := range []struct {
		name      string
		meanwhile func(d Dir)
		want      bool
	}{
		{"nothing", func(Dir) {}, true},
		{"its own record", func(d Dir) { d.Save(fullAttachment(testKey)) }, true},
		{"an attachment", func(d Dir) { d.Save(fullAttachment(other)) }, false},
		{"an attachment of another network", func(d Dir) {
			d.Save(fullAttachment(model.Key{Network: "other", ContainerID: "c2", IfName: "eth0"}))
		}, true},
		{"a further change", func(d Dir) {
			s := fullShared()
			s.MTU = 1234
			d.Share(s, nil)
		}, false},
		{"the network's end", func(d Dir) { d.DropNetwork("flatnet") }, false},
	} {
		d := newDir(t)
		d.Save(fullAttachment(model.Key{Network: "flatnet", ContainerID: "c0", IfName: "eth0"}))
		earlier := &model.Shared{Network: model.Network{Name: "flatnet", Bridge: "br"}}
		d.Share(earlier, nil)
		for since := d.Since(); ; { // the kernel's clock for files has ticked
			record := d.Share(fullShared(), earlier)
			if st, err := os.Stat(d.networkFile("flatnet")); err != nil || !st.ModTime().After(since[model.Key{Network: "flatnet", ContainerID: "c0", IfName: "eth0"}]) {
				d.Share(earlier, nil)
				continue
			}
			tt.meanwhile(d)
			if got := d.PutBack(earlier, record, testKey); got != tt.want {
				t.Errorf("%s: %v", tt.name, got)
			}
			break
		}
		if now := d.Network("flatnet"); tt.want != reflect.DeepEqual(now, earlier) {
			t.Errorf("%s: recorded is %+v", tt.name, now)
		}
	}
}

// ADDs in many subnets at once lose none of them.
func TestShareAtOnce(t *testing.T) {
	const n = 30
	d := newDir(t)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			s := &model.Shared{Network: model.Network{Name: "flatnet", Bridge: "br0"}}
			s.Serve(model.Subnet{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 87, byte(i), 0}), 24)})
			d.Share(s, d.Merge(s))
		})
	}
	all.Wait()
	if s := d.Network("flatnet"); s == nil || len(s.Served) != n {
		t.Errorf("recorded: %+v", s)
	}
}

func TestChanged(t *testing.T) {
	a, b := fullShared(), fullShared()
	b.BridgeMAC, b.MTU, b.Served = model.HardwareAddr{}, 0, nil // found by ADD
	if keys := Changed(a, b); keys != nil {
		t.Errorf("the same configuration: %q", keys)
	}
	b.Bridge, b.IPMasq, b.SpoofCheck, b.VLANs.Trunk, b.Flat = "br1", false, false, nil, nil
	b.Subnets = slices.Clone(b.Subnets)
	slices.Reverse(b.Subnets)
	want := []string{"bridge", "ipMasq", "noMasq", "macspoofchk", "vlanTrunk", "subnets"}
	if keys := Changed(a, b); !slices.Equal(keys, want) {
		t.Errorf("got %q, want %q", keys, want)
	}
}

func TestAttachments(t *testing.T) {
	d := newDir(t)
	var keys []model.Key
	for _, s := range []string{"a/c1/eth0", "a/c2/eth0", "b/c1/eth1", "b/c10/eth0"} {
		key, _ := model.ParseKey(s)
		a := fullAttachment(key)
		d.Save(a)
		keys = append(keys, key)
	}
	d.Share(fullShared(), nil)
	for _, tt := range []struct {
		network, id string
		want        []model.Key
	}{
		{"*", "*", keys},
		{"a", "*", []model.Key{keys[0], keys[1]}},
		{"*", "c1", []model.Key{keys[0], keys[2]}},
		{"b", "c10", []model.Key{keys[3]}},
		{"c", "*", nil},
	} {
		all, err := d.Attachments(tt.network, tt.id)
		got := slices.SortedFunc(maps.Keys(all), func(a, b model.Key) int { return strings.Compare(a.String(), b.String()) })
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s, %s: got %v, %v, want %v", tt.network, tt.id, got, err, tt.want)
		}
	}
	if n, err := d.Networks(); err != nil || len(n) != 1 {
		t.Errorf("networks %v, %v", n, err)
	}
}

func TestDrop(t *testing.T) {
	d := newDir(t)
	d.Share(fullShared(), nil)
	d.Save(fullAttachment(testKey))
	for range 2 {
		if err := d.Drop(testKey); err != nil || d.Attachment(testKey) != nil {
			t.Errorf("drop: %v", err)
		}
	}
	if err := d.DropOld("flatnet"); err != nil || d.Network("flatnet") == nil {
		t.Errorf("a fresh record is dropped: %v", err)
	}
	if err := os.Chtimes(d.networkFile("flatnet"), time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.DropOld("flatnet"); err != nil || d.Network("flatnet") != nil {
			t.Errorf("an old record is kept: %v", err)
		}
	}
	d.Save(fullAttachment(testKey))
	for range 2 {
		if err := d.DropNetwork("flatnet"); err != nil || d.Attachment(testKey) != nil {
			t.Errorf("drop the network: %v", err)
		}
	}
	if err := os.WriteFile(filepath.Join(d.path, "flatnet"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Drop(testKey); err != nil {
		t.Errorf("below a file: %v", err)
	}
}

func TestRaised(t *testing.T) {
	d := newDir(t)
	if got := d.Raised(); got != nil {
		t.Errorf("at first %q", got)
	}
	d.SaveRaised([]string{"up1", "up0", "up1"})
	if got := d.Raised(); !slices.Equal(got, []string{"up0", "up1"}) {
		t.Errorf("got %q", got)
	}
	for range 2 {
		if err := d.DropRaised(); err != nil || d.Raised() != nil {
			t.Errorf("drop: %v, left %q", err, d.Raised())
		}
	}
}

// A namespace without a directory of its own has no records, which is warned about.
func TestNoDirectory(t *testing.T) {
	warnings := 0
	d := Dir{filepath.Join(os.DevNull, "none"), func(string) { warnings++ }, false}
	d.Share(fullShared(), nil)
	d.Save(fullAttachment(testKey))
	d.SaveRaised([]string{"up1"})
	turn, err := d.Turn(testKey)
	if turn.Close(); err != nil || turn != nil || warnings != 5 {
		t.Errorf("a lock: %v, %v; %d warnings", turn, err, warnings)
	}
	networks, nerr := d.Networks()
	attachments, aerr := d.Attachments("*", "*")
	if len(networks)+len(attachments)+len(d.Raised()) > 0 || nerr != nil || aerr != nil {
		t.Errorf("got %v, %v, %v, %v, %q", networks, nerr, attachments, aerr, d.Raised())
	}
	if d.Network("flatnet") != nil || d.Attachment(testKey) != nil {
		t.Error("there is a record")
	}
	for _, err := range []error{d.Drop(testKey), d.DropNetwork("flatnet"), d.DropRaised(), d.DropOld("flatnet")} {
		if err != nil {
			t.Error(err)
		}
	}
}
