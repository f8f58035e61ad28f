package subnetfile

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flatnet/bridge/model"

	"golang.org/x/sys/unix"
)

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "subnet.env")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func fill(path string, sets ...[]model.Range) (*model.Config, error) {
	c := &model.Config{Span: model.Span{SubnetFile: path, FileFlat: true, FileMasq: true}, IPAM: model.IPAM{Sets: sets}}
	c.Network.Unread = true
	filled, err := Fill(c)
	if len(c.Network.Flat) > 0 || len(c.IPAM.Sets) != len(sets) {
		panic("Fill changed the caller's configuration")
	}
	return filled, err
}

func set(subnet string) []model.Range { return []model.Range{{Subnet: netip.MustParsePrefix(subnet)}} }

func TestFill(t *testing.T) {
	c, err := fill(write(t, good))
	if err != nil {
		t.Fatal(err)
	}
	r := c.IPAM.Sets[0][0]
	if r.Subnet.String() != "10.244.3.0/24" || r.Gateway.String() != "10.244.3.1" || c.Network.Flat[0].String() != "10.244.0.0/16" ||
		c.Network.IPMasq || c.Network.PathMTU != 1450 || c.Network.Unread {
		t.Errorf("%+v", c)
	}
	c, err = fill(write(t, strings.Replace(good, "true", "false", 1)), set("10.244.3.0/24"), set("fd00::/64"))
	if err != nil || !c.Network.IPMasq || len(c.IPAM.Sets) != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	plain := &model.Config{}
	if same, err := Fill(plain); same != plain || err != nil {
		t.Errorf("without a file: %v, %v", same, err)
	}
}

// What another user may have written is not believed, and what is wrong is named.
func TestFillRefuses(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("requires root")
	}
	spoilt := func(spoil func(path string) error) string {
		path := write(t, good)
		if err := spoil(path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link := filepath.Join(t.TempDir(), "link.env")
	for name, tt := range map[string]struct {
		path string
		sets [][]model.Range
		kind error
		want string
	}{
		"missing":            {filepath.Join(t.TempDir(), "none"), nil, model.ErrBusy, "does not exist"},
		"directory missing":  {"/run/none/flannel/subnet.env", nil, model.ErrBusy, "Start flanneld"},
		"another user's":     {spoilt(func(p string) error { return os.Chown(p, 1234, 0) }), nil, model.ErrConflict, "1234"},
		"writable by others": {spoilt(func(p string) error { return os.Chmod(p, 0o666) }), nil, model.ErrConflict, "mode 0666"},
		"writable by group":  {spoilt(func(p string) error { return os.Chmod(p, 0o664) }), nil, model.ErrConflict, "chmod go-w"},
		"a user's directory": {spoilt(func(p string) error { return os.Chown(filepath.Dir(p), 1234, 0) }), nil, model.ErrConflict, "1234"},
		"open directory":     {spoilt(func(p string) error { return os.Chmod(filepath.Dir(p), 0o777) }), nil, model.ErrConflict, "mode 0777"},
		"a link":             {link, nil, model.ErrConflict, "symbolic link"},
		"a linked directory": {spoilt(func(p string) error {
			return os.Symlink(filepath.Dir(p), filepath.Dir(p)+"-link")
		}), nil, nil, ""},
		"a FIFO":         {spoilt(func(p string) error { return errors.Join(os.Remove(p), unix.Mkfifo(p, 0o600)) }), nil, model.ErrConflict, "regular"},
		"a directory":    {t.TempDir(), nil, model.ErrConflict, "regular"},
		"too large":      {write(t, good+strings.Repeat("#\n", maxSize)), nil, model.ErrConflict, "more than"},
		"malformed":      {write(t, "FLANNEL_SUBNET=x\n"), nil, model.ErrConflict, `line 1: FLANNEL_SUBNET: "x"`},
		"another subnet": {write(t, good), [][]model.Range{set("10.244.9.0/24")}, model.ErrConflict, "10.244.3.0/24, and the network was created with 10.244.9.0/24"},
		"a family more":  {write(t, good), [][]model.Range{set("fd00::/64")}, model.ErrConflict, "10.244.3.0/24 as well"},
	} {
		if name == "a link" {
			if err := os.Symlink(write(t, good), link); err != nil {
				t.Fatal(err)
			}
		}
		if name == "a linked directory" {
			tt.path, tt.kind, tt.want = filepath.Dir(tt.path)+"-link/subnet.env", model.ErrConflict, "symbolic link"
		}
		_, err := fill(tt.path, tt.sets...)
		if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "subnetFile") {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		if got := Unavailable(&model.Config{Span: model.Span{SubnetFile: tt.path}}, err); !errors.Is(got, model.ErrUnavailable) {
			t.Errorf("%s: STATUS: %v", name, got)
		}
	}
}

// leasing is an allocator beside which the file changes.
type leasing struct {
	model.Allocator
	meanwhile func(lease int)
	leases    int
	released  []model.Key
	had       bool
}

func (l *leasing) Lease(model.Key, []netip.Addr, model.Locals) (model.Lease, error) {
	l.leases++
	l.meanwhile(l.leases)
	return model.Lease{Again: true, Had: l.had}, nil
}

func (l *leasing) Release(keys []model.Key, _ bool) ([]model.Key, error) {
	l.released = append(l.released, keys...)
	return nil, nil
}

// An ADD beside which the file changes begins anew, a few times at most; what was leased by the
// earlier one is given back, but for what the attachment had before.
func TestSettled(t *testing.T) {
	key := model.Key{Network: "n", ContainerID: "c", IfName: "eth0"}
	for _, tt := range []struct {
		name     string
		changes  int
		had      bool
		leases   int
		released int
		err      error
	}{
		{"no change", 0, false, 1, 0, nil}, {"one", 1, false, 2, 1, nil}, {"always", 99, false, 3, 3, model.ErrBusy},
		{"it had a lease", 1, true, 2, 0, nil},
	} {
		path := write(t, good)
		c := &model.Config{Span: model.Span{SubnetFile: path}}
		alloc := &leasing{had: tt.had, meanwhile: func(lease int) {
			if lease <= tt.changes {
				text := strings.Replace(good, "FLANNEL_MTU=1450", "FLANNEL_MTU="+strings.Repeat("1", 3)+string(rune('0'+lease)), 1)
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}}
		_, err := Settled(func() (model.Result, error) {
			_, text, err := Read(c)
			if err != nil {
				return model.Result{}, err
			}
			l, err := text.Watch(alloc).Lease(key, nil, nil)
			if l.Again != (err == nil) || err != nil && l.Had != tt.had {
				t.Errorf("%s: %+v with %v", tt.name, l, err)
			}
			return model.Result{}, err
		})
		if !errors.Is(err, tt.err) || alloc.leases != tt.leases || len(alloc.released) != tt.released {
			t.Errorf("%s: %v after %d leases, released %v", tt.name, err, alloc.leases, alloc.released)
		}
		if err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v does not name the file", tt.name, err)
		}
	}
	alloc := &leasing{}
	if got := (Text{}).Watch(alloc); got != model.Allocator(alloc) {
		t.Errorf("without a file: %T", got)
	}
}

// What is in the way of a subnet that the host no longer has is no reason to fail.
func TestOutdated(t *testing.T) {
	path := write(t, good)
	_, text, err := Read(&model.Config{Span: model.Span{SubnetFile: path}})
	if err != nil {
		t.Fatal(err)
	}
	alloc := text.Watch(&leasing{})
	conflict, taken := model.Errorf(model.ErrConflict, "another subnet"), model.Errorf(model.ErrTaken, "a port")
	for _, changed := range []bool{false, true} {
		if changed {
			if err := os.WriteFile(path, []byte(strings.Replace(good, "3.1/24", "7.1/24", 1)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := Outdated(alloc, conflict); errors.Is(got, errChanged) != changed || !changed && got != conflict {
			t.Errorf("changed %v: %v", changed, got)
		}
		for _, err := range []error{nil, taken} {
			if got := Outdated(alloc, err); got != err {
				t.Errorf("changed %v: %v became %v", changed, err, got)
			}
		}
		if got := Outdated(&leasing{}, conflict); got != conflict {
			t.Errorf("without a file: %v", got)
		}
	}
}
