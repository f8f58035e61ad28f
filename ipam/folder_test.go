package ipam

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"flatnet/bridge/model"
)

// verbs calls everything that a store does.
func verbs(s *Store) map[string]error {
	_, lease := s.Lease(key("c1"), nil, noLocals)
	_, released := s.Release([]model.Key{key("c1")}, true)
	_, keys := s.Keys()
	return map[string]error{
		"Lease": lease, "Release": released, "Keys": keys,
		"Check": s.Check(key("c1"), nil), "Free": s.Free(noLocals),
	}
}

func TestPlacesThatAreRefused(t *testing.T) {
	dir := tempDir(t)
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
		{"link as data directory", dir + "/link", "flatnet", model.ErrConflict, dir + "/link is a symbolic link or no directory; name the directory itself"},
		{"with a slash", dir + "/link/", "flatnet", model.ErrConflict, dir + "/link is a symbolic link or no directory; name the directory itself"},
		{"for another network", dir + "/link", "other", model.ErrConflict, dir + "/link is a symbolic link or no directory; name the directory itself"},
		{"link to nowhere", dir + "/dangling", "flatnet", model.ErrConflict, dir + "/dangling is a symbolic link or no directory; name the directory itself"},
		{"link as the network's folder", dir + "/base", "linked", model.ErrConflict, dir + "/base/linked is a symbolic link or no directory; name the directory itself"},
		{"file as data directory", dir + "/file", "flatnet", model.ErrConflict, dir + "/file is a symbolic link or no directory; name the directory itself"},
		{"file as the network's folder", dir + "/base", "afile", model.ErrConflict, dir + "/base/afile is a symbolic link or no directory; name the directory itself"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := New(Config{Network: tt.network, Dir: tt.dir, Sets: small(t)}, nobody)
			errs := verbs(s)
			_, errs["Lease"] = s.Lease(model.Key{Network: tt.network, ContainerID: "c1", IfName: "eth0"}, nil, noLocals)
			for verb, err := range errs {
				text := tt.text
				if tt.kind == model.ErrConflict {
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
	if err := store(dir+"/file/below", small(t)).Free(noLocals); !errors.Is(err, model.ErrConflict) && !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
}

func TestValidNetwork(t *testing.T) {
	for network, text := range map[string]string{
		"flatnet": "", "a.b-c_d": "",
		"../outside": "network name:", "": "network name:", "a/b": "network name:",
		"allocations.json.tmp": `network name "allocations.json.tmp" is the lease file's`,
	} {
		err := ValidNetwork(network)
		if text == "" && err != nil || text != "" && (!errors.Is(err, model.ErrInvalid) || !strings.HasPrefix(err.Error(), text)) {
			t.Errorf("%q: %v", network, err)
		}
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(dir, target string) error
		text string
	}{
		{"lock is a link", func(dir, target string) error { return os.Symlink(target, dir+"/.lock") },
			"/.lock must be a regular file, and no link to one"},
		{"file is a link", func(dir, target string) error { return os.Symlink(target, dir+"/allocations.json") },
			"/allocations.json must be a regular file, and no link to one"},
		{"file is a directory", func(dir, _ string) error { return os.Mkdir(dir+"/allocations.json", 0o700) },
			"/allocations.json must be a regular file, and no link to one"},
		{"file is a FIFO", func(dir, _ string) error { return unix.Mkfifo(dir+"/allocations.json", 0o600) },
			"/allocations.json must be a regular file, and no link to one"},
		{"lock is a directory", func(dir, _ string) error { return os.Mkdir(dir+"/.lock", 0o700) },
			"/.lock must be a regular file, and no link to one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			target := filepath.Join(tempDir(t), "target")
			writeFile(t, target, `{"allocations": {"c9": "10.87.1.9"}}`)
			s := store(tempDir(t), small(t))
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
	target := filepath.Join(tempDir(t), "target")
	writeFile(t, target, "precious")
	s := store(tempDir(t), small(t))
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
	if err := os.MkdirAll(temp+"/full", 0o700); err != nil {
		t.Fatal(err)
	}
	for verb, err := range verbs(s) {
		if reads := verb == "Keys" || verb == "Check"; !reads && (err == nil || !strings.Contains(err.Error(), s.cfg.Dir) || !strings.Contains(err.Error(), filepath.Base(temp))) {
			t.Errorf("%s: %v", verb, err)
		}
	}
}

func TestTooLargeFileIsSetAside(t *testing.T) {
	s := store(tempDir(t), small(t))
	writeFile(t, s.cfg.Dir+"/allocations.json", `{"allocations": {}}`)
	if err := os.Truncate(s.cfg.Dir+"/allocations.json", maxFile+1); err != nil { // a hole
		t.Fatal(err)
	}
	if err := s.Check(key("c1"), nil); !errors.Is(err, errBroken) || !strings.HasSuffix(err.Error(), ": more than 67108864 bytes") {
		t.Errorf("Check: %v", err)
	}
	if got := mustLease(t, s, key("c1")); got != "10.87.1.2" {
		t.Errorf("leased %s", got)
	}
}

// onTmpfs runs f on a thread with a mount namespace of its own and a tmpfs of
// four pages in it. The thread ends with f, and its mounts with it.
func onTmpfs(t *testing.T, f func(t *testing.T, dir string)) {
	dir := tempDir(t)
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
		var warned []string
		s := store(dir, small(t))
		s.cfg.Warn = func(m string) { warned = append(warned, m) }
		mustLease(t, s, key("c1"))
		mustLease(t, s, key("c3"))
		file, ballast := dir+"/allocations.json", dir+"/ballast"
		before := readFile(t, file)
		if err := os.WriteFile(ballast, make([]byte, 64<<10), 0o600); !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		full := files(t, dir)
		check := func(content string) {
			t.Helper()
			_, lease := s.Lease(key("c2"), nil, noLocals)
			for verb, err := range map[string]error{"Lease": lease, "Free": s.Free(noLocals)} {
				if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), file+".tmp: ") {
					t.Errorf("%s: %v", verb, err)
				}
			}
			if got := files(t, dir); got != full || readFile(t, file) != content {
				t.Errorf("files %s, content %s", got, readFile(t, file))
			}
		}
		check(before)
		// What takes less room than before goes over it.
		mustRelease(t, s, key("c1"))
		if got := listed(t, s); got != "c3/eth0=10.87.1.3" || len(warned) != 0 {
			t.Errorf("leases %s, warned %q", got, warned)
		}
		asked := s.owners
		s.owners = func() ([]model.Owner, error) { return nil, errors.New("asked") }
		mustRelease(t, s, key("c9")) // the file is ours as before
		s.owners = asked
		check(readFile(t, file))
		// A broken file is not given up either, as long as no other can be written.
		writeFile(t, file, "broken")
		s.owners = owners(owner(key("c3"), "10.87.1.3"))
		check("broken")
		mustRelease(t, s, key("c3"))
		if got := files(t, dir); got != full || len(warned) != 1 ||
			!strings.HasSuffix(warned[0], "no space left on device (the leases of 1 containers stay until others need their addresses)") {
			t.Errorf("files %s, warned %q", got, warned)
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		if got := mustLease(t, s, key("c2")); got != "10.87.1.2" || readFile(t, file+".broken-1") != "broken" {
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
			_, lease := s.Lease(key("c2"), nil, noLocals)
			for verb, err := range map[string]error{"Lease": lease, "Free": s.Free(noLocals)} {
				if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), s.cfg.Dir) {
					t.Errorf("%s: %s: %v", place, verb, err)
				}
			}
			if _, err := s.Release([]model.Key{key("c1")}, true); place == "used" != errors.Is(err, unix.EROFS) || place != "used" && err != nil {
				t.Errorf("%s: Release: %v", place, err)
			}
		}
		other := New(Config{Network: "other", Dir: dir, Sets: small(t)}, nobody)
		if err := other.Free(noLocals); !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), dir+"/other") {
			t.Errorf("new network: %v", err)
		}
	})
}

// Nobody else may open a folder, and so hold its locks or pretend flights: ours
// are made so, and others are closed to other users.
func TestModesOfDirectories(t *testing.T) {
	for _, tt := range []struct {
		name, network string
		data, folder  os.FileMode // folder 0: there is none yet
		beside        string      // another file in the data directory
		want          string      // modes afterwards, or the error's text
	}{
		{"readable", "flatnet", 0o755, 0, "", "0700"},
		{"readable, with leases", "flatnet", 0o755, 0, "allocations.json.broken-1", "0700"},
		{"everybody's", "flatnet", 0o777, 0, "", "0700"},
		{"everybody's but sticky", "flatnet", 0o777 | os.ModeSticky, 0, "", "1700"},
		{"used for something else", "flatnet", 0o755, 0, "passwd",
			"DIR is open to other users (mode 0755), so they could hold the locks in it, but it is used for passwd as well; run chmod go= on it, or choose another directory"},
		{"used for something else, closed", "flatnet", 0o700, 0, "passwd", "0700"},
		{"another network's", "other", 0o755, 0o755, "passwd", "0755 0700"},
		{"another network's, new", "other", 0o755, 0, "passwd", "0755 0700"},
		{"another network's, in everybody's", "other", 0o777, 0o770, "", "0755 0700"},
		{"another network's, in a sticky one", "other", 0o777 | os.ModeSticky, 0o770, "passwd", "1777 0700"},
		{"another network's, in everybody's that is used for something else", "other", 0o777, 0, "passwd",
			"DIR is open to other users (mode 0777), so they could hold the locks in it, but it is used for passwd as well; run chmod go= on it, or choose another directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := tempDir(t)
			warned := 0
			s := New(Config{Network: tt.network, Dir: dir, Sets: small(t), Warn: func(string) { warned++ }}, nobody)
			if tt.beside != "" {
				writeFile(t, filepath.Join(dir, tt.beside), "")
			}
			if tt.folder != 0 {
				if err := errors.Join(os.Mkdir(dir+"/other", 0o700), os.Chmod(dir+"/other", tt.folder)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(dir, tt.data); err != nil {
				t.Fatal(err)
			}
			k := model.Key{Network: tt.network, ContainerID: "c1", IfName: "eth0"}
			_, err := s.Lease(k, nil, noLocals)
			got := mode(t, dir)
			if tt.network == "other" && err == nil {
				got += " " + mode(t, dir+"/other")
			}
			if err != nil {
				got = strings.ReplaceAll(strings.TrimPrefix(err.Error(), fmt.Sprintf("data directory %q (ipam.dataDir): ", dir)), dir, "DIR")
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if changed := err == nil && (mode(t, dir) != fmt.Sprintf("%04o", unixMode(tt.data)) || tt.folder != 0); changed != (warned > 0) {
				t.Errorf("warned %d times", warned)
			}
			if _, err := s.Release([]model.Key{k}, true); err != nil { // a DEL goes on
				t.Error(err)
			}
		})
	}
}

func mode(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%04o", unixMode(info.Mode()))
}

func unixMode(m os.FileMode) os.FileMode {
	if m&os.ModeSticky != 0 {
		return m.Perm() | 0o1000
	}
	return m.Perm()
}

func TestDirectoryOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: needs root for a directory of another user")
	}
	for _, of := range []string{"", "/other"} {
		dir := tempDir(t)
		s := New(Config{Network: "other", Dir: dir, Sets: small(t)}, nobody)
		if err := errors.Join(os.Mkdir(dir+"/other", 0o700), os.Chown(dir+of, 1234, 0)); err != nil {
			t.Fatal(err)
		}
		_, err := s.Lease(model.Key{Network: "other", ContainerID: "c1", IfName: "eth0"}, nil, noLocals)
		want := fmt.Sprintf("data directory %q (ipam.dataDir): ", dir) + dir + of + " belongs to user 1234, but must belong to root; run chown on it, or choose another directory"
		if !errors.Is(err, model.ErrConflict) || err.Error() != want {
			t.Errorf("%s: %v", of, err)
		}
		if got := files(t, dir); got != "other drwx------" {
			t.Errorf("made %s", got)
		}
	}
}

// A parent may be a symbolic link if only root can change it.
func TestLinksAmongParents(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: needs root for links of another user")
	}
	for _, tt := range []struct {
		name    string
		prepare func(dir string) error // makes dir/link
		path    string                 // below dir
		ok      bool
	}{
		{"root's", func(dir string) error { return os.Symlink(dir+"/real", dir+"/link") }, "link/ipam", true},
		{"root's, further up", func(dir string) error { return os.Symlink(dir+"/real", dir+"/link") }, "link/a/b/ipam", true},
		{"relative", func(dir string) error { return os.Symlink("real", dir+"/link") }, "link/ipam", true},
		{"up", func(dir string) error { return os.Symlink("real/../real", dir+"/link") }, "link/ipam", true},
		{"one after the other", func(dir string) error {
			return errors.Join(os.Symlink("real", dir+"/link2"), os.Symlink("link2", dir+"/link"))
		}, "link/ipam", true},
		{"in a directory that all can write to", func(dir string) error {
			return errors.Join(os.Symlink("real", dir+"/link"), os.Chmod(dir, 0o777))
		}, "link/ipam", false},
		{"in a sticky directory", func(dir string) error {
			return errors.Join(os.Symlink("real", dir+"/link"), os.Chmod(dir, 0o777|os.ModeSticky))
		}, "link/ipam", true},
		{"another user's", func(dir string) error {
			return errors.Join(os.Symlink("real", dir+"/link"), os.Lchown(dir+"/link", 1234, 1234))
		}, "link/ipam", false},
		{"in another user's directory", func(dir string) error {
			return errors.Join(os.Mkdir(dir+"/home", 0o700), os.Symlink("../real", dir+"/home/link"), os.Chown(dir+"/home", 1234, 1234),
				os.Symlink("home/link", dir+"/link"))
		}, "link/ipam", false},
		{"round and round", func(dir string) error { return os.Symlink("link", dir+"/link") }, "link/ipam", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := tempDir(t)
			if err := errors.Join(os.Mkdir(dir+"/real", 0o700), tt.prepare(dir)); err != nil {
				t.Fatal(err)
			}
			s := store(filepath.Join(dir, tt.path), small(t))
			_, err := s.Lease(key("c1"), nil, noLocals)
			if got := files(t, dir+"/real"); (err == nil) != tt.ok || tt.ok != strings.Contains(got, "ipam/allocations.json") || !tt.ok && got != "" {
				t.Errorf("%v, files %s", err, got)
			}
			if !tt.ok && (!strings.Contains(err.Error(), "/link") || !errors.Is(err, model.ErrConflict) && !errors.Is(err, unix.ELOOP)) {
				t.Errorf("got %v", err)
			}
			if tt.ok {
				mustRelease(t, s, key("c1"))
			}
		})
	}
}
