package forward

import (
	"errors"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/testns"
)

// A memory keeps what is recorded.
type memory struct{ raised []string }

func (m *memory) Raised() []string           { return slices.Clone(m.raised) }
func (m *memory) SaveRaised(names []string)  { m.raised = names }
func (m *memory) DropRaised() error          { m.raised = nil; return nil }
func (m *memory) String() string             { return strings.Join(m.raised, " ") }
func get(h *host.Host, name string) string   { v, _ := h.Sysctl.Get(name); return v }
func set(h *host.Host, name, v string) error { return h.Sysctl.Ensure(name, v) }

// links are br0, and up0 with a default route and another that a router has advertised.
const links = `ip link add br0 type bridge
ip link add up0 type bridge
ip link set up0 up
ip -6 route add 2001:db8::/64 dev up0 proto ra
ip addr add 192.0.2.2/24 dev up0
ip route add default via 192.0.2.1`

// inNamespace runs fn in a new network namespace with links, on a thread that ends with it.
func inNamespace(t *testing.T, fn func(*host.Host, *[]string)) {
	t.Helper()
	testns.Run(t, func() {
		out, err := exec.Command("sh", "-ec", links).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
			return
		}
		var warnings []string
		h, err := host.Open(func(text string) { warnings = append(warnings, text) })
		if err != nil {
			t.Error(err)
			return
		}
		defer h.Close()
		fn(h, &warnings)
	})
}

func shared(gateways ...string) *model.Shared {
	s := &model.Shared{Network: model.Network{Name: "flatnet", Bridge: "br0", IsGateway: true}}
	for _, text := range gateways {
		p := netip.MustParsePrefix(text)
		s.Serve(model.Subnet{Prefix: p, Gateway: p.Addr()})
	}
	return s
}

func things(t *testing.T, h *host.Host, s *model.Shared, m Memory) (names []string) {
	t.Helper()
	found, err := Faults(h, s, m)
	if err != nil {
		t.Error(err)
	}
	for _, f := range found {
		names = append(names, strings.TrimPrefix(f.Thing, "sysctl "))
	}
	return names
}

func TestPutAndUndo(t *testing.T) {
	inNamespace(t, func(h *host.Host, warnings *[]string) {
		m, s := &memory{}, shared("10.87.1.1/24", "fd87::1/64")
		for name, v := range map[string]string{all4: "0", all6: "0", acceptRA("up0"): "1"} {
			if err := set(h, name, v); err != nil {
				t.Error(err)
			}
		}
		if got := things(t, h, s, m); !slices.Equal(got, []string{all4, of4("br0"), all6}) {
			t.Errorf("at first %q", got)
		}
		for range 2 {
			br, err := h.LinkByName("br0")
			if err := errors.Join(err, Put(h, s, br.Index, m)); err != nil {
				t.Error(err)
			}
			got, v := things(t, h, s, m), get(h, acceptRA("up0"))
			if got != nil || m.String() != "up0" || v != "2" {
				t.Errorf("then %q, raised %s to %s", got, m, v)
			}
		}
		if len(*warnings) != 1 || !strings.Contains((*warnings)[0], "accept_ra of up0 is raised from 1 to 2") {
			t.Errorf("warnings %q", *warnings)
		}
		if err := set(h, acceptRA("up0"), "1"); err != nil {
			t.Error(err)
		}
		if got := things(t, h, s, m); !slices.Equal(got, []string{acceptRA("up0")}) {
			t.Errorf("lowered %q", got)
		}
		if err := Restore(h, s, m); err != nil || things(t, h, s, m) != nil {
			t.Errorf("restored: %v", err)
		}
		if done, err := Undo(h, m); done != nil || err != nil {
			t.Errorf("undone while it is a router: %q, %v", done, err)
		}
		if err := set(h, all6, "0"); err != nil {
			t.Error(err)
		}
		done, err := Undo(h, m)
		if len(done) != 1 || err != nil || m.raised != nil || get(h, acceptRA("up0")) != "1" {
			t.Errorf("undone %q, %v, left %s", done, err, m)
		}
	})
}

// A network without a gateway of a family leaves that alone.
func TestPutOfOneFamily(t *testing.T) {
	for gateway, want := range map[string]string{"": "00", "10.87.1.1/24": "10", "fd87::1/64": "01"} {
		inNamespace(t, func(h *host.Host, _ *[]string) {
			s := shared(strings.Fields(gateway)...)
			for _, name := range []string{all4, all6} {
				if err := set(h, name, "0"); err != nil {
					t.Error(err)
				}
			}
			if err := Put(h, s, 0, &memory{}); err != nil {
				t.Error(err)
			}
			if got := get(h, all4) + get(h, all6); got != want {
				t.Errorf("%q: forwards %s, want %s", gateway, got, want)
			}
		})
	}
}

func TestCheckUplink(t *testing.T) {
	inNamespace(t, func(h *host.Host, _ *[]string) {
		if err := set(h, all4, "1"); err != nil {
			t.Error(err)
		}
		if err := set(h, of4("up0"), "0"); err != nil {
			t.Error(err)
		}
		internal := shared("10.87.1.1/24")
		internal.Internal = true
		for _, tt := range []struct {
			name     string
			s        *model.Shared
			conflict bool
		}{
			{"IPv4", shared("10.87.1.1/24"), true}, {"IPv6", shared("fd87::1/64"), false}, {"internal", internal, false},
		} {
			err := CheckUplink(h, tt.s)
			if (err != nil) != tt.conflict || err != nil && !strings.Contains(err.Error(), of4("up0")+" is 0") {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
		if err := set(h, of4("up0"), "1"); err != nil {
			t.Error(err)
		}
		if err := CheckUplink(h, shared("10.87.1.1/24")); err != nil {
			t.Error(err)
		}
	})
}
