package dns

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"flatnet/bridge/model"
	"flatnet/internal/flock"

	"golang.org/x/sys/unix"
)

func key(network, id string) model.Key {
	return model.Key{Network: network, ContainerID: id, IfName: "eth0"}
}

func addrs(list ...string) (all []netip.Addr) {
	for _, s := range list {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

func newServer(t testing.TB) Server {
	none := func() string { return "" }
	return Server{Dir: filepath.Join(t.TempDir(), "aardvark-dns"), Program: none, Warn: func(text string) { t.Log(text) }}
}

// put edits a record into the files, as Add does.
func (s Server) put(t testing.TB, r Record) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(s.Dir, 0o700), s.edit(r.Key.Network, of(r.Key), &r)); err != nil {
		t.Fatal(err)
	}
}

// content is what all files hold, each after its name.
func (s Server) content(t testing.TB) string {
	t.Helper()
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(s.Dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(e.Name() + ": " + string(data))
	}
	return b.String()
}

var (
	web = Record{Key: key("n", "c1"), Names: []string{"web", "www"}, Addresses: addrs("10.87.2.2", "fd87::2"), Listen: addrs("10.87.2.1", "fd87::1")}
	db  = Record{Key: key("n", "c2"), Names: []string{"db"}, Addresses: addrs("10.87.2.3"), Listen: addrs("10.87.2.1")}
)

func TestFiles(t *testing.T) {
	s := newServer(t)
	s.put(t, web)
	// As netavark 1.14.0 wrote it for two containers like these.
	if got, want := s.content(t), "n: 10.87.2.1,fd87::1\nc1 10.87.2.2 fd87::2 web,www\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	again := web
	again.Names, again.Upstream = []string{"web2"}, addrs("9.9.9.9", "2620:fe::fe")
	s.put(t, db)
	s.put(t, again)
	want := "n: 10.87.2.1,fd87::1 9.9.9.9,2620:fe::fe\nc2 10.87.2.3  db\nc1 10.87.2.2 fd87::2 web2\n"
	if got := s.content(t); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for _, k := range []model.Key{key("n", "c"), key("n", "c22"), key("m", "c2"), key("n", "c1")} {
		if err := s.Remove(k); err != nil {
			t.Error(err)
		}
	}
	if got, want := s.content(t), "n: 10.87.2.1,fd87::1 9.9.9.9,2620:fe::fe\nc2 10.87.2.3  db\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if err := s.Remove(db.Key); err != nil || s.content(t) != "" {
		t.Errorf("%v, and left is %q", err, s.content(t))
	}
}

func TestInternalNetworkHasAnotherFile(t *testing.T) {
	s := newServer(t)
	r := db
	r.Internal = true
	s.put(t, r)
	if got, want := s.content(t), "n%int: 10.87.2.1\nc2 10.87.2.3  db\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	s.put(t, db) // the network was made anew
	if got, want := s.content(t), "n: 10.87.2.1\nc2 10.87.2.3  db\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	s.put(t, r)
	if err := s.Remove(r.Key); err != nil || s.content(t) != "" {
		t.Errorf("%v, and left is %q", err, s.content(t))
	}
}

func TestKeep(t *testing.T) {
	s := newServer(t)
	s.put(t, web)
	s.put(t, db)
	other := db
	other.Key = key("m", "c9")
	s.put(t, other)
	if err := s.Keep("n", []model.Key{key("n", "c2"), key("m", "c1")}); err != nil {
		t.Error(err)
	}
	if got, want := s.content(t), "m: 10.87.2.1\nc9 10.87.2.3  db\nn: 10.87.2.1\nc2 10.87.2.3  db\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if err := s.Keep("n", nil); err != nil || strings.Contains(s.content(t), "n:") {
		t.Errorf("%v, and left is %q", err, s.content(t))
	}
}

func TestRemoveTouchesNothingWithoutARecord(t *testing.T) {
	s := newServer(t)
	if err := s.Remove(web.Key); err != nil {
		t.Error(err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(s.Dir)); len(entries) != 0 {
		t.Errorf("made %v", entries)
	}
}

func TestNotInstalledMeansNoServers(t *testing.T) {
	s := newServer(t)
	servers, err := s.Add(web)
	if servers != nil || err != nil {
		t.Errorf("%v, %v", servers, err)
	}
	if _, err := os.Stat(s.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("made %s", s.Dir)
	}
}

// install makes a shell script the server's program.
func (s *Server) install(t *testing.T, script string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "aardvark-dns")
	s.Program = func() string { return program }
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestServerThatDoesNotStart(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var said []string
	s.Warn = func(text string) { said = append(said, text) }
	s.install(t, `echo x >>"$0.starts"; echo "$@" >&2; echo no port >&2; exit 1`)
	servers, err := s.Add(web)
	if want := "--config " + s.Dir + " -p 53 run; no port"; err != nil || servers != nil || len(said) != 1 || !strings.HasSuffix(said[0], want) {
		t.Errorf("%v, %v, %q; want a warning that ends in %s", servers, err, said, want)
	}
	starts, err := os.ReadFile(s.Program() + ".starts")
	if n := strings.Count(string(starts), "\n"); err != nil || n < 2 || n > int(bindWait/restartPause) {
		t.Errorf("started %d times in %v: %v", n, bindWait, err)
	}
	if got := s.content(t); got != "" {
		t.Errorf("left is %q", got)
	}
}

// The one before it may not have released the addresses yet.
func TestServerThatStartsAtTheSecondTry(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if err := os.Mkdir(s.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s.install(t, `mkdir "$0.tried" 2>/dev/null || exit 0; echo address in use >&2; exit 1`)
	r := web
	r.Listen = addrs("127.87.2.1")
	if err := s.publish(r); err != nil && strings.Contains(err.Error(), "address in use") {
		t.Error(err)
	}
}

func TestProcessIsNoOther(t *testing.T) {
	s := newServer(t)
	if err := os.Mkdir(s.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, pid := range []string{"", "x", "-1", "0", "1", strconv.Itoa(os.Getpid()), "4194305"} {
		if err := os.WriteFile(filepath.Join(s.Dir, "aardvark.pid"), []byte(pid), 0o600); err != nil {
			t.Fatal(err)
		}
		if p, err := s.process(); p != nil || err != nil {
			t.Errorf("process %q: %v, %v", pid, p, err)
		}
	}
}

func TestLock(t *testing.T) {
	s := newServer(t)
	path := filepath.Join(s.Dir, "..", "aardvark.lock")
	for range 2 {
		err := s.locked(func() error {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			if st, err := f.Stat(); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("other users can hold the lock: %v, %v", st, err)
			}
			if err := flock.Lock(f, unix.LOCK_SH, 0); !errors.Is(err, flock.ErrHeld) {
				t.Errorf("second lock: %v", err)
			}
			return fs.ErrExist
		})
		if !errors.Is(err, fs.ErrExist) {
			t.Error(err)
		}
	}
}

// Names that can't be looked up, or would spoil the file, are left out.
func TestInvalidNamesAreLeftOut(t *testing.T) {
	var said []string
	s := Server{Warn: func(text string) { said = append(said, text) }}
	r := web
	r.Names = []string{"a b", "Web", "web\xff", "www", "Web", "x\ny 10.87.2.9  db"}
	if got := s.validNames(r); !slices.Equal(got, []string{"Web", "www"}) || len(said) != 3 || !strings.Contains(said[0], `"a b" can't be a DNS name; container c1`) {
		t.Errorf("%q, %q", got, said)
	}
	r.Names, r.Key.ContainerID = []string{"ü b"}, "12345678901.34"
	if got := s.validNames(r); !slices.Equal(got, []string{"12345678901-"}) {
		t.Errorf("%q", got)
	}
}

func TestNetworkOfTheServersOwnFile(t *testing.T) {
	s := newServer(t)
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.Dir, "aardvark.pid")
	if err := os.WriteFile(path, []byte("4194305\nc1 10.87.2.2  web\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(key("aardvark.pid", "c1")); err != nil || s.content(t) == "" {
		t.Errorf("%v; left is %q", err, s.content(t))
	}
	if err := ValidNetwork("aardvark.pid"); !errors.Is(err, model.ErrInvalid) {
		t.Error(err)
	}
}

func TestValidName(t *testing.T) {
	long := strings.Repeat("a", 63)
	for s, valid := range map[string]bool{
		"web": true, "a_b-c.d": true, "84b4c3fc18ef": true, long: true, "ü": true,
		"": false, ".": false, "a.": false, ".a": false, "a..b": false, "a b": false, "a,b": false, "a\nb": false, "a\tb": false, "a\xff": false,
		long + "a": false, strings.Repeat("a.", 150) + "a": false,
	} {
		if got := validName(s); got != valid {
			t.Errorf("%q: %v", s, got)
		}
	}
}

// FuzzSplit looks for a file of which removing a container takes more away
// than its lines.
func FuzzSplit(f *testing.F) {
	f.Add("10.87.2.1\nc1 10.87.2.2  web\nc2 10.87.2.3  db\n", "c1")
	f.Add("", "c1")
	f.Add("c1\nc1\nc1 ", "c1")
	f.Fuzz(func(t *testing.T, file, id string) {
		header, without := split(file, of(key("n", id)))
		again, same := split(header+without, of(key("n", id)))
		if again != header || same != without || !strings.HasPrefix(file, header) || len(header+without) > len(file) {
			t.Errorf("%q: %q and %q, then %q and %q", file, header, without, again, same)
		}
	})
}
