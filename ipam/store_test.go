package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flatnet/bridge/model"
	"flatnet/internal/lockdir"
)

func key(id string) model.Key { return keyIf(id, "eth0") }

func keyIf(id, ifName string) model.Key {
	return model.Key{Network: "flatnet", ContainerID: id, IfName: ifName}
}

// nobody is a host without links of ours.
func nobody() ([]model.Owner, error) { return nil, nil }

// noLocals is a host without addresses of its own.
func noLocals(netip.Addr) (model.Local, error) { return model.Local{}, nil }

func owners(list ...model.Owner) func() ([]model.Owner, error) {
	return func() ([]model.Owner, error) { return list, nil }
}

// owner is the link of an attachment.
func owner(k model.Key, as ...string) model.Owner {
	return model.Owner{Key: k, Mark: k.Mark(), Addresses: addrs(as...)}
}

// small is a network of 10.87.1.2 to 10.87.1.4.
func small(t testing.TB) Sets {
	return sets(t, []Range{rng(t, "10.87.1.0/24", "", "10.87.1.4")})
}

// tempDir is a directory that other users can't look into.
func tempDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func store(dir string, s Sets) *Store {
	return New(Config{Network: "flatnet", Dir: dir, Sets: s}, nobody)
}

// mustLease leases, ends the flight and returns the addresses.
func mustLease(t *testing.T, s *Store, k model.Key, want ...string) string {
	t.Helper()
	l, err := s.Lease(k, addrs(want...), noLocals)
	if err != nil {
		t.Fatal(err)
	}
	l.Flight.Close()
	return leased(l)
}

func leased(l model.Lease) string {
	var as []netip.Addr
	for _, a := range l.Addresses {
		as = append(as, a.Prefix.Addr())
	}
	return join(as)
}

func mustRelease(t *testing.T, s *Store, k model.Key) {
	t.Helper()
	if _, err := s.Release([]model.Key{k}, true); err != nil {
		t.Fatal(err)
	}
}

// listed is "key=addresses" of all leases.
func listed(t *testing.T, s *Store) string {
	t.Helper()
	l, err := peek(s)
	if err != nil {
		t.Fatal(err)
	}
	var b []string
	for i := range l.all {
		key := l.key(&l.all[i])
		b = append(b, key.ContainerID+"/"+key.IfName+"="+l.all[i].addrs)
	}
	return strings.Join(b, " ")
}

func writeFile(t *testing.T, path, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// files lists what is below a directory, with the permissions.
func files(t *testing.T, dir string) string {
	t.Helper()
	var b []string
	if err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && path != dir {
			b = append(b, fmt.Sprintf("%s %v", strings.TrimPrefix(path, dir+"/"), info.Mode()))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return strings.Join(b, ", ")
}

func TestLease(t *testing.T) {
	s := New(Config{
		Network: "flatnet", Dir: filepath.Join(tempDir(t), "a", "b"),
		Sets: sets(t, []Range{rng(t, "10.87.1.0/24")}, []Range{rng(t, "fd00::/64", "", "", "fd00::9")}),
	}, nobody)
	l, err := s.Lease(key("c1"), nil, noLocals)
	if err != nil || l.Had {
		t.Fatal(l.Had, err)
	}
	want := []model.Address{
		{Prefix: netip.MustParsePrefix("10.87.1.2/24"), Gateway: netip.MustParseAddr("10.87.1.1")},
		{Prefix: netip.MustParsePrefix("fd00::1/64"), Gateway: netip.MustParseAddr("fd00::9")},
	}
	if !slices.Equal(l.Addresses, want) {
		t.Errorf("got %+v, want %+v", l.Addresses, want)
	}
	if got := mustLease(t, s, keyIf("c1", "eth1")); got != "10.87.1.3,fd00::2" {
		t.Errorf("further interface: %s", got)
	}
	if keys, err := s.Keys(); err != nil || fmt.Sprint(keys) != "[flatnet/c1/eth0 flatnet/c1/eth1]" {
		t.Errorf("keys %v, %v", keys, err)
	}
	if got, want := files(t, filepath.Dir(s.cfg.Dir)), "b drwx------, b/.lock -rw-------, b/allocations.json -rw-------"; got != want {
		t.Errorf("files %s", got)
	}
	if got, want := readFile(t, s.cfg.Dir+"/allocations.json"), `{
  "subnet": "10.87.1.0/24",
  "gateway": "10.87.1.1",
  "allocations": {
    "c1": "10.87.1.2,fd00::1",
    "c1/eth1": "10.87.1.3,fd00::2"
  },
`; !strings.HasPrefix(got, want) {
		t.Errorf("file %s", got)
	}
}

func TestNetworksHaveFoldersOfTheirOwn(t *testing.T) {
	dir := tempDir(t)
	other := New(Config{Network: "other", Dir: dir, Sets: small(t)}, nobody)
	k := model.Key{Network: "other", ContainerID: "c1", IfName: "eth0"}
	if a, b := mustLease(t, other, k), mustLease(t, store(dir, small(t)), key("c1")); a != "10.87.1.2" || b != a {
		t.Errorf("got %s and %s", a, b)
	}
	if got, want := files(t, dir), ".lock -rw-------, allocations.json -rw-------, other drwx------, other/.lock -rw-------, other/allocations.json -rw-------"; got != want {
		t.Errorf("files %s", got)
	}
	if _, err := other.Lease(key("c1"), nil, noLocals); !errors.Is(err, model.ErrInvalid) {
		t.Errorf("key of another network: %v", err)
	}
}

func TestLeaseRefusesKeysThatWouldBreakTheFile(t *testing.T) {
	s := store(tempDir(t), small(t))
	for _, k := range []model.Key{key(""), key("a/b"), keyIf("c1", ""), keyIf("c1", "e\n")} {
		if _, err := s.Lease(k, nil, noLocals); !errors.Is(err, model.ErrInvalid) {
			t.Errorf("%q: %v", k, err)
		}
	}
	if got := files(t, s.cfg.Dir); got != "" {
		t.Errorf("made %s", got)
	}
}

func TestReleasedAddressIsNotReusedAtOnce(t *testing.T) {
	dir := tempDir(t)
	s := store(dir, small(t))
	var got []string
	for i := range 7 {
		k := key(fmt.Sprint("c", i))
		got = append(got, mustLease(t, store(dir, small(t)), k))
		mustRelease(t, s, k)
	}
	if g := strings.Join(got, " "); g != "10.87.1.2 10.87.1.3 10.87.1.4 10.87.1.2 10.87.1.3 10.87.1.4 10.87.1.2" {
		t.Errorf("got %s", g)
	}
	// A wanted address is out of turn.
	mustLease(t, s, key("w"), "10.87.1.200")
	if a := mustLease(t, s, key("c")); a != "10.87.1.3" {
		t.Errorf("after a wanted one: %s", a)
	}
}

func TestLeaseAgain(t *testing.T) {
	dual := sets(t, []Range{rng(t, "10.87.1.0/24")}, []Range{rng(t, "fd00::/64")})
	for _, tt := range []struct {
		name  string
		first []netip.Addr
		sets  Sets // of the second; the first has dual
		again []netip.Addr
		want  string
	}{
		{"asking for nothing", nil, dual, nil, "10.87.1.2,fd00::2"},
		{"asking for what it has", nil, dual, addrs("fd00::2", "10.87.1.2"), "10.87.1.2,fd00::2"},
		{"asking for half of it", nil, dual, addrs("fd00::2"), "10.87.1.2,fd00::2"},
		{"asking for another", nil, dual, addrs("10.87.1.77"), "10.87.1.77,fd00::2"},
		{"having had a wanted one", addrs("10.87.1.77"), dual, nil, "10.87.1.77,fd00::2"},
		{"other start", nil, sets(t, []Range{rng(t, "10.87.1.0/24", "10.87.1.50")}, []Range{rng(t, "fd00::/64")}), nil, "10.87.1.2,fd00::2"},
		{"sets swapped", nil, sets(t, []Range{rng(t, "fd00::/64")}, []Range{rng(t, "10.87.1.0/24")}), nil, "fd00::2,10.87.1.2"},
		{"other subnet", nil, sets(t, []Range{rng(t, "10.99.1.0/24")}, []Range{rng(t, "fd00::/64")}), nil, "10.99.1.2,fd00::2"},
		{"now the gateway's", nil, sets(t, []Range{rng(t, "10.87.1.0/24", "", "", "10.87.1.2")}, []Range{rng(t, "fd00::/64")}), nil, "10.87.1.3,fd00::2"},
		{"a set less", nil, sets(t, []Range{rng(t, "fd00::/64")}), nil, "fd00::2"},
		{"a set more", nil, sets(t, []Range{rng(t, "10.87.1.0/24")}, []Range{rng(t, "fd00::/64")}, []Range{rng(t, "10.9.0.0/24")}), nil, "10.87.1.2,fd00::2,10.9.0.2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := tempDir(t)
			mustLease(t, store(dir, dual), key("c1"), strings.Fields(strings.ReplaceAll(join(tt.first), ",", " "))...)
			s := store(dir, tt.sets)
			l, err := s.Lease(key("c1"), tt.again, noLocals)
			if err != nil || leased(l) != tt.want || !l.Had {
				t.Errorf("got %s, held %v, %v", leased(l), l.Had, err)
			}
			if got := listed(t, s); got != "c1/eth0="+tt.want {
				t.Errorf("file has %s", got)
			}
			subnet := tt.sets.Ranges()[0].Subnet.String()
			if got := readFile(t, dir+"/allocations.json"); !strings.HasPrefix(got, "{\n  \"subnet\": \""+subnet+"\",") {
				t.Errorf("file is of another subnet: %s", got)
			}
		})
	}
}

func TestLeaseRefused(t *testing.T) {
	s := New(Config{Network: "flatnet", Dir: tempDir(t), Sets: small(t)}, owners(owner(key("c1")), owner(keyIf("c1", "eth1"))))
	mustLease(t, s, key("c1"))
	mustLease(t, s, keyIf("c1", "eth1"), "10.87.1.77")
	before := readFile(t, s.cfg.Dir+"/allocations.json")
	for _, tt := range []struct {
		name string
		key  model.Key
		want []netip.Addr
		kind error
		text string
	}{
		{"taken", key("c2"), addrs("10.87.1.2"), model.ErrTaken, "address 10.87.1.2 is leased to flatnet/c1/eth0"},
		{"taken by a further interface", key("c2"), addrs("10.87.1.77"), model.ErrTaken, "address 10.87.1.77 is leased to flatnet/c1/eth1"},
		{"having another", key("c1"), addrs("10.87.1.77"), model.ErrTaken, "address 10.87.1.77 is leased to flatnet/c1/eth1"},
		{"gateway", key("c2"), addrs("10.87.1.1"), model.ErrInvalid, "address 10.87.1.1 is a gateway of the network"},
		{"elsewhere", key("c2"), addrs("10.99.1.1"), model.ErrInvalid, "address 10.99.1.1 is in no subnet of the ranges [10.87.1.1-10.87.1.4]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := s.Lease(tt.key, tt.want, noLocals)
			if !errors.Is(err, tt.kind) || !strings.HasPrefix(err.Error(), tt.text) {
				t.Errorf("got %v", err)
			}
			if got := readFile(t, s.cfg.Dir+"/allocations.json"); got != before {
				t.Errorf("file changed to %s", got)
			}
		})
	}
	if _, err := store(s.cfg.Dir, Sets{}).Lease(key("c2"), nil, noLocals); !errors.Is(err, model.ErrInvalid) {
		t.Errorf("no ranges: %v", err)
	}
}

func TestRelease(t *testing.T) {
	s := store(tempDir(t), small(t))
	mustLease(t, s, key("c1"))
	mustLease(t, s, keyIf("c1", "eth1"))
	// The ranges of today don't matter.
	for _, step := range []struct {
		key  model.Key
		left []model.Key
	}{
		{key("c1"), []model.Key{keyIf("c1", "eth1")}},
		{key("c1"), []model.Key{keyIf("c1", "eth1")}},
		{keyIf("c1", "eth1"), nil},
		{keyIf("c1", "eth1"), nil},
	} {
		left, err := store(s.cfg.Dir, Sets{}).Release([]model.Key{step.key}, true)
		if err != nil || !slices.Equal(left, step.left) {
			t.Errorf("%v: left %v, %v", step.key, left, err)
		}
	}
	if got := readFile(t, s.cfg.Dir+"/allocations.json"); !strings.HasPrefix(got, `{
  "subnet": "10.87.1.0/24",
  "gateway": "10.87.1.1",
  "allocations": {},
`) {
		t.Errorf("file %s", got)
	}
}

func TestReleaseMakesNothing(t *testing.T) {
	live := owner(key("c1"), "10.87.1.2")
	for _, tt := range []struct {
		name, dir string
		owners    []model.Owner
		left      int
	}{
		{"no directory", "missing/ipam", nil, 0},
		{"empty directory", "", nil, 0},
		{"no directory, own link still there", "missing", []model.Owner{owner(key("c9"), "10.87.1.9")}, 0},
		{"no directory, others live", "missing", []model.Owner{live}, 1},
		{"empty directory, others live", "", []model.Owner{live}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := tempDir(t)
			s := New(Config{Network: "flatnet", Dir: filepath.Join(dir, tt.dir)}, owners(tt.owners...))
			left, err := s.Release([]model.Key{key("c9")}, true)
			if err != nil || len(left) != tt.left {
				t.Errorf("left %v, %v", left, err)
			}
			if got := files(t, dir); got != "" {
				t.Errorf("made %s", got)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	s := store(tempDir(t), sets(t, []Range{rng(t, "10.87.1.0/24")}, []Range{rng(t, "fd00::/64")}))
	if err := s.Check(key("c1"), addrs("10.87.1.2")); !errors.Is(err, model.ErrChanged) || err.Error() != "lease of flatnet/c1/eth0 is missing" {
		t.Errorf("no file: %v", err)
	}
	if got := files(t, s.cfg.Dir); got != "" {
		t.Errorf("made %s", got)
	}
	mustLease(t, s, key("c1"))
	for _, tt := range []struct {
		key  model.Key
		has  []netip.Addr
		text string
	}{
		{key("c1"), addrs("10.87.1.2", "fd00::2"), ""},
		{key("c1"), addrs("fd00::2", "10.87.1.2"), ""},
		{key("c1"), addrs("10.87.1.2"), "flatnet/c1/eth0 has leased [10.87.1.2 fd00::2], not [10.87.1.2]"},
		{key("c1"), addrs("10.87.1.9", "fd00::2"), "flatnet/c1/eth0 has leased [10.87.1.2 fd00::2], not [10.87.1.9 fd00::2]"},
		{key("c2"), addrs("10.87.1.9", "fd00::2"), "address fd00::2 of flatnet/c2/eth0 is leased to flatnet/c1/eth0"},
		{keyIf("c1", "eth1"), addrs("10.87.1.9"), "lease of flatnet/c1/eth1 is missing"},
		{key("c2"), nil, "lease of flatnet/c2/eth0 is missing"},
	} {
		err := s.Check(tt.key, tt.has)
		if tt.text == "" && err != nil || tt.text != "" && (!errors.Is(err, model.ErrChanged) || !strings.HasPrefix(err.Error(), tt.text)) {
			t.Errorf("%s %v: %v", tt.key, tt.has, err)
		}
	}
}

func TestFree(t *testing.T) {
	s := store(tempDir(t), small(t))
	s.owners = owners(owner(key("c1")), owner(key("c2")), owner(key("c3")))
	for _, k := range []model.Key{key("c1"), key("c2"), key("c3")} {
		if err := s.Free(noLocals); err != nil {
			t.Errorf("before %s: %v", k, err)
		}
		mustLease(t, s, k)
	}
	before := readFile(t, s.cfg.Dir+"/allocations.json")
	if err := s.Free(noLocals); !errors.Is(err, model.ErrExhausted) {
		t.Errorf("full: %v", err)
	}
	if got := files(t, s.cfg.Dir); got != ".lock -rw-------, allocations.json -rw-------" || readFile(t, s.cfg.Dir+"/allocations.json") != before {
		t.Errorf("changed %s", got)
	}
	if err := store(s.cfg.Dir, Sets{}).Free(noLocals); !errors.Is(err, model.ErrInvalid) {
		t.Errorf("no ranges: %v", err)
	}
}

// peek returns the leases of a store.
func peek(s *Store) (l *leases, err error) {
	err = s.peek(func(found *leases, _ *lockdir.Dir) error { l = found; return nil })
	return l, err
}

// Held lists each lease with its addresses, and which have neither a link nor an ADD under
// way.
func TestHeld(t *testing.T) {
	s := store(tempDir(t), small(t))
	s.owners = owners(owner(key("linked")))
	if held, err := s.Held(); held != nil || err != nil {
		t.Errorf("without a file: %v, %v", held, err)
	}
	mustLease(t, s, key("linked"))
	mustLease(t, s, key("gone"))
	flying, err := s.Lease(key("flying"), nil, noLocals)
	if err != nil {
		t.Fatal(err)
	}
	defer flying.Flight.Close()
	held, err := s.Held()
	if err != nil || len(held) != 3 {
		t.Fatalf("%v, %v", held, err)
	}
	for _, h := range held {
		if h.Stale != (h.Key.ContainerID == "gone") || len(h.Addresses) != 1 {
			t.Errorf("%+v", h)
		}
	}
}
