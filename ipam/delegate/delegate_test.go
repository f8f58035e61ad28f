package delegate

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flatnet/bridge/model"
	"flatnet/ipam"
)

func noLocals(netip.Addr) (model.Local, error) { return model.Local{}, nil }

// delegate is a Delegate to a shell script, whose results are an address each.
func delegate(t *testing.T, script string, owners ...model.Owner) Allocator {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "plug"), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	store := ipam.New(ipam.Config{Network: "net", Dir: filepath.Join(dir, "leases")}, func() ([]model.Owner, error) { return owners, nil })
	return Allocator{Store: store, Plugin: Plugin{
		Type: "plug", Path: "/nonexistent:" + dir, Conf: []byte(`{"name":"net"}`),
		Decode: func(b []byte) (res model.Result, err error) {
			for s := range strings.FieldsSeq(string(b)) {
				p, perr := netip.ParsePrefix(s)
				res.IPs, err = append(res.IPs, model.IP{Address: p}), errors.Join(err, perr)
			}
			return res, err
		},
	}}
}

func delegated(id string) model.Key {
	return model.Key{Network: "net", ContainerID: id, IfName: "eth0"}
}

func TestDelegateRecordsWhatThePluginGives(t *testing.T) {
	d := delegate(t, `[ $CNI_COMMAND != ADD ] || echo 10.1.2.3/24 fd01::3/64`)
	lease, err := d.Lease(delegated("c1"), nil, noLocals)
	if err != nil || lease.Had || len(lease.Addresses) != 2 {
		t.Fatalf("%+v, %v, %v", lease, lease.Had, err)
	}
	addrs := []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fd01::3")}
	if err := d.Check(delegated("c1"), addrs); err != nil {
		t.Error(err)
	}
	if keys, err := d.Keys(); err != nil || len(keys) != 1 || keys[0] != delegated("c1") {
		t.Errorf("keys %v, %v", keys, err)
	}
	for range 2 {
		if left, err := d.Release([]model.Key{delegated("c1")}, true); err != nil || len(left) != 0 {
			t.Errorf("left %v, %v", left, err)
		}
	}
	if keys, _ := d.Keys(); len(keys) != 0 {
		t.Errorf("keys %v", keys)
	}
}

func TestDelegateAddressOfTwo(t *testing.T) {
	const script = `[ $CNI_COMMAND != ADD ] || echo 10.1.2.3/24`
	running := model.Owner{Key: delegated("c1"), Mark: delegated("c1").Mark()}
	for name, owners := range map[string][]model.Owner{"of one that runs": {running}, "of one that is gone": nil} {
		d := delegate(t, script, owners...)
		if _, err := d.Lease(delegated("c1"), nil, noLocals); err != nil {
			t.Fatal(err)
		}
		_, err := d.Lease(delegated("c2"), nil, noLocals)
		if owners == nil && err != nil || owners != nil && !errors.Is(err, model.ErrTaken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDelegateRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		want         []netip.Addr
		kind         error // nil: any
		text         string
	}{
		{"no address", `:`, nil, model.ErrInvalid, "no address"},
		{"what is no result", `echo hello`, nil, nil, "result of ADD"},
		{"one address twice", `echo 10.1.2.3/24 10.1.2.3/25`, nil, model.ErrInvalid, "10.1.2.3 twice"},
		{"another than wanted", `echo 10.1.2.3/24`, []netip.Addr{netip.MustParseAddr("10.1.2.4")}, model.ErrInvalid, "10.1.2.4"},
		{"a failure without words", `exit 3`, nil, nil, "exit status 3"},
		{"a failure with other words", `echo sorry; exit 3`, nil, nil, "sorry"},
		{"a flood", `exec cat /dev/zero`, nil, nil, "more than 1048576 bytes"},
	} {
		d := delegate(t, tt.script)
		_, err := d.Lease(delegated("c1"), tt.want, noLocals)
		if err == nil || tt.kind != nil && !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if keys, _ := d.Keys(); len(keys) != 0 {
			t.Errorf("%s: recorded %v", tt.name, keys)
		}
	}
}

func TestPluginsOwnError(t *testing.T) {
	d := delegate(t, `echo '{"cniVersion":"1.0.0","code":42,"msg":"out of luck","details":"today"}'; exit 1`)
	_, err := d.Lease(delegated("c1"), nil, noLocals)
	var got model.Coded
	if !errors.As(err, &got) || got.Code != 42 || err.Error() != "plugin plug: ADD: out of luck: today" {
		t.Errorf("%v", err)
	}
}

func TestPluginGetsItsInput(t *testing.T) {
	d := delegate(t, `cat >"$0.$CNI_COMMAND"; echo "$CNI_CONTAINERID/$CNI_IFNAME" >>"$0.$CNI_COMMAND"`)
	_, err := d.Release([]model.Key{delegated("c1")}, true)
	if err := errors.Join(err, d.Free(noLocals), d.GC()); err != nil {
		t.Fatal(err)
	}
	path, err := d.Plugin.Find()
	if err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]string{"DEL": "c1/eth0\n", "STATUS": "/\n", "GC": "/\n"} {
		got, err := os.ReadFile(path + "." + command)
		if err != nil || string(got) != `{"name":"net"}`+want {
			t.Errorf("%s: %q, %v", command, got, err)
		}
	}
}

func TestPluginThatIsMissing(t *testing.T) {
	d := delegate(t, ``)
	for _, path := range []string{"", "relative", "/nonexistent", t.TempDir()} {
		d.Plugin.Path = path
		if _, err := d.Plugin.Find(); !errors.Is(err, model.ErrInvalid) || !strings.Contains(err.Error(), `"plug"`) {
			t.Errorf("CNI_PATH %q: %v", path, err)
		}
	}
}
