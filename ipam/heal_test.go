package ipam

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"flatnet/bridge/model"
	"flatnet/internal/lockdir"
)

// full returns a store whose three addresses are leased by c1, c2 and c3 in
// this boot; c3 came first.
func full(t *testing.T, list ...model.Owner) *Store {
	t.Helper()
	l := &leases{network: "flatnet"}
	l.last = addrs("10.87.1.3")
	for i, id := range []string{"c1", "c2", "c3"} {
		l.put(key(id), addrs(fmt.Sprint("10.87.1.", i+2)))
	}
	dir := tempDir(t)
	save(t, dir, l)
	return New(Config{Network: "flatnet", Dir: dir, Sets: small(t)}, owners(list...))
}

// save writes l as a store does.
func save(t *testing.T, dir string, l *leases) {
	t.Helper()
	d := mustLock(t, dir)
	defer d.Close()
	if err := d.Replace(l.encode()); err != nil {
		t.Fatal(err)
	}
}

func TestStaleLeasesAreReclaimed(t *testing.T) {
	c1, c2, c3 := owner(key("c1"), "10.87.1.2"), owner(key("c2"), "10.87.1.3"), owner(key("c3"), "10.87.1.4")
	for _, tt := range []struct {
		name   string
		flying string // by ID
		owners []model.Owner
		want   string // empty: exhausted
	}{
		{"all, the oldest first", "", nil, "10.87.1.4"},
		{"all in flight", "c1 c2 c3", nil, ""},
		{"all but one in flight", "c1 c3", nil, "10.87.1.3"},
		{"in flight and with links", "c3", []model.Owner{c1, c2}, ""},
		{"others in flight", "c4", nil, "10.87.1.4"},
		{"only one", "", []model.Owner{c1, c3}, "10.87.1.3"},
		{"none", "", []model.Owner{c1, c2, c3}, ""},
		{"link without alias yet", "", []model.Owner{c1, c2, {Mark: c3.Mark}}, ""},
		{"link with another mark", "", []model.Owner{c1, c2, {Key: c3.Key}}, ""},
		{"address on a link of another interface", "", []model.Owner{c1, c2, owner(keyIf("c3", "net0"), "10.87.1.4")}, ""},
		{"address in another network", "", []model.Owner{c1, c2,
			owner(model.Key{Network: "other", ContainerID: "c3", IfName: "eth0"}, "10.87.1.4")}, "10.87.1.4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := full(t, tt.owners...)
			d, err := s.folder(lockdir.Place.Open)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			for id := range strings.FieldsSeq(tt.flying) {
				flight, err := d.LockBytes([]int64{placeOf(addr(map[string]string{"c1": "10.87.1.2", "c2": "10.87.1.3", "c3": "10.87.1.4", "c4": "10.87.1.9"}[id]))})
				if err != nil {
					t.Fatal(err)
				}
				defer flight.Close()
			}
			free := s.Free(noLocals)
			if got := listed(t, s); got != "c1/eth0=10.87.1.2 c2/eth0=10.87.1.3 c3/eth0=10.87.1.4" {
				t.Errorf("Free changed them: %s", got)
			}
			l, err := s.Lease(key("new"), nil, noLocals)
			if tt.want == "" {
				const text = "network flatnet has no free address: all of [10.87.1.1-10.87.1.4] are leased"
				if !errors.Is(err, model.ErrExhausted) || !strings.HasPrefix(err.Error(), text) || !errors.Is(free, model.ErrExhausted) {
					t.Errorf("got %s, %v, free %v", leased(l), err, free)
				}
				return
			}
			if err != nil || leased(l) != tt.want || free != nil {
				t.Fatalf("got %s, %v, free %v", leased(l), err, free)
			}
			l.Flight.Close()
			if got := listed(t, s); strings.Count(got, "=") != 3 {
				t.Errorf("more than needed: %s", got)
			}
		})
	}
}

// A flight ends when it is closed, and only that of its owner.
func TestFlight(t *testing.T) {
	s := full(t)
	first, err := s.Lease(key("c1"), nil, noLocals)
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.Lease(key("c1"), nil, noLocals) // its runtime does not wait for the first
	if err != nil {
		t.Fatal(err)
	}
	first.Flight.Close()
	for i, want := range []string{"10.87.1.4", "10.87.1.3", "10.87.1.4"} {
		if got := mustLease(t, s, key(fmt.Sprint("new", i))); got != want {
			t.Errorf("took %s, not %s", got, want)
		}
	}
	second.Flight.Close()
	if got := mustLease(t, s, key("new3")); got != "10.87.1.2" {
		t.Errorf("took %s", got)
	}
}

func TestOwnersAreAskedOnlyWhenExhausted(t *testing.T) {
	s, asked := full(t), 0
	s.owners = func() ([]model.Owner, error) { asked++; return nil, nil }
	mustRelease(t, s, key("c2"))
	mustLease(t, s, key("c4"))
	mustLease(t, s, key("c4"), "10.87.1.99")
	if asked != 0 {
		t.Errorf("asked %d times", asked)
	}
	// Two sets that are both exhausted ask once.
	s.cfg.Sets = sets(t, []Range{rng(t, "10.87.1.0/24", "10.87.1.2", "10.87.1.2")}, []Range{rng(t, "10.87.1.0/24", "10.87.1.4", "10.87.1.4")})
	if got := mustLease(t, s, key("c5")); got != "10.87.1.2,10.87.1.4" || asked != 1 {
		t.Errorf("got %s, asked %d times", got, asked)
	}
	failure := errors.New("no netlink")
	s.owners = func() ([]model.Owner, error) { return nil, failure }
	if _, err := s.Lease(key("c6"), nil, noLocals); !errors.Is(err, failure) {
		t.Errorf("owners failed: %v", err)
	}
}

// A stale lease belongs to its owner until somebody needs its address, and
// is no stale one while its owner's ADD is in flight anew.
func TestOwnerComesBackAfterReboot(t *testing.T) {
	s := full(t)
	lock, boot := s.cfg.Dir+"/.lock", strings.TrimSpace(readFile(t, "/proc/sys/kernel/random/boot_id"))
	if stamp := readFile(t, lock); !strings.HasPrefix(stamp, boot+" ") {
		t.Fatalf("lock %q", stamp)
	}
	writeFile(t, lock, strings.Replace(readFile(t, lock), boot, strings.Repeat("0", len(boot)), 1))
	l, err := s.Lease(key("c3"), addrs("10.87.1.4"), noLocals)
	if err != nil || !l.Had || leased(l) != "10.87.1.4" {
		t.Fatal(leased(l), l.Had, err)
	}
	defer l.Flight.Close()
	if got := mustLease(t, s, key("new")); got != "10.87.1.2" {
		t.Errorf("took %s", got)
	}
}

// rebuilt are the leases of the links that breakable has.
const rebuilt = "c1/eth0=10.87.1.50,10.87.1.2,fd00::2 c1/eth1=10.87.1.3 c5/eth0=10.87.1.51"

// breakable returns a store whose lease file is to be broken, the file and what the
// store warns of. The host has links of running containers, and strange ones.
func breakable(t *testing.T, warned *[]string) (s *Store, file string) {
	t.Helper()
	c1, c2 := owner(key("c1"), "10.87.1.2", "fd00::2"), owner(keyIf("c1", "eth1"), "10.87.1.3")
	strange := []model.Owner{
		{Key: key("c1"), Addresses: addrs("10.87.1.50")},                               // a second link of one owner
		{Key: key("c5"), Addresses: addrs("10.87.1.2", "10.87.1.51", "10.87.1.51")},    // an address of another
		{Key: key("c6"), Addresses: addrs("10.87.1.2", "fe80::1%x", "::ffff:1.2.3.4")}, // none left
		{Key: keyIf("c7", ""), Addresses: addrs("10.87.1.52")},
		{Mark: key("c8").Mark(), Addresses: addrs("10.87.1.53")},
		owner(model.Key{Network: "other", ContainerID: "c9", IfName: "eth0"}, "10.87.1.54"),
	}
	s = New(Config{Network: "flatnet", Dir: tempDir(t), Sets: sets(t, []Range{rng(t, "10.87.1.0/24")})},
		owners(append(strange, c2, c1)...))
	s.cfg.Warn = func(m string) { *warned = append(*warned, m) }
	file = s.cfg.Dir + "/allocations.json"
	return s, file
}

func TestBrokenFileIsRebuilt(t *testing.T) {
	var warned []string
	s, file := breakable(t, &warned)
	writeFile(t, file, `{"allocations": {"c1"`)
	if _, err := s.Keys(); !errors.Is(err, errBroken) {
		t.Errorf("Keys: %v", err)
	}
	if err := s.Check(key("c1"), addrs("10.87.1.2")); !errors.Is(err, errBroken) {
		t.Errorf("Check: %v", err)
	}
	if got := mustLease(t, s, key("new")); got != "10.87.1.4" {
		t.Errorf("leased %s", got)
	}
	if got := listed(t, s); got != rebuilt+" new/eth0=10.87.1.4" {
		t.Errorf("rebuilt %s", got)
	}
	if got := readFile(t, file+".broken-1"); got != `{"allocations": {"c1"` {
		t.Errorf("set aside %s", got)
	}
	want := "lease file " + file + " is rebuilt with 3 leases of running containers, and the old one kept as allocations.json.broken-1: " +
		file + ": not a lease file: at byte 21: unexpected end, want a colon"
	if len(warned) != 1 || warned[0] != want {
		t.Errorf("warned %q", warned)
	}
}

// By Release as well, and even if the lease is refused.
func TestBrokenFileIsRebuiltByOthers(t *testing.T) {
	var warned []string
	s, file := breakable(t, &warned)
	writeFile(t, file, ``)
	mustRelease(t, s, keyIf("c1", "eth1"))
	if got := listed(t, s); got != "c1/eth0=10.87.1.50,10.87.1.2,fd00::2 c5/eth0=10.87.1.51" {
		t.Errorf("rebuilt by Release: %s", got)
	}
	writeFile(t, file, `[]`)
	if _, err := s.Lease(key("new"), addrs("10.87.1.3"), noLocals); !errors.Is(err, model.ErrTaken) {
		t.Errorf("doubled: %v", err)
	}
	if got := listed(t, s); got != rebuilt {
		t.Errorf("rebuilt by a Lease that failed: %s", got)
	}

	// A lost one.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got := mustLease(t, s, key("new")); got != "10.87.1.4" || len(warned) != 3 ||
		!strings.HasPrefix(warned[2], "lease file "+file+" is rebuilt with 3 leases of running containers: open ") {
		t.Errorf("lost: %s, warned %q", got, warned[2:])
	}

	// The first ones are never overwritten, and there are not ever more.
	for range 10 {
		writeFile(t, file, `broken`)
		mustRelease(t, s, key("new"))
	}
	if got := files(t, s.cfg.Dir); strings.Count(got, "broken") != 9 || readFile(t, file+".broken-1") != "" || readFile(t, file+".broken-2") != "[]" {
		t.Errorf("set aside: %s", got)
	}
	if got := warned[len(warned)-1]; !strings.Contains(got, ", and the old one not kept beside others: ") {
		t.Errorf("warned %q", got)
	}
}

// What parses is not believed either, unless it was written here in this boot:
// a running container's address is its own, whatever the file says.
func TestForeignFile(t *testing.T) {
	const (
		kept    = "lease file FILE is rebuilt with 2 leases of running containers, and the old one kept as allocations.json.broken-1: subnet 192.168.0.0/24 is not the network's"
		changed = "lease file FILE is rebuilt with %s leases of running containers: it did not have the addresses of %[1]s running containers"
		live    = "c1/eth0=10.87.1.2,fd00::2 c1/eth1=10.87.1.3"
	)
	for _, tt := range []struct{ name, file, want, warned string }{
		{"of another subnet", `{"subnet": "192.168.0.0/24", "gateway": "192.168.0.1", "allocations": {}}`, live + " new/eth0=10.87.1.4", kept},
		{"of another subnet, with its leases", `{"subnet": "192.168.0.0/24", "allocations": {"x": "192.168.0.2"}}`, live + " new/eth0=10.87.1.4", kept},
		{"of another network of this boot", `{"subnet": "192.168.0.0/24", "allocations": {}, "boot": "BOOT"}`, live + " new/eth0=10.87.1.4", kept},
		{"empty", `{"subnet": "10.87.1.0/24", "allocations": {}}`, live + " new/eth0=10.87.1.4", fmt.Sprintf(changed, "2")},
		{"without a subnet", `{"allocations": {}}`, live + " new/eth0=10.87.1.4", fmt.Sprintf(changed, "2")},
		{"of another boot", `{"allocations": {"c1": "10.87.1.2,fd00::2"}, "boot": "another"}`, live + " new/eth0=10.87.1.4", fmt.Sprintf(changed, "1")},
		{"with others", `{"allocations": {"x": "10.87.1.4", "y": "10.87.1.77"}}`, live + " new/eth0=10.87.1.5 x/eth0=10.87.1.4 y/eth0=10.87.1.77", fmt.Sprintf(changed, "2")},
		{"with its addresses at others", `{"allocations": {"x": "10.87.1.2", "y": "10.87.1.4,fd00::2", "c1": "10.87.1.3", "c1/eth1": "10.87.1.50"}}`,
			live + " new/eth0=10.87.1.5 y/eth0=10.87.1.4", fmt.Sprintf(changed, "2")},
		{"as it is", `{"allocations": {"c1": "fd00::2,10.87.1.2", "c1/eth1": "10.87.1.3", "x": "10.87.1.4"}}`, "c1/eth0=fd00::2,10.87.1.2 c1/eth1=10.87.1.3" + " new/eth0=10.87.1.5 x/eth0=10.87.1.4", ""},
		{"of before the subnet was changed", `{"subnet": "192.168.0.0/24", "allocations": {"c1": "10.87.1.2,fd00::2", "c1/eth1": "10.87.1.3", "x": "192.168.0.7"}, "boot": "BOOT"}`,
			live + " new/eth0=10.87.1.4 x/eth0=192.168.0.7", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var warned []string
			s := New(Config{Network: "flatnet", Dir: tempDir(t), Sets: sets(t, []Range{rng(t, "10.87.1.0/24")}), Warn: func(m string) { warned = append(warned, m) }},
				owners(owner(key("c1"), "10.87.1.2", "fd00::2"), owner(keyIf("c1", "eth1"), "10.87.1.3")))
			file := s.cfg.Dir + "/allocations.json"
			content := tt.file
			writeFile(t, file, content)
			if strings.Contains(content, "BOOT") {
				d := mustLock(t, s.cfg.Dir)
				d.Sign()
				d.Close()
			}
			mustLease(t, s, key("new"))
			mustLease(t, s, key("new"))
			if got := listed(t, s); got != tt.want {
				t.Errorf("leases are %s, want %s", got, tt.want)
			}
			if got, want := strings.Join(warned, "\n"), strings.ReplaceAll(tt.warned, "FILE", file); got != want {
				t.Errorf("warned %q, want %q", got, want)
			}
			if tt.warned == kept && readFile(t, file+".broken-1") != content {
				t.Error("set aside is another")
			}
		})
	}
}

// A DEL knows no ranges, and the rules stay for who is not in the file.
func TestReleaseFromAForeignFile(t *testing.T) {
	s := New(Config{Network: "flatnet", Dir: tempDir(t)}, owners(owner(key("c2"), "10.87.1.3")))
	writeFile(t, s.cfg.Dir+"/allocations.json", `{"subnet": "192.168.0.0/24", "allocations": {"c1": "10.87.1.3"}}`)
	if left, err := s.Release([]model.Key{key("c1")}, true); err != nil || !slices.Equal(left, []model.Key{key("c2")}) {
		t.Errorf("left %v, %v", left, err)
	}
	if got := listed(t, s); got != "c2/eth0=10.87.1.3" {
		t.Errorf("left %s", got)
	}
}

func TestNothingIsSetAsideWhenOwnersAreUnknown(t *testing.T) {
	failure := errors.New("no netlink")
	s := New(Config{Network: "flatnet", Dir: tempDir(t), Sets: small(t)}, func() ([]model.Owner, error) { return nil, failure })
	if _, err := s.Release([]model.Key{key("c1")}, true); !errors.Is(err, failure) {
		t.Errorf("missing: %v", err)
	}
	writeFile(t, s.cfg.Dir+"/allocations.json", "{")
	if _, err := s.Lease(key("c1"), nil, noLocals); !errors.Is(err, failure) || !errors.Is(err, errBroken) {
		t.Errorf("Lease: %v", err)
	}
	if err := s.Free(noLocals); !errors.Is(err, failure) {
		t.Errorf("Free: %v", err)
	}
	if got := files(t, s.cfg.Dir); got != ".lock -rw-------, allocations.json -rw-------" || readFile(t, s.cfg.Dir+"/allocations.json") != "{" {
		t.Errorf("files %s", got)
	}
}

// Wherever a crash tore the file, no live address is lost, and it is either
// whole or set aside with a message.
func TestFileTornAtEveryByte(t *testing.T) {
	whole := full(t)
	mustLease(t, whole, keyIf("c2", "net0"), "10.87.1.9")
	data := readFile(t, whole.cfg.Dir+"/allocations.json")
	dir := tempDir(t)
	s := New(Config{Network: "flatnet", Dir: dir, Sets: sets(t, []Range{rng(t, "10.87.1.0/24", "", "10.87.1.5")})},
		owners(owner(key("c1"), "10.87.1.2"), owner(key("c3"), "10.87.1.4")))
	warned := 0
	s.cfg.Warn = func(string) { warned++ }
	for n := range len(data) + 1 {
		writeFile(t, dir+"/allocations.json", data[:n])
		warned = 0
		got := mustLease(t, s, key("new"))
		ok := got == "10.87.1.3" || got == "10.87.1.5"
		all := listed(t, s)
		if !ok || !strings.Contains(all, "c1/eth0=10.87.1.2") || !strings.Contains(all, "c3/eth0=10.87.1.4") {
			t.Errorf("%d bytes: %s", n, all)
		}
		if intact := n >= len(data)-1; intact != (warned == 0) { // all but the last newline
			t.Errorf("%d bytes: warned %d times", n, warned)
		}
	}
}
