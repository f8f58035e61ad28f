package netavark

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flatnet/bridge/model"
	"flatnet/internal/dns"
	"flatnet/internal/engine"
)

// A fakeHost leases nothing and reports the first address of every subnet
// after the gateway.
type fakeHost struct {
	engine.Host // the methods that this door does not call

	owners []model.Owner
	taken  []netip.Prefix // what Status finds on other interfaces
	err    error          // of Add and Status

	network model.Network
	request model.Request
	deleted []model.Key
}

func (h *fakeHost) Add(n *model.Network, r *model.Request, _ model.Allocator, last func(*model.Result) error) (model.Result, error) {
	h.network, h.request = *n, *r
	if h.err != nil {
		return model.Result{}, h.err
	}
	res := model.Result{Interfaces: []model.Interface{
		{Name: n.Bridge, MAC: "02:00:00:00:00:01"},
		{Name: "fn-host", MAC: "02:00:00:00:00:02"},
		{Name: r.Key.IfName, MAC: "0a:57:0a:57:01:02", Sandbox: r.NetNS},
	}}
	for _, gw := range n.Subnets {
		ip := model.IP{Address: netip.PrefixFrom(gw.Gateway.Next(), gw.Bits()), Gateway: gw.Gateway, Interface: 2}
		res.IPs = append(res.IPs, ip)
	}
	err := last(&res)
	if err != nil {
		h.deleted = append(h.deleted, r.Key)
	}
	return res, err
}

func (h *fakeHost) Delete(key model.Key, _ model.Allocator, _ bool) error {
	h.deleted = append(h.deleted, key)
	return nil
}

func (h *fakeHost) Status(n *model.Network, alloc model.Allocator) error {
	if keys, err := alloc.Keys(); len(keys) > 0 || err != nil || alloc.Free(nil) != nil {
		panic("create must not look at leases")
	}
	for _, gw := range n.Subnets {
		for _, p := range h.taken {
			if p.Overlaps(gw.Prefix) {
				return fmt.Errorf("%s overlaps with %s: %w", gw.Masked(), p, model.ErrConflict)
			}
		}
	}
	return h.err
}

func (h *fakeHost) Owners() ([]model.Owner, error) { return h.owners, nil }

// fakeNames are served by the addresses at which the server is to listen.
type fakeNames struct {
	engine.Names // the methods that this door does not call

	installed bool
	err       error

	added   []dns.Record
	removed []model.Key
}

func (n *fakeNames) Installed() bool { return n.installed }

func (n *fakeNames) ListenPort() uint16 { return 0 }

func (n *fakeNames) Add(r dns.Record) (servers []string, err error) {
	n.added = append(n.added, r)
	for _, a := range r.Listen {
		servers = append(servers, a.String())
	}
	return servers, n.err
}

func (n *fakeNames) Remove(key model.Key) error {
	n.removed = append(n.removed, key)
	return nil
}

// A bench is a plugin on fakes.
type bench struct {
	Plugin
	host  *fakeHost
	names *fakeNames
}

func newBench(t testing.TB) bench {
	b := bench{host: &fakeHost{}, names: &fakeNames{installed: true}}
	e := engine.Engine{Host: b.host, Names: b.names, Managed: true, Warn: func(text string) { t.Log(text) }}
	b.Plugin = Plugin{Engine: e, Version: "v1", Networks: t.TempDir()}
	return b
}

// store puts a network where Podman keeps those that it knows.
func (b bench) store(t *testing.T, definition string) {
	t.Helper()
	var d struct{ Name string }
	if err := json.Unmarshal([]byte(definition), &d); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.Networks, d.Name+".json"), []byte(definition), 0o600); err != nil {
		t.Fatal(err)
	}
}

// call makes a call and returns what came of it.
func (b bench) call(stdin string, args ...string) (stdout, warnings string, status int) {
	var out, errs strings.Builder
	b.Engine.Warn = func(text string) { errs.WriteString(text + "\n") }
	status = b.Main(args, strings.NewReader(stdin), &out)
	return out.String(), errs.String(), status
}

// must is a call that succeeds.
func (b bench) must(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	stdout, _, status := b.call(stdin, args...)
	if status != 0 {
		t.Fatalf("%v: status %d: %s", args, status, stdout)
	}
	return stdout
}

// refused is a call that fails with one error object whose text contains want.
func (b bench) refused(t *testing.T, want, stdin string, args ...string) {
	t.Helper()
	stdout, _, status := b.call(stdin, args...)
	var reply map[string]string
	if err := json.Unmarshal([]byte(stdout), &reply); err != nil || len(reply) != 1 || status != 1 {
		t.Fatalf("status %d and %q, want 1 and an error object", status, stdout)
	}
	if !strings.Contains(reply["error"], want) {
		t.Errorf("error %q does not say %q", reply["error"], want)
	}
}
