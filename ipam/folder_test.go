package ipam

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"flatnet/bridge"
)

// verbs calls everything that a store does.
func verbs(s *Store) map[string]error {
	_, _, lease := s.Lease(key("c1"), nil, nil)
	_, keys := s.Keys()
	return map[string]error{
		"Lease": lease, "Release": s.Release(key("c1"), nil), "Keys": keys,
		"Check": s.Check(key("c1"), nil), "Free": s.Free(nil),
	}
}

func TestPlacesThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	for _, name := range []string{"outside", "base", "base/fifo"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, dir+"/file", "")
	writeFile(t, dir+"/base/afile", "")
	for _, link := range []string{"link", "base/linked"} {
		if err := os.Symlink(outside, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(dir+"/nowhere", dir+"/dangling"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, dir, network string
		kind               error
		text               string
	}{
		{"link as data directory", dir + "/link", "flatnet", bridge.ErrConflict, dir + "/link is no directory, or a link to one: conflict"},
		{"with a slash", dir + "/link/", "flatnet", bridge.ErrConflict, dir + "/link is no directory, or a link to one: conflict"},
		{"for another network", dir + "/link", "other", bridge.ErrConflict, dir + "/link is no directory, or a link to one: conflict"},
		{"link to nowhere", dir + "/dangling", "flatnet", bridge.ErrConflict, dir + "/dangling is no directory, or a link to one: conflict"},
		{"link as the network's folder", dir + "/base", "linked", bridge.ErrConflict, dir + "/base/linked is no directory, or a link to one: conflict"},
		{"file as data directory", dir + "/file", "flatnet", bridge.ErrConflict, dir + "/file is no directory, or a link to one: conflict"},
		{"file as the network's folder", dir + "/base", "afile", bridge.ErrConflict, dir + "/base/afile is no directory, or a link to one: conflict"},
		{"relative", "ipam", "flatnet", bridge.ErrInvalid, `data directory "ipam" is not an absolute path: invalid`},
		{"none", "", "flatnet", bridge.ErrInvalid, `data directory "" is not an absolute path: invalid`},
		{"network that leads out", dir + "/base", "../outside", bridge.ErrInvalid, ""},
		{"network named as the file", dir + "/base", "allocations.json.tmp", bridge.ErrInvalid, `network name "allocations.json.tmp" is the lease file's: invalid`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := New(Config{Network: tt.network, Dir: tt.dir, Sets: small(t)}, nobody)
			errs := verbs(s)
			_, _, errs["Lease"] = s.Lease(bridge.Key{Network: tt.network, ContainerID: "c1", IfName: "eth0"}, nil, nil)
			for verb, err := range errs {
				text := tt.text
				if tt.kind == bridge.ErrConflict {
					text = fmt.Sprintf("data directory %q (ipam.dataDir): %s", tt.dir, tt.text)
				}
				if !errors.Is(err, tt.kind) || text != "" && err.Error() != text {
					t.Errorf("%s: %v", verb, err)
				}
			}
		})
	}
	if got := files(t, outside); got != "" {
		t.Errorf("made outside: %s", got)
	}
	if err := store(dir+"/file/below", small(t)).Free(nil); !errors.Is(err, bridge.ErrConflict) && !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(dir, target string) error
		text string
	}{
		{"lock is a link", func(dir, target string) error { return os.Symlink(target, dir+"/.lock") },
			"/.lock is a symbolic link, which is not followed: conflict"},
		{"file is a link", func(dir, target string) error { return os.Symlink(target, dir+"/allocations.json") },
			"/allocations.json is a symbolic link, which is not followed: conflict"},
		{"file is a directory", func(dir, _ string) error { return os.Mkdir(dir+"/allocations.json", 0o700) },
			"/allocations.json is not a regular file: conflict"},
		{"file is a FIFO", func(dir, _ string) error { return unix.Mkfifo(dir+"/allocations.json", 0o600) },
			"/allocations.json is not a regular file: conflict"},
		{"lock is a directory", func(dir, _ string) error { return os.Mkdir(dir+"/.lock", 0o700) },
			"/.lock: is a directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			target := filepath.Join(t.TempDir(), "target")
			writeFile(t, target, `{"allocations": {"c9": "10.87.1.9"}}`)
			s := store(t.TempDir(), small(t))
			if err := tt.make(s.cfg.Dir, target); err != nil {
				t.Fatal(err)
			}
			before := files(t, s.cfg.Dir)
			errs := verbs(s)
			if strings.HasPrefix(tt.name, "lock") { // reading needs no lock
				delete(errs, "Keys")
				delete(errs, "Check")
			}
			for verb, err := range errs {
				if err == nil || !strings.HasSuffix(err.Error(), tt.text) {
					t.Errorf("%s: %v", verb, err)
				}
			}
			if got := readFile(t, target); got != `{"allocations": {"c9": "10.87.1.9"}}` {
				t.Errorf("target changed to %s", got)
			}
			if got := strings.TrimPrefix(files(t, s.cfg.Dir), ".lock -rw-------, "); got != before {
				t.Errorf("files %s, before %s", got, before)
			}
		})
	}
}

// What a killed process, or anybody, left under the temporary name goes.
func TestLeftTemporaryFile(t *testing.T) {
	target := filepath.Join(t.TempDir(), "target")
	writeFile(t, target, "precious")
	s := store(t.TempDir(), small(t))
	temp := s.cfg.Dir + "/allocations.json.tmp"
	if err := os.Symlink(target, temp); err != nil {
		t.Fatal(err)
	}
	mustLease(t, s, key("c1"))
	if err := os.WriteFile(temp, []byte("half a fi"), 0o644); err != nil {
		t.Fatal(err)
	}
	mustLease(t, s, key("c2"))
	if got := files(t, s.cfg.Dir); got != ".lock -rw-------, allocations.json -rw-------" || readFile(t, target) != "precious" {
		t.Errorf("files %s", got)
	}
	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	for verb, err := range verbs(s) {
		if reads := verb == "Keys" || verb == "Check"; !reads && (err == nil || !strings.Contains(err.Error(), temp)) {
			t.Errorf("%s: %v", verb, err)
		}
	}
}

func TestTooLargeFileIsSetAside(t *testing.T) {
	s := store(t.TempDir(), small(t))
	writeFile(t, s.cfg.Dir+"/allocations.json", `{"allocations": {}}`)
	if err := os.Truncate(s.cfg.Dir+"/allocations.json", maxFile+1); err != nil { // a hole
		t.Fatal(err)
	}
	if err := s.Check(key("c1"), nil); !errors.Is(err, errBroken) || !strings.HasSuffix(err.Error(), ": 67108865 bytes") {
		t.Errorf("Check: %v", err)
	}
	if got := mustLease(t, s, key("c1")); got != "10.87.1.2" {
		t.Errorf("leased %s", got)
	}
}

// onTmpfs runs f on a thread with a mount namespace of its own and a tmpfs of
// four pages in it. The thread ends with f, and its mounts with it.
func onTmpfs(t *testing.T, f func(t *testing.T, dir string)) {
	dir := t.TempDir()
	t.Run("tmpfs", func(t *testing.T) {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			t.Skipf("NOT TESTED: needs root (CAP_SYS_ADMIN) for a mount namespace of its own: %v", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("flatnet-test", dir, "tmpfs", 0, "size=16k,mode=700"); err != nil {
			t.Fatal(err)
		}
		f(t, dir)
	})
}

func TestFullDisk(t *testing.T) {
	onTmpfs(t, func(t *testing.T, dir string) {
		s := store(dir, small(t))
		mustLease(t, s, key("c1"))
		file, ballast := dir+"/allocations.json", dir+"/ballast"
		before := readFile(t, file)
		if err := os.WriteFile(ballast, make([]byte, 64<<10), 0o600); !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		full := files(t, dir)
		check := func(content string) {
			t.Helper()
			_, _, lease := s.Lease(key("c2"), nil, nil)
			for verb, err := range map[string]error{"Lease": lease, "Release": s.Release(key("c1"), nil), "Free": s.Free(nil)} {
				if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), file+".tmp: ") {
					t.Errorf("%s: %v", verb, err)
				}
			}
			if got := files(t, dir); got != full || readFile(t, file) != content {
				t.Errorf("files %s, content %s", got, readFile(t, file))
			}
		}
		check(before)
		// A broken file is not given up either, as long as no other can be written.
		writeFile(t, file, "broken")
		s.owners = owners(owner(key("c1"), "10.87.1.2"))
		check("broken")
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		if got := mustLease(t, s, key("c2")); got != "10.87.1.3" || readFile(t, file+".broken-1") != "broken" {
			t.Errorf("leased %s", got)
		}
	})
}

func TestReadOnlyFileSystem(t *testing.T) {
	onTmpfs(t, func(t *testing.T, dir string) {
		s := store(dir+"/used", small(t))
		mustLease(t, s, key("c1"))
		if err := os.Mkdir(dir+"/empty", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		if err := s.Check(key("c1"), addrs("10.87.1.2")); err != nil || listed(t, s) != "c1/eth0=10.87.1.2" {
			t.Errorf("Check: %v", err)
		}
		for _, place := range []string{"used", "empty", "missing"} {
			s := store(filepath.Join(dir, place), small(t))
			_, _, lease := s.Lease(key("c2"), nil, nil)
			for verb, err := range map[string]error{"Lease": lease, "Free": s.Free(nil)} {
				if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), s.cfg.Dir) {
					t.Errorf("%s: %s: %v", place, verb, err)
				}
			}
			if err := s.Release(key("c1"), nil); place == "used" != errors.Is(err, unix.EROFS) || place != "used" && err != nil {
				t.Errorf("%s: Release: %v", place, err)
			}
		}
		other := New(Config{Network: "other", Dir: dir, Sets: small(t)}, nobody)
		if err := other.Free(nil); !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), dir+"/other") {
			t.Errorf("new network: %v", err)
		}
	})
}

// The directory's own permissions are its maker's business.
func TestDirectoryKeepsItsMode(t *testing.T) {
	s := store(filepath.Join(t.TempDir(), "ipam"), small(t))
	if err := os.Mkdir(s.cfg.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	mustLease(t, s, key("c1"))
	if info, err := os.Stat(s.cfg.Dir); err != nil || info.Mode() != fs.ModeDir|0o755 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
}
