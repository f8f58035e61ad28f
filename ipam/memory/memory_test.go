package memory

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"flatnet/bridge/model"
)

func key(id, ifName string) model.Key {
	return model.Key{Network: "flatnet", ContainerID: id, IfName: ifName}
}

func list(texts ...string) (all []netip.Addr) {
	for _, s := range texts {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

// Of an address only the last who had it is remembered, and of a key only what it had last.
func TestMemory(t *testing.T) {
	var m Memory
	m = m.Add(key("c1", "eth0"), list("10.87.1.2", "fd00::2"))
	m = m.Add(key("c1", "eth1"), list("10.87.1.3"))
	m = m.Add(key("c2", "eth0"), list("10.87.1.2", "fd00::3"))
	m = m.Add(key("c1", "eth1"), list("10.87.1.4"))
	const want = "c2/eth0=10.87.1.2,fd00::3 c1/eth1=10.87.1.4"
	if m.String() != want || Parse(want).String() != want {
		t.Errorf("remembered %s", m)
	}
	if got := fmt.Sprint(m.All(), m.Of(key("c2", "eth0")), m.Of(key("c1", "eth0")), m.Of(key("c2", "eth"))); got !=
		"[10.87.1.2 fd00::3 10.87.1.4] [10.87.1.2 fd00::3] [] []" {
		t.Errorf("had %s", got)
	}
	if m = m.Without(key("c2", "eth0"), list("10.87.1.4")); m.String() != "" || Parse("") != nil {
		t.Errorf("left %s", m)
	}
	for i := range 2 * limit {
		m = m.Add(key(fmt.Sprint("c", i), "eth0"), list(fmt.Sprintf("10.1.%d.1", i)))
	}
	if len(m) != limit || m.Of(key(fmt.Sprint("c", limit-1), "eth0")) != nil || len(Parse(m.String()+" "+m.String())) != limit {
		t.Errorf("%d remembered", len(m))
	}
}

func FuzzMemory(f *testing.F) {
	f.Add("c1/eth0=10.87.1.2,fd00::2 c1/eth1=10.87.1.3", "c1")
	f.Add("c1/eth0=x=, =,= 10.87.1.2 c1/eth0=::1%\"", "c1/eth0=x")
	f.Fuzz(func(t *testing.T, text, id string) {
		m := Parse(text)
		m.All()
		m.Of(key(id, "eth0"))
		m = m.Add(key("c1", "eth0"), list("10.87.1.2"))
		if got := fmt.Sprint(m.Of(key("c1", "eth0"))); got != "[10.87.1.2]" || len(m) > limit {
			t.Errorf("%q: c1 had %s of %d", text, got, len(m))
		}
	})
}

// What is kept of one network leaves the others' alone, is bounded, and goes when there is
// nothing.
func TestKeepAndRecall(t *testing.T) {
	dir := t.TempDir()
	for _, network := range []string{"a", "ab"} {
		Keep(dir, network, Memory{"c1/eth0=10.87.1.2", "c2/eth0=10.87.1.3"})
	}
	Keep(dir, "a", Memory{"c3/eth0=10.87.1.4"})
	for network, want := range map[string]Memory{"a": {"c3/eth0=10.87.1.4"}, "ab": {"c1/eth0=10.87.1.2", "c2/eth0=10.87.1.3"}, "b": nil} {
		if got := Recall(dir, network); !slices.Equal(got, want) {
			t.Errorf("%s: %q", network, got)
		}
	}
	var many Memory
	for i := range 2 * limit {
		many = append(many, fmt.Sprintf("c%d/eth0=10.87.1.2", i))
	}
	if Keep(dir, "a", many); len(Recall(dir, "a")) != limit || len(Recall(dir, "ab")) != 0 {
		t.Error("the newest are not kept")
	}
	Keep(dir, "a", nil)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	Keep(filepath.Join(dir, "none"), "a", many) // which is no error
	Keep(dir, "a", many)
	if os.Geteuid() == 0 {
		if err := os.Chown(filepath.Join(dir, file), 65534, 65534); err != nil || Recall(dir, "a") != nil {
			t.Errorf("another user's file is read, %v", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, file), []byte("broken"), 0o600); err != nil || Recall(dir, "a") != nil {
		t.Errorf("a broken file: %v", err)
	}
}
