package ns

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// fresh makes a namespace that lives as long as the test, on a thread that is
// thrown away.
func fresh(t *testing.T) *NS {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("making network namespaces needs root: run the tests as root")
	}
	made := make(chan *NS)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends in its namespace
		defer close(made)
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("unshare: %v", err)
			return
		}
		n, err := Current()
		if err != nil {
			t.Error(err)
			return
		}
		made <- n
	}()
	n := <-made
	if n == nil {
		t.FailNow()
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// here opens the namespace of whatever thread the calling goroutine is on.
func here(t *testing.T) *NS {
	t.Helper()
	n, err := Current()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func TestDoEntersAndComesBack(t *testing.T) {
	n, home := fresh(t), here(t)
	if n.Same(home) {
		t.Fatal("a fresh namespace is said to be the home one")
	}
	err := n.Do(func() error {
		in, err := Current()
		if err != nil {
			return err
		}
		defer in.Close()
		if !in.Same(n) {
			t.Error("the function did not run in the namespace")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !here(t).Same(home) {
		t.Error("the caller was moved")
	}
}

func TestDoReturnsTheError(t *testing.T) {
	want := errors.New("mine")
	if err := fresh(t).Do(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

func TestDoInClosedNamespace(t *testing.T) {
	n := fresh(t)
	n.Close()
	ran := false
	if err := n.Do(func() error { ran = true; return nil }); err == nil || ran {
		t.Errorf("ran %v, error %v", ran, err)
	}
}

// Threads that can't come back must not serve other goroutines: each function
// takes away its own thread's capabilities, so that the way home is refused,
// while many goroutines look where they are.
func TestNoThreadLeaks(t *testing.T) {
	n, home := fresh(t), here(t)
	const lost, watchers = 50, 200
	var all, done sync.WaitGroup
	stop := make(chan struct{})
	for range watchers {
		all.Go(func() {
			for {
				in, err := Current()
				if err != nil {
					t.Error(err)
					return
				}
				same := in.Same(home)
				in.Close()
				if !same {
					t.Error("a goroutine runs in a foreign namespace")
					return
				}
				select {
				case <-stop:
					return
				default:
					runtime.Gosched()
				}
			}
		})
	}
	for range lost {
		done.Go(func() {
			err := n.Do(func() error {
				header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
				var none [2]unix.CapUserData
				return unix.Capset(&header, &none[0])
			})
			if err != nil {
				t.Error(err)
			}
		})
		done.Go(func() {
			if err := n.Do(func() error { return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	close(stop)
	all.Wait()
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	file, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "fifo")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		file:                       ErrNotNetNS,
		fifo:                       ErrNotNetNS,
		dir:                        ErrNotNetNS,
		"/proc/self/ns/mnt":        ErrNotNetNS,
		"/dev/null":                ErrNotNetNS,
		filepath.Join(dir, "none"): fs.ErrNotExist,
		"":                         fs.ErrNotExist,
	} {
		if n, err := Open(path); !errors.Is(err, want) {
			t.Errorf("Open(%q) = %v, %v; want %v", path, n, err, want)
		}
	}
}
