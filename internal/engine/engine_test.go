package engine

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"flatnet/bridge/model"
	"flatnet/internal/dns"
)

// fakes are a host and names that record their calls. The host gives each subnet's
// first address after the gateway, or the address of a delegate.
type fakes struct {
	calls     []string
	network   model.Network
	record    dns.Record
	installed bool
	err       error // of the host's verbs
	namesErr  error
	warnings  []string
}

func (f *fakes) call(name string) error {
	f.calls = append(f.calls, name)
	return f.err
}

type fakeHost struct{ *fakes }

func (f fakeHost) Add(n *model.Network, _ *model.Request, _ model.Allocator, last func(*model.Result) error) (r model.Result, err error) {
	f.network = *n
	for _, s := range n.Subnets {
		p := netip.PrefixFrom(s.Gateway.Next(), s.Bits())
		r.IPs = append(r.IPs, model.IP{Address: p, Gateway: s.Gateway})
	}
	r.DNS = n.DNS
	if err := f.call("add"); err != nil {
		return r, err
	}
	return r, last(&r)
}

func (f fakeHost) Check(*model.Network, *model.Request, *model.Result, model.Allocator) error {
	return f.call("check")
}
func (f fakeHost) Delete(_ model.Key, _ model.Allocator, withBridge bool) error {
	if withBridge {
		return f.call("delete with bridge")
	}
	return f.call("delete")
}
func (f fakeHost) Clear(string, []model.Key, model.Allocator) error { return f.call("clear") }
func (f fakeHost) GC(string, []model.Key, model.Allocator) error    { return f.call("gc") }
func (f fakeHost) Status(n *model.Network, alloc model.Allocator) error {
	f.network = *n
	return f.call(fmt.Sprintf("status %T", alloc))
}
func (f fakeHost) Owners() ([]model.Owner, error)       { return nil, nil }
func (f fakeHost) Vacant(*model.Network) error          { return f.call("vacant") }
func (f fakeHost) Reload() ([]string, error)            { return nil, nil }
func (f fakeHost) Survey(bool) ([]*model.Survey, error) { return nil, nil }

type fakeNames struct{ *fakes }

func (f fakeNames) Installed() bool { return f.installed }

func (f fakeNames) ListenPort() uint16 { return 0 }
func (f fakeNames) Add(r dns.Record) (servers []string, err error) {
	f.record = r
	f.calls = append(f.calls, "name")
	for _, a := range r.Listen {
		servers = append(servers, a.String())
	}
	return servers, f.namesErr
}
func (f fakeNames) Remove(model.Key) error {
	f.calls = append(f.calls, "unname")
	return nil
}
func (f fakeNames) Keep(string, []model.Key) error {
	f.calls = append(f.calls, "keep names")
	return nil
}

func (f *fakes) engine() Engine {
	warn := func(s string) { f.warnings = append(f.warnings, s) }
	return Engine{Host: fakeHost{f}, Names: fakeNames{f}, Warn: warn}
}

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr  { return netip.MustParseAddr(s) }

func config(subnets ...string) *model.Config {
	c := &model.Config{
		Network: model.Network{Name: "n", IsGateway: true},
		Request: model.Request{Key: model.Key{Network: "n", ContainerID: "c1", IfName: "eth0"}, Names: []string{"web"}},
		IPAM:    model.IPAM{DataDir: "/nowhere"},
	}
	for _, s := range subnets {
		c.IPAM.Sets = append(c.IPAM.Sets, []model.Range{{Subnet: pfx(s)}})
	}
	return c
}

func TestVerbs(t *testing.T) {
	c := config("10.1.0.0/24")
	for _, tt := range []struct {
		want string
		call func(Engine) error
	}{
		{"[add]", func(e Engine) error { _, err := e.Add(c); return err }},
		{"[check]", func(e Engine) error { return e.Check(c, model.Result{}) }},
		{"[unname delete]", func(e Engine) error { return e.Del(c) }},
		{"[unname delete with bridge]", func(e Engine) error { e.Managed = true; return e.Del(c) }},
		{"[keep names gc]", func(e Engine) error { return e.GC(c, nil) }},
		{"[status *ipam.Store]", func(e Engine) error { return e.Status(c) }},
		{"[status engine.Unleased]", func(e Engine) error { _, err := e.Subnets(c); return err }},
		{"[vacant]", func(e Engine) error {
			t.Setenv("_CONTAINERS_USERNS_CONFIGURED", "done") // a rootless Podman
			_, err := e.Subnets(c)
			return err
		}},
	} {
		for _, err := range []error{nil, model.ErrBusy} {
			f := &fakes{err: err}
			if got := tt.call(f.engine()); !errors.Is(got, err) || fmt.Sprint(f.calls) != tt.want {
				t.Errorf("%v with %v, want %s with %v", f.calls, got, tt.want, err)
			}
		}
	}
	if c.Network.Subnets != nil {
		t.Error("the caller's configuration was changed")
	}
}

func TestInvalidPools(t *testing.T) {
	type set = []model.Range
	v4, v6 := model.Range{Subnet: pfx("10.1.2.0/24")}, model.Range{Subnet: pfx("fd00::/64")}
	for _, tt := range []struct {
		sets []set
		want string
	}{
		{[]set{{{Subnet: v4.Subnet, Gateway: addr("10.1.3.1")}}}, "gateway 10.1.3.1 is not in subnet 10.1.2.0/24"},
		{[]set{{{Subnet: v4.Subnet, Gateway: addr("fd00::1")}}}, "gateway fd00::1 is not in subnet 10.1.2.0/24"},
		{[]set{{{Subnet: v4.Subnet, Start: addr("10.1.1.255")}}}, "start 10.1.1.255 is not in subnet 10.1.2.0/24"},
		{[]set{{{Subnet: v4.Subnet, End: addr("10.1.3.0")}}}, "end 10.1.3.0 is not in subnet 10.1.2.0/24"},
		{[]set{{{Subnet: v4.Subnet, Start: addr("10.1.2.9"), End: addr("10.1.2.8")}}}, "end 10.1.2.8 is before its start 10.1.2.9"},
		{[]set{{v4}, {}}, "range set 1 is empty"},
		{[]set{{v4, v6}}, "range set 0 mixes IPv4 and IPv6"},
		{[]set{{v4}, {v4}}, "overlap"},
		{[]set{{v4}, {v6}}, "mtu: 1279 is less than 1280"},
	} {
		c := config()
		c.IPAM.Sets, c.Network.MTU = tt.sets, 1279
		f := &fakes{}
		e := f.engine()
		_, err := e.Add(c)
		for _, err := range []error{err, e.Check(c, model.Result{}), e.GC(c, nil), e.Status(c)} {
			if !errors.Is(err, model.ErrInvalid) || !strings.Contains(err.Error(), tt.want) || f.calls != nil {
				t.Errorf("%v, calls %v, want %q", err, f.calls, tt.want)
			}
		}
	}
}

func TestNames(t *testing.T) {
	c := config("10.1.0.0/24", "fd00::/64")
	c.Names, c.Upstream, c.Network.Internal = true, []netip.Addr{addr("9.9.9.9")}, true
	c.Network.DNS = model.DNS{Nameservers: []string{"1.1.1.1"}, Search: []string{"a"}}
	f := &fakes{installed: true}
	got, err := f.engine().Add(c)
	want := dns.Record{Key: c.Request.Key, Names: c.Request.Names, Upstream: c.Upstream, Internal: true,
		Addresses: []netip.Addr{addr("10.1.0.2"), addr("fd00::2")}, Listen: []netip.Addr{addr("10.1.0.1"), addr("fd00::1")}}
	if err != nil || !reflect.DeepEqual(f.record, want) || !f.network.ServesDNS || f.warnings != nil {
		t.Errorf("%v, record %+v, want %+v, warnings %q", err, f.record, want, f.warnings)
	}
	if d := (model.DNS{Nameservers: []string{"10.1.0.1", "fd00::1"}, Search: []string{"a", dns.SearchDomain}}); !reflect.DeepEqual(got.DNS, d) {
		t.Errorf("DNS %+v, want %+v", got.DNS, d)
	}

	f = &fakes{}
	if _, err := f.engine().Add(c); err != nil || len(f.warnings) != 1 || !strings.Contains(f.warnings[0], "not installed") || f.network.ServesDNS {
		t.Errorf("not installed: %v, %q", err, f.warnings)
	}
	// A failed ADD has sent registries nothing, and so has nothing to take back.
	told := make(chan string, 9)
	registry := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { told <- r.Method }))
	defer registry.Close()
	c.Span.Registry = []string{registry.URL + "/c"}
	f = &fakes{namesErr: model.ErrBusy}
	if _, err := f.engine().Add(c); !errors.Is(err, model.ErrBusy) || fmt.Sprint(f.calls) != "[add name unname]" || len(told) > 0 {
		t.Errorf("failed: %v, %v, %d told", err, f.calls, len(told))
	}
	f = &fakes{}
	if _, err := f.engine().Add(c); err != nil || len(told) != 1 {
		t.Errorf("without: %v, %d told", err, len(told))
	}
	c.Span.Registry = nil
	f = &fakes{}
	c.Network.Name = "aardvark.pid"
	if _, err := f.engine().Add(c); !errors.Is(err, model.ErrInvalid) || f.calls != nil {
		t.Errorf("name of the server's own file: %v, %v", err, f.calls)
	}
}

func TestNoServerAtLinkLocalGateways(t *testing.T) {
	f := &fakes{installed: true}
	c := config("fd00::/64")
	c.Names, c.IPAM.Sets[0][0].Gateway = true, addr("fe80::1")
	got, err := f.engine().Add(c)
	if err != nil || f.record.Listen != nil || got.DNS.Nameservers != nil {
		t.Errorf("%v, listens at %v, %v", err, f.record.Listen, got.DNS)
	}
}

func TestResolvConf(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	c := config("10.1.0.0/24")
	c.IPAM.ResolvConf = file
	f := &fakes{}
	e := f.engine()
	if _, err := e.Add(c); !errors.Is(err, os.ErrNotExist) || f.calls != nil {
		t.Errorf("missing: %v, %v", err, f.calls)
	}
	if err := e.Status(c); !errors.Is(err, model.ErrUnavailable) || f.calls != nil {
		t.Errorf("missing: %v, %v", err, f.calls)
	}
	if err := os.WriteFile(file, []byte("nameserver 9.9.9.9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := e.Add(c); err != nil || !reflect.DeepEqual(got.DNS.Nameservers, []string{"9.9.9.9"}) {
		t.Errorf("%v, %+v", err, got.DNS)
	}
	if err := os.Truncate(file, 1<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Add(c); err == nil || !strings.Contains(err.Error(), "ipam.resolvConf: "+file+" has more than 65536 bytes") {
		t.Errorf("too long: %v", err)
	}
	c.IPAM.ResolvConf = filepath.Dir(file)
	if _, err := e.Add(c); err == nil || !strings.Contains(err.Error(), " is a directory, not a regular file") {
		t.Errorf("directory: %v", err)
	}
	c.Network.DNS.Domain = "d"
	if got, err := e.Add(c); err != nil || got.DNS.Domain != "d" {
		t.Errorf("with settings of its own: %v, %+v", err, got.DNS)
	}
}

func TestDelegates(t *testing.T) {
	c := config()
	c.IPAM = model.IPAM{Type: "dhcp", Path: t.TempDir(), DataDir: t.TempDir()}
	f := &fakes{}
	if _, err := f.engine().Add(c); !errors.Is(err, model.ErrInvalid) || f.calls != nil {
		t.Errorf("plugin missing: %v, %v", err, f.calls)
	}
	if err := f.engine().Status(c); err != nil || fmt.Sprint(f.calls) != "[status delegate.Allocator]" {
		t.Errorf("%v, %v", err, f.calls)
	}
}
