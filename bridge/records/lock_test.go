package records

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"flatnet/bridge/model"

	"golang.org/x/sys/unix"
)

func TestTurns(t *testing.T) {
	d := newDir(t)
	other := model.Key{Network: "flatnet", ContainerID: "c2", IfName: "eth0"}
	turn, err := d.Turn(testKey)
	if err != nil {
		t.Fatal(err)
	}
	free, held, turns := d.Turns([]model.Key{testKey, other})
	if !slices.Equal(free, []model.Key{other}) || !slices.Equal(held, []model.Key{testKey}) {
		t.Errorf("free are %v, held %v", free, held)
	}
	turn.Close()
	turns.Close()
	turns.Close()
	free, _, turns = d.Turns([]model.Key{testKey, other})
	if turns.Close(); len(free) != 2 {
		t.Errorf("then free are %v", free)
	}
}

// ADDs go on together, and a removal alone.
func TestArriveAndAlone(t *testing.T) {
	d := newDir(t)
	n := &model.Network{Name: "flatnet", Bridge: "br"}
	first, err1 := d.Arrive(n)
	second, err2 := d.Arrive(n)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	places := []int64{model.Place("flatnet", ""), model.Place("", "br")}
	alone := func(want error) {
		t.Helper()
		for _, place := range places {
			lock, err := d.Alone(place, 0)
			if lock.Close(); !errors.Is(err, want) {
				t.Errorf("alone: %v, want %v", err, want)
			}
		}
	}
	alone(model.ErrBusy)
	first.Close()
	alone(model.ErrBusy)
	second.Close()
	alone(nil)
}

// Who waits in vain for the second of two locks does not keep the first: the kernel goes on to wait
// for it, and so the file is not closed.
func TestFirstOfTwoLocks(t *testing.T) {
	d := newDir(t)
	network, bridge := model.Place("flatnet", ""), model.Place("", "br")
	other, err := d.Alone(bridge, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := d.lock("an ADD", time.Millisecond, unix.LOCK_EX, network, bridge); !errors.Is(err, model.ErrBusy) {
		t.Errorf("both locks: %v", err)
	}
	first, err := d.Alone(network, 0)
	if first.Close(); err != nil {
		t.Error(err)
	}
}

// Who can't have a lock goes on without one, and is warned of the risk.
func TestNoLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var warnings []string
	d := Dir{filepath.Join(path, "1"), func(text string) { warnings = append(warnings, text) }, false}
	turn, err := d.Turn(testKey)
	free, held, turns := d.Turns([]model.Key{testKey})
	turn.Close()
	turns.Close()
	if err != nil || len(free) != 1 || len(held) != 0 || len(warnings) != 2 {
		t.Errorf("got %v, %v, %v; warnings %q", err, free, held, warnings)
	}
	for _, w := range warnings {
		if !strings.HasPrefix(w, "no lock (continuing; another call for ") || !strings.Contains(w, "may conflict): ") {
			t.Errorf("warning %q", w)
		}
	}
}

// Locks that other users could hold are theirs no longer.
func TestDirectoriesArePrivate(t *testing.T) {
	root := filepath.Join(t.TempDir(), "run")
	var warnings []string
	d := Dir{filepath.Join(root, "1"), func(text string) { warnings = append(warnings, text) }, false}
	for _, dir := range []string{root, d.path} {
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		turn, err := d.Turn(testKey)
		if turn.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(warnings) != 2 || !strings.Contains(warnings[0], root+" was open to other users") {
		t.Errorf("warnings %q", warnings)
	}
	for _, dir := range []string{root, d.path} {
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, st.Mode(), err)
		}
	}
}
