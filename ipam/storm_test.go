package ipam

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"flatnet/bridge/model"
)

// workerDir is the variable that makes this test binary a worker.
const workerDir = "FLATNET_IPAM_TEST_WORKER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(workerDir); dir != "" {
		if err := work(dir, os.Args[1]); err != nil {
			fmt.Println(err)
			os.Exit(3)
		}
	}
	os.Exit(m.Run())
}

func TestGoroutinesLeaseAtOnce(t *testing.T) {
	dir, all := tempDir(t), sets(t, []Range{rng(t, "10.87.1.0/24", "", "10.87.1.102")}, []Range{rng(t, "fd00::/64")})
	var mu sync.Mutex
	holder := map[netip.Addr]model.Key{}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			s := New(Config{Network: "flatnet", Dir: dir, Sets: all}, nobody)
			s.wait = time.Minute // on a machine with other things to do, too
			for n := range 4 {
				k := keyIf(fmt.Sprint("c", i/2), fmt.Sprint("eth", i%2))
				l, err := s.Lease(k, nil, noLocals)
				if err != nil || l.Had {
					t.Errorf("%s: had %v, %v", k, l.Had, err)
					return
				}
				mu.Lock()
				for _, a := range l.Addresses {
					if other, ok := holder[a.Prefix.Addr()]; ok {
						t.Errorf("%s has %s, and %s too", other, a.Prefix, k)
					}
					holder[a.Prefix.Addr()] = k
				}
				mu.Unlock()
				if n == 3 {
					return // keep it
				}
				mu.Lock()
				for _, a := range l.Addresses {
					delete(holder, a.Prefix.Addr())
				}
				mu.Unlock()
				l.Flight.Close()
				if _, err := s.Release([]model.Key{k}, true); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	l, err := peek(store(dir, all))
	if err != nil || len(l.all) != 100 {
		t.Errorf("%d leases, %v", len(l.all), err)
	}
	for i := range l.all {
		key := l.key(&l.all[i])
		for _, a := range l.all[i].list() {
			if holder[a] != key {
				t.Errorf("%s is %s's, not %s's", a, holder[a], key)
			}
		}
	}
}

// work leases and releases in turn, four attachments at a time, until it is
// killed. A link named by the address says that it is in use, and by whom.
func work(dir, id string) error {
	r, err := NewRange(model.Range{Subnet: netip.MustParsePrefix("10.87.1.0/24"), End: addr("10.87.1.60")})
	if err != nil {
		return err
	}
	all, err := NewSets(plain([]Range{r}))
	if err != nil {
		return err
	}
	s := store(filepath.Join(dir, "ipam"), all)
	s.cfg.Warn = func(m string) { fmt.Println(m); os.Exit(3) }
	var used [4]string
	var flights [4]io.Closer
	for i := 0; ; i = (i + 1) % len(used) {
		k := key(fmt.Sprint(id, ".", i))
		if used[i] != "" {
			if err := os.Remove(used[i]); err != nil {
				return err
			}
			flights[i].Close()
			if _, err := s.Release([]model.Key{k}, true); err != nil {
				return err
			}
		}
		l, err := s.Lease(k, nil, noLocals)
		if err != nil || l.Had {
			return fmt.Errorf("had %v, %w", l.Had, err)
		}
		flights[i] = l.Flight
		used[i] = filepath.Join(dir, "used", leased(l))
		if err := os.Symlink(id, used[i]); err != nil {
			return fmt.Errorf("doubled: %w", err)
		}
		fmt.Println(used[i])
	}
}

// Processes that are killed wherever they are leave a whole file, no address
// is two's, and none is lost.
func TestProcessesKilled(t *testing.T) {
	dir := tempDir(t)
	if err := os.Mkdir(filepath.Join(dir, "used"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := store(filepath.Join(dir, "ipam"), small(t))
	s.cfg.Warn = func(m string) { t.Error(m) }
	var wg sync.WaitGroup
	for w := range 6 {
		random := rand.New(rand.NewPCG(1, uint64(w)))
		wg.Go(func() {
			for round := range 8 {
				id := fmt.Sprintf("w%d.%d", w, round)
				if err := workUntilKilled(dir, id, 1+random.IntN(20)); err != nil {
					t.Error(err)
					return
				}
				used, err := filepath.Glob(filepath.Join(dir, "used", "*"))
				if err != nil {
					t.Error(err)
				}
				for _, name := range used { // others come and go meanwhile
					if by, err := os.Readlink(name); err == nil && by == id {
						if err := os.Remove(name); err != nil {
							t.Error(err)
						}
					}
				}
				for i := range 4 {
					if _, err := s.Release([]model.Key{key(fmt.Sprint(id, ".", i))}, true); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if got := listed(t, s); got != "" {
		t.Errorf("lost: %s", got)
	}
	mustLease(t, s, key("c1")) // takes away what a killed one left half written
	if got := files(t, s.cfg.Dir); got != ".lock -rw-------, allocations.json -rw-------" {
		t.Errorf("files %s", got)
	}
}

// workUntilKilled kills a worker right after it has said some number of lines.
func workUntilKilled(dir, id string, lines int) error {
	cmd := exec.Command(os.Args[0], id)
	cmd.Env = append(os.Environ(), workerDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	said := bufio.NewScanner(out)
	for i := 0; i < lines && said.Scan(); i++ {
	}
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	rest := ""
	for said.Scan() {
		rest = said.Text()
	}
	if err := cmd.Wait(); !strings.Contains(fmt.Sprint(err), "signal: killed") {
		return fmt.Errorf("worker %s ended by itself: %v: %s", id, err, rest)
	}
	return nil
}
